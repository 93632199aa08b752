"""Tests of how one large image is split over threads, by instruction counts: clouds, figures, and the program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from bench import instructions, threads
from bench.threads import CLOUDS, Cost, Split, make_cloud, split
from tests.support.requirements import skip_or_fail

pytestmark = pytest.mark.usefixtures("native")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem = instructions.find_problem()
    if problem:
        skip_or_fail("valgrind", problem)
    return instructions.compile_program(tmp_path_factory.mktemp("threads"), threads.SOURCE)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_fills_its_image(name: str) -> None:
    points = make_cloud(name, 5000, 64)
    assert points.shape == (5000, 2)
    assert points.dtype == torch.float32
    assert points.amin(0).tolist() == pytest.approx([0, 0], abs=0.1)
    assert points.amax(0).tolist() == pytest.approx([63, 63], abs=0.1)


def test_figures_of_a_split() -> None:
    each = Split(10, (30.0, 20.0, 10.0), strips=4, points=7, threads=3)
    assert (each.slowest, each.mean) == (40, 30)


def test_a_split_is_even_and_complete(program: Path, tmp_path: Path) -> None:
    points, side, cost = 200_000, 128, Cost(of_point=250, of_row=100)
    (tmp_path / "cloud").write_bytes(make_cloud("uniform", points, side).numpy().tobytes())
    one, four = (split(program, tmp_path / "cloud", points, side, count, cost) for count in (1, 4))
    assert (one.points, one.strips, len(four.drawing)) == (points, 1, 4)
    assert one.slowest == pytest.approx(points * 250 + side * 100, rel=0.01)
    assert four.points > points
    assert four.slowest < 1.1 * four.mean
    assert 3 * four.slowest < one.slowest * 1.4


@pytest.mark.parametrize("arguments", [[], ["no file", "10", "10", "1.0", "2"], ["no file", "10", "10", "0", "2"]])
def test_the_program_refuses_what_it_can_not_use(arguments: list[str], program: Path) -> None:
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "arguments: FILE" in done.stderr or "must have 10 points" in done.stderr


def test_where_nothing_can_be_counted_the_command_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert threads.main([]) == 2
    assert capsys.readouterr().err.startswith("threads: counting requires")
