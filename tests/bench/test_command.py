"""Tests of `fractalops bench`: its measurements and files, and its refusals before anything is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fractalops.bench import command, suites
from fractalops.bench.machine import Rates, cores
from fractalops.bench.rows import Figures
from fractalops.bench.suites import BOTH, Case, Contest
from fractalops.bench.timing import CpuClock
from fractalops.cli import main
from tests.bench.rows import TINY
from tests.support.requirements import need_matplotlib

pytestmark = pytest.mark.usefixtures("native", "little")


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the suites by very short contests, and measure no rates."""
    need_matplotlib()
    contest = Contest("render", "render", BOTH, TINY, ("native", "separable"))
    monkeypatch.setattr(suites, "SUITES", {"render": lambda: [contest], "fit_many": lambda: [contest] * 2})
    monkeypatch.setattr(command, "SUITES", suites.SUITES)
    monkeypatch.setattr(command, "missing_gpu", lambda: "no GPU in this test")
    monkeypatch.delenv("FRACTALOPS_BACKEND", raising=False)
    monkeypatch.setattr(command, "cpu_rates", lambda threads: Rates("cpu", threads, 2e10, None))
    monkeypatch.setattr(
        "fractalops.bench.timing.interleaved", lambda calls, rounds: {name: [1.0] * rounds for name in calls}
    )


def test_a_page_and_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "speed.html"
    assert main(["bench", "-o", str(page), "--threads", "1"]) == 0
    figures = Figures.load(page.with_suffix(".json"))
    assert [(row.backend, row.threads, row.rounds) for row in figures.rows] == [
        ("native", 1, 9),
        ("separable", 1, 9),
    ]
    text = page.read_text()
    assert "fractalops, measured" in text
    shown = capsys.readouterr().out
    assert "render  forward and backward  tiny  1 thread  native" in shown
    assert shown.endswith(f"page: {page}\nfigures: {page.with_suffix('.json')}\n")
    before = page.read_bytes()
    assert main(["bench", "-o", str(page)]) == 2
    assert "it already exists (--overwrite replaces it)" in capsys.readouterr().err
    assert page.read_bytes() == before
    options = ["--overwrite", "--quick", "--threads", "1", "--compare", str(page.with_suffix(".json"))]
    assert main(["bench", "render", "-o", str(page), *options]) == 0
    assert "Changes" in page.read_text()
    assert Figures.load(page.with_suffix(".json")).rows[0].rounds == 3


def test_all_cores_by_default(tmp_path: Path) -> None:
    assert main(["bench", "-o", str(tmp_path / "speed.html")]) == 0
    rows = Figures.load(tmp_path / "speed.json").rows
    assert sorted({row.threads for row in rows}) == sorted({1, cores()})


def test_the_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert capsys.readouterr().out == "render    contests: 1\nfit_many  contests: 2  slow: only if named\n"


def foreign(folder: Path) -> list[str]:
    (folder / "old.json").write_text(json.dumps({"rows": []}))
    return ["--compare", str(folder / "old.json")]


REFUSED: list[tuple[Callable[[Path], list[str]], str]] = [
    (lambda folder: ["nonsense"], "SUITE must be one of render, fit_many, got 'nonsense'"),
    (lambda folder: ["--compare", str(folder / "missing.json")], "missing.json: no such file or directory"),
    (foreign, "it contains no figures of fractalops bench"),
    (lambda folder: ["--threads", str(cores() + 1)], f"--threads must be at most {cores()}, the number of cores of"),
    (lambda folder: ["-o", str(folder / "page.txt")], "the suffix of the page must be .html, got '.txt'"),
    (lambda folder: ["-o", str(folder / "no" / "page.html")], "does not exist"),
    (lambda folder: ["--device", "cuda"], "--device cuda can't be measured: no GPU in this test"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_can_not_be_used_is_refused_first(
    options: Callable[[Path], list[str]],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = options(tmp_path)
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("it measured"))
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_what_is_not_measured_on_a_gpu_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "describe", lambda rates: {})
    monkeypatch.setattr(command.Environment, "here", lambda: command.Environment("a processor", "", ""))
    assert main(["bench", "-o", str(tmp_path / "a.html")]) == 0
    assert "GPU, not measured: no GPU in this test\n" in capsys.readouterr().out


def test_a_forced_backend_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRACTALOPS_BACKEND", "reference")
    assert main(["bench", "-o", str(tmp_path / "a.html")]) == 2
    assert "FRACTALOPS_BACKEND must not be set" in capsys.readouterr().err


def test_without_the_extra_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("it measured"))
    assert main(["bench", "-o", str(tmp_path / "a.html")]) == 2
    assert "install it with: pip install 'fractalops[bench]'" in capsys.readouterr().err


def test_what_is_wrong_shows_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.bench.measure.agreement.problem", lambda *_: "disagrees with the reference by 1")
    assert main(["bench", "-o", str(tmp_path / "a.html"), "--threads", "1"]) == 1
    assert all(row.problem for row in Figures.load(tmp_path / "a.json").rows)


def test_an_interruption_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, calls = command.measure, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            assert (tmp_path / "a.json").exists()
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(command, "measure", interrupted)
    assert main(["bench", "render", "fit_many", "-o", str(tmp_path / "a.html"), "--threads", "1"]) == 130
    assert len(Figures.load(tmp_path / "a.json").rows) == 2
    shown = capsys.readouterr()
    assert "the page has only the measurements before the interruption" in shown.out
    assert "fractalops bench: interrupted" in shown.err


def test_the_quick_run_leaves_large_shapes_out() -> None:
    assert isinstance(command.choose_clocks("cpu", [1])[0][0], CpuClock)
    assert len(command.choose(["render", "fit_many", "render"], quick=False)) == 3
    large = Contest("render", "render", BOTH, Case("large", 1, 10**6 + 1, 3, 9), ("native",))
    command.SUITES["render"] = lambda: [large, *suites.SUITES["fit_many"]()]
    assert len(command.choose(["render"], quick=False)) == 3
    assert large not in command.choose(["render"], quick=True)
