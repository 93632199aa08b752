"""`fractalops fit-points`: what it writes, what it says, its exit codes, and that errors leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops.cli.fit_points import OUTPUT_NAMES
from fractalops.fitting import PointFitResult
from fractalops.io.files import locked_folder
from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
from tests.support.command_line import files, forbid_learning, refusal, run
from tests.support.learning import Interruption
from tests.support.requirements import need_matplotlib

QUICK = ["--steps", "3", "--points", "20", "--maps", "3"]


pytestmark = pytest.mark.usefixtures("small_pictures", "one_thread")


@pytest.fixture(autouse=True)
def few_views_and_a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.cli.fit_points._SIDE", 32)
    monkeypatch.setattr("fractalops.cli.fit_points._FRAMES", 3)
    monkeypatch.setattr("fractalops.fitting.copies._CANDIDATES", 50)


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    save_point_cloud(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


@pytest.mark.parametrize("loss", ["kernel", "chamfer"])
def test_everything_is_written(loss: str, cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_matplotlib()
    assert run("fit-points", cloud, "-o", tmp_path / "out", "--seed", 7, "--loss", loss, *QUICK) == 0
    folder = tmp_path / "out" / "ball"
    assert files(folder) == set(OUTPUT_NAMES)
    with Image.open(folder / "views.png") as picture:
        assert picture.size == (3 * 36 + 4, 2 * 36 + 4)
    with Image.open(folder / "turntable.gif") as animation:
        assert animation.n_frames == 3
    assert len((folder / "loss.csv").read_text().splitlines()) == 1 + 3
    assert read_point_cloud(folder / "learned.ply").shape == (50, 3)

    report = json.loads((folder / "fit.json").read_text())
    assert report["config"]["seed"] == 7
    assert report["config"]["loss"] == loss
    assert (report["points"], report["dimensions"], report["steps"]) == (50, 3, 3)
    assert not report["interrupted"]
    result = PointFitResult.load(folder / "system.safetensors")
    assert result.matrix.shape == (3, 3, 3)
    assert report["chamfer"] == result.chamfer

    printed = capsys.readouterr().out
    assert "Chamfer distance" in printed
    assert str(folder) in printed


def test_two_dimensions_one_point_and_notices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numpy.save(tmp_path / "flat.npy", numpy.random.default_rng(0).normal(size=(30, 2)))
    assert run("fit-points", tmp_path / "flat.npy", "-o", tmp_path, "--quiet", "--no-animation", *QUICK) == 0
    assert capsys.readouterr() == ("", "")
    assert "turntable.gif" not in files(tmp_path / "flat")
    (tmp_path / "one.xyz").write_text("1 2 3 4\n")
    assert run("fit-points", tmp_path / "one.xyz", "-o", tmp_path, *QUICK) == 0
    assert f"{tmp_path / 'one.xyz'}: 4 columns: the first three are used\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "one" / "fit.json").read_text())["halves_chamfer"] is None


def test_results_are_not_overwritten_without_the_option(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit-points", cloud, "-o", tmp_path / "out", "--quiet", *QUICK]
    assert run(*command) == 0
    (tmp_path / "out" / "ball" / "mine.txt").write_text("kept")
    with monkeypatch.context() as patched:
        forbid_learning(patched)
        line = refusal(capsys, *command)
    assert line.startswith("cannot write to")
    assert "--overwrite" in line
    assert run(*command, "--overwrite", "--no-animation") == 0
    assert files(tmp_path / "out" / "ball") >= {"mine.txt", "fit.json"}
    assert "turntable.gif" not in files(tmp_path / "out" / "ball")


def test_a_folder_that_another_run_writes_to_or_of_something_else_is_refused(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_learning(monkeypatch)
    folder = tmp_path / "out" / "ball"
    command = ["fit-points", cloud, "-o", tmp_path / "out", "--quiet", "--overwrite", *QUICK]
    with locked_folder(folder):
        assert refusal(capsys, *command) == f"cannot write to {folder}: another run is writing to it"
    folder.mkdir(parents=True)
    (folder / "views.png").write_text("mine")
    assert refusal(capsys, *command) == f"cannot write to {folder}: there are files already; take another folder"
    assert (folder / "views.png").read_text() == "mine"


def test_ctrl_c_saves_what_was_learned(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fractalops.fitting.points.make_optimizer", Interruption(2).make_optimizer)
    folder = tmp_path / "out" / "ball"
    line = refusal(capsys, "fit-points", cloud, "-o", tmp_path / "out", "--quiet", *QUICK, code=130)
    assert line == f"interrupted; {folder} has what was learned in 2 of 3 steps"
    assert json.loads((folder / "fit.json").read_text())["interrupted"]
    assert len(PointFitResult.load(folder / "system.safetensors").losses) == 2
    assert "views.png" in files(folder)
