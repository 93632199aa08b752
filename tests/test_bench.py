"""The benchmarks measure what they say: baselines agree with the reference, and the comparisons run on tiny shapes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

import fractalops
from bench import agreement, baselines, comparisons, point_counting
from bench.__main__ import main, table
from bench.cases import Case
from bench.comparisons import COMPARISONS, Row, exponent
from bench.subjects import PIPELINES
from bench.timing import Spread, interleaved, ratios

TINY = Case("tiny", sequences=3, points=7, maps=3, side=9)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.usefixtures("native")
def test_pipelines_agree_in_float64(name: str) -> None:
    assert agreement.pipeline_error(name, TINY, torch.float64) < 1e-12


@pytest.mark.parametrize("name", ["raw op", "separable"])
@pytest.mark.usefixtures("native")
def test_single_ops_agree_in_float64(name: str) -> None:
    assert agreement.chain_error(name, TINY, torch.float64) < 1e-12
    assert agreement.rasterizer_error(name, TINY, torch.float64) < 1e-12


@pytest.mark.parametrize(
    ("compare", "rows"),
    [(comparisons.affine_chain, 6), (comparisons.rbf_rasterize, 6), (comparisons.render, 2), (comparisons.step, 1)],
)
@pytest.mark.usefixtures("native", "fast")
def test_comparisons_give_figures(compare, rows: int) -> None:  # type: ignore[no-untyped-def]
    found = list(compare(1, TINY))
    assert len(found) == rows
    assert all(row.measured is not None and row.measured.median > 0 and not row.problem for row in found)


@pytest.mark.usefixtures("native", "fast")
def test_slow_comparisons_on_little() -> None:
    (row,) = comparisons.fit(1, config=fractalops.FitConfig(steps=2, points=20, sequences=2))
    assert row.measured is not None
    assert row.target == "at most 3"
    rows = list(comparisons.large(2, [TINY, Case("more", 1, 30, 3, 9)]))
    assert [row.unit for row in rows] == ["ms", "ms", ""]
    (row,) = comparisons.memory(1, Case("little", 1, 100, 10, 32), TINY)
    assert row.measured is not None
    assert row.measured.median >= 0


@pytest.mark.usefixtures("native", "fast")
def test_no_figure_for_what_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return 1.001 * baselines.separable(*arguments)

    monkeypatch.setitem(PIPELINES, "separable", wrong)
    agreement.pipeline_error.cache_clear()
    dense, separable = comparisons.render(1, TINY)
    agreement.pipeline_error.cache_clear()
    assert dense.measured is not None
    assert separable.measured is None
    assert separable.met is False
    assert "disagrees with the reference by 0.001" in separable.problem
    assert separable.problem in table([dense, separable])


@pytest.mark.usefixtures("native", "fast")
def test_points_against_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop uncompiled, as numba need not be there; then a loop that is wrong, and none."""
    monkeypatch.setattr(point_counting, "by_numba", lambda size: point_counting.by_loop(size, lambda loop: loop))
    rows = list(comparisons.rasterize_points(1, 2, 40, 9))
    assert [row.what.rpartition(", ")[2] for row in rows] == ["binary", "density"] * 2
    assert all(row.ratio and row.ratio.median > 0 and not row.problem for row in rows)
    monkeypatch.setattr(point_counting, "by_numba", lambda size: lambda points, patch, mode: torch.zeros(()))
    assert all(row.problem == "numba differs from the reference" for row in comparisons.rasterize_points(1, 2, 40, 9))


@pytest.mark.usefixtures("native", "fast")
def test_without_numba_there_is_a_figure_and_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for row in comparisons.rasterize_points(1, 2, 40, 9):
        assert row.measured is not None
        assert row.met is None
        assert row.problem.endswith("needs numba; install it with: pip install 'fractalops[bench]'")


def test_targets() -> None:
    fast, slow = Spread(1, 2, 3), Spread(100, 200, 300)
    assert Row("", 1, measured=fast, target="at most 40").met
    assert Row("", 1, measured=slow, target="at most 40").met is False
    assert Row("", 1, measured=fast, baseline=slow, ratio=slow, target="at least 150").met
    assert Row("", 1, measured=fast).met is None
    assert Row("", 1, target="at most 40").met is False


def test_measuring() -> None:
    calls = []
    taken = interleaved({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3, seconds=0)
    assert [len(times) for times in taken.values()] == [3, 3]
    assert calls[-6:] == [1, 2] * 3
    assert Spread.of([5, 1, 4, 2, 3, 6]) == Spread(2, 3.5, 5)
    assert ratios([2, 9, 4], [1, 3, 1]) == Spread(2, 3, 4)
    assert math.isclose(exponent([10, 100, 1000], [3, 30, 300]), 1)


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    row = Row("a figure", 1, measured=Spread(1, 2, 3), target="at most 1")
    monkeypatch.setattr("bench.__main__.describe", lambda: {"processor": "some"})
    monkeypatch.setitem(COMPARISONS, "step", lambda rounds: iter([row]))
    assert main(["step", "--quick", "--json", str(tmp_path / "figures.json")]) == 1
    assert "a figure  1        2 [1, 3] ms  -         -      at most 1  NO" in capsys.readouterr().out
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["rows"][0]["measured"] == {"low": 1, "median": 2, "high": 3}
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "NAME must be one of affine_chain," in capsys.readouterr().err


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call a round, one thread count."""
    monkeypatch.setattr(comparisons, "THREADS", [1])
    monkeypatch.setattr(comparisons, "interleaved", lambda functions, rounds: interleaved(functions, rounds, 0))
