"""Tests of the promises: which rows are judged, in which unit, and which cannot be judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.promises import TARGETS, promises
from bench.rows import Row
from bench.suites import BOTH, PAPER
from bench.timing import Spread
from tests.bench.rows import DENSE, NATIVE, on_gpu, row, timed


def test_promises_are_judged_by_the_median() -> None:
    render = replace(NATIVE, direction=BOTH)
    separable = replace(render, backend="separable", times=Spread(20, 21, 22))
    rows = [render, replace(DENSE, direction=BOTH), separable]
    states = {each.target.against: (each.where, each.state) for each in promises(rows)}
    assert states == {
        "dense": ("1 thread", "kept"),
        "separable": ("1 thread", "NOT kept"),
        "compiled": ("1 thread", "not measured"),
        **dict.fromkeys(("", "ops alone", "numba", "python", "finufft", "one thread"), ("", "not measured")),
    }
    assert [each.target for each in promises([])] == list(TARGETS)


def test_promises_in_their_own_units() -> None:
    rows = [
        row(PAPER, 0.5, 0.6, 0.7, op="rbf_rasterize"),  # 40 ns a point
        row(PAPER, 0.1, op="rbf_rasterize", threads=2),  # the promise is about one thread only
        row(PAPER, 1900, op="fit", direction="1 image"),
        row(PAPER, 5.1, op="step", direction="optimization step"),
        row(PAPER, 2, op="step", direction="optimization step", backend="ops alone", times=Spread(0.3, 1 / 2.55, 0.5)),
        on_gpu(row(PAPER, 9, op="step", direction="optimization step")),
    ]
    found = {each.target.unit: (each.found.median, each.state) for each in promises(rows) if each.found}
    assert found == {
        "ns a point": (pytest.approx(40), "kept"),
        "s": (pytest.approx(1.9), "kept"),
        "times the time of": (pytest.approx(2.55), "NOT kept"),
    }


def test_what_cannot_be_judged_is_not_broken() -> None:
    large = row(replace(PAPER, name="high resolution"), 100, direction=BOTH)
    assert judged(replace(large, peak_bytes=99 * 10**6)) == [("kept", "")]
    assert judged(replace(large, peak_bytes=None)) == [("not measured", "")]
    drawn = row(replace(PAPER, name="pre-training"), 1, op="rasterize_points", direction="binary")
    missing = replace(timed(drawn), backend="numba", problem="needs numba; install it with: pip")
    assert judged(drawn, missing) == [("not measured", missing.problem)]
    wrong = replace(timed(drawn), problem="differs from the reference", wrong=True)
    assert judged(wrong, replace(timed(missing, 2.0), problem="")) == [("NOT kept", wrong.problem)]


def judged(*rows: Row) -> list[tuple[str, str]]:
    return [(each.state, each.problem) for each in promises(rows) if each.where]
