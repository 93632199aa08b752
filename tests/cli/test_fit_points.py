"""Tests of `fractalops fit-points`: files, output, exit codes, and cleanup after errors."""

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


def test_two_dimensions_and_notices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numpy.save(tmp_path / "flat.npy", numpy.random.default_rng(0).normal(size=(30, 2)))
    assert run("fit-points", tmp_path / "flat.npy", "-o", tmp_path, "--quiet", "--no-animation", *QUICK) == 0
    assert capsys.readouterr() == ("", "")
    assert "turntable.gif" not in files(tmp_path / "flat")
    (tmp_path / "three.xyz").write_text("1 2 3 4\n5 6 8 9\n1 0 1 0\n")
    assert run("fit-points", tmp_path / "three.xyz", "-o", tmp_path, *QUICK) == 0
    assert f"{tmp_path / 'three.xyz'}: 4 columns: the first three are used\n" in capsys.readouterr().out


def test_projected_coordinates_keep_their_digits(tmp_path: Path) -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    center = torch.tensor([388_104.0, 3_949_004.0, 305.0], dtype=torch.float64)
    learned = []
    for name, cloud in (("near", points), ("far", points + center)):
        save_point_cloud(cloud, tmp_path / f"{name}.xyz")
        assert run("fit-points", tmp_path / f"{name}.xyz", "-o", tmp_path, "--quiet", *QUICK) == 0
        learned.append(read_point_cloud(tmp_path / name / "learned.ply"))
    torch.testing.assert_close(learned[1] - center, learned[0], rtol=0, atol=1e-5)
    for name in ("views.png", "fractal.png"):
        near, far = (numpy.asarray(Image.open(tmp_path / folder / name), dtype=float) for folder in ("near", "far"))
        assert abs(near - far).max() <= 2


def test_points_that_are_not_finite_are_dropped_only_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "holes.xyz").write_text("1 2 3\nnan nan nan\n5 6 8\n1 0 1\n")
    command = ["fit-points", tmp_path / "holes.xyz", "-o", tmp_path, *QUICK]
    found = "1 of 4 with NaN or infinite coordinates (number 2)"
    reason = f"points must be finite, got {found}; --drop-bad leaves them out"
    assert refusal(capsys, *command) == f"cannot use {tmp_path / 'holes.xyz'}: {reason}"
    assert run(*command, "--drop-bad") == 0
    assert f"{tmp_path / 'holes.xyz'}: points are left out: {found}\n" in capsys.readouterr().out
    report = json.loads((tmp_path / "holes" / "fit.json").read_text())
    assert (report["points"], report["notices"]) == (3, [f"points are left out: {found}"])


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1 2 3\n", "one point"),
        ("1 2 3\n" * 9, "9 points that coincide"),
        ("1 2 3\n4 5 6\n7 8 9\n", "3 points on a line"),
    ],
)
def test_degenerate_clouds_are_refused_at_once(
    text: str, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_learning(monkeypatch)
    path = tmp_path / "cloud.xyz"
    path.write_text(text)
    reason = f"its points must span a plane or space, got {got}"
    assert refusal(capsys, "fit-points", path, "-o", tmp_path) == f"cannot use {path}: {reason}"
    assert list(tmp_path.iterdir()) == [path]


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
    assert refusal(capsys, *command) == f"cannot write to {folder}: it already contains files; use another folder"
    assert (folder / "views.png").read_text() == "mine"


def test_ctrl_c_saves_what_was_learned(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fractalops.fitting.points.make_optimizer", Interruption(2).make_optimizer)
    folder = tmp_path / "out" / "ball"
    line = refusal(capsys, "fit-points", cloud, "-o", tmp_path / "out", "--quiet", *QUICK, code=130)
    assert line == f"interrupted; the system after 2 of 3 steps is saved in {folder}"
    assert json.loads((folder / "fit.json").read_text())["interrupted"]
    assert len(PointFitResult.load(folder / "system.safetensors").losses) == 2
    assert "views.png" in files(folder)
