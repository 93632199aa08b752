"""Tests of `fractalops fit` on a data set: files, output, exit codes, and resuming."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from torch import Tensor

from fractalops import FitConfig, FitRun, RankError
from fractalops.fitting.native_steps import NativeSteps
from fractalops.fitting.run_plan import describe_settings
from tests.support.command_line import QUICK, draw, refusal, run
from tests.support.runs import contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with pictures of two classes."""
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        draw(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def command(folder: Path, output: Path) -> list[object]:
    return ["fit", folder, "-o", output, "--device", "cpu", *QUICK]


def fit(folder: Path, output: Path, *options: object) -> int:
    return run(*command(folder, output), *options)


def test_a_folder_becomes_one_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(folder, tmp_path / "out", "--seed", 7) == 0
    learned = FitRun.load(tmp_path / "out")
    assert [(row.name, row.label) for row in learned.rows] == [
        ("cats/1.png", "cats"),
        ("cats/2.png", "cats"),
        ("dogs/1.png", "dogs"),
    ]
    config = learned.result(learned.rows[0]).config
    assert (config.seed, config.maps, config.snapshots) == (7, 3, 0)
    printed = capsys.readouterr()
    errors = learned.minimum_mse
    assert printed.out == (
        f"3 image(s) of {describe_settings(learned[0].size, config)}\n"
        f"3 images learned, minimum MSE: mean {errors.mean():.4f}, median {errors.median():.4f}; "
        f"index.csv and contact.png are in {tmp_path / 'out'}\n"
    )
    assert "3/3" in printed.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    number: int,
    code: int,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(folder, tmp_path / "whole", "--quiet") == 0
    take = NativeSteps.__call__

    def interrupted(*arguments: Any) -> Tensor:
        signal.raise_signal(number)
        return take(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(NativeSteps, "__call__", interrupted)
        line = refusal(capsys, *command(folder, tmp_path / "out"), "--quiet", code=code)
    kept = f"the results so far are saved in {tmp_path / 'out'}"
    assert line == f"interrupted; {kept}; repeat the command to resume"
    assert fit(folder, tmp_path / "out", "--quiet") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_run_is_refused_and_overwritten_where_wanted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(folder, tmp_path / "out", "--quiet") == 0
    line = refusal(capsys, *command(folder, tmp_path / "out"), "--quiet", "--seed", 5)
    assert line.startswith(f"cannot resume in {tmp_path / 'out'}: config.seed was 0, is 5; ")
    assert fit(folder, tmp_path / "out", "--quiet", "--seed", 5, "--overwrite") == 0
    learned = FitRun.load(tmp_path / "out")
    assert learned.result(learned.rows[0]).config.seed == 5


def test_bad_pictures_are_listed_and_skipped_where_wanted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cats" / "3.png").write_text("no picture")
    (folder / "dogs" / "2.png").write_bytes((folder / "dogs" / "1.png").read_bytes()[:40])
    line = refusal(capsys, *command(folder, tmp_path / "out"), "--quiet")
    assert line.startswith("cannot use 2 of 5 images; --skip-bad leaves them out: ")
    assert "3.png" in line
    assert "2.png" in line
    assert not (tmp_path / "out").exists()
    assert fit(folder, tmp_path / "out", "--quiet", "--skip-bad") == 0
    assert len(FitRun.load(tmp_path / "out").rows) == 3
    assert len((tmp_path / "out" / "bad.csv").read_text().splitlines()) == 3


def test_a_missing_rank_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = Mock(side_effect=RankError("rank 2 did not come"))
    monkeypatch.setattr("fractalops.cli.fit_dataset.fit_dataset", fail)
    for rank, told in (("0", ""), ("1", "rank 1: ")):
        monkeypatch.setenv("RANK", rank)
        assert refusal(capsys, *command(folder, tmp_path / "out"), code=1) == f"{told}rank 2 did not come"


def test_options_reach_the_pictures_and_the_settings(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(folder, tmp_path / "small", "--quiet", "--color", "--invert", "--size", 4) == 0
    learned = FitRun.load(tmp_path / "small")
    assert learned.result(learned.rows[0]).best_image.shape == (1, 3, 4, 4)
    options = ("--limit", 2, "--fit-to", 12, "--preset", "paper", "--steps", 2)
    assert fit(folder, tmp_path / "few", "--quiet", *options) == 0
    learned = FitRun.load(tmp_path / "few")
    assert [row.name for row in learned.rows] == ["cats/1.png", "cats/2.png"]
    result = learned.result(learned.rows[0])
    assert result.best_image.shape == (1, 12, 12)
    assert result.config == FitConfig.paper(maps=3, points=20, sequences=2, steps=2)
    assert capfd.readouterr() == ("", "")
