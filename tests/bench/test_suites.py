"""Tests of the contests and sweeps, the work of a case, and its growth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.suites import BACKWARD, BOTH, FORWARD, GRID, PAPER, SLOW, SUITES, SWEEPS, sweep
from bench.work import expected, exponent, growths, held_bytes, work
from tests.bench.rows import on_gpu, swept


def test_every_contest_has_the_native_op_and_a_name_of_its_own() -> None:
    contests = [contest for make in SUITES.values() for contest in make()]
    assert all(contest.backends[0] == "native" for contest in contests)
    assert len({(contest.suite, str(contest)) for contest in contests}) == len(contests)
    assert set(SLOW) < set(SUITES)
    assert [case.all_points for case in GRID] == [15_000, 10**5, 10**6, 3 * 10**7, 10**7]
    compiled = [contest for contest in contests if "compiled" in contest.backends]
    assert {contest.op for contest in compiled} == {"rbf_rasterize", "render"}
    assert all(contest.case == PAPER and contest.direction == BOTH for contest in compiled)


@pytest.mark.parametrize("variable", SWEEPS)
def test_a_sweep_varies_one_size(variable: str) -> None:
    cases = sweep(variable)
    assert [getattr(case, variable) for case in cases] == list(SWEEPS[variable][1])
    others = {"points", "sequences", "side", "maps", "radius"} - {variable}
    assert all(len({getattr(case, other) for case in cases}) == 1 for other in others)


@pytest.mark.parametrize(
    ("op", "direction", "bytes_of_point", "operations_of_point"),
    [
        ("affine_chain", FORWARD, 9, 8),  # an index and a point; four multiply-adds
        ("affine_chain", BACKWARD, 17, 18),  # an index, a point and a gradient; eight multiply-adds, two additions
        ("rbf_rasterize", FORWARD, 8, 90 + 2 * 81),  # 18 exponentials of five operations, a window of 9 x 9
        ("rbf_rasterize", BACKWARD, 16, 90 + 4 * 81 + 54),
    ],
)
def test_work_of_a_point(op: str, direction: str, bytes_of_point: int, operations_of_point: int) -> None:
    one, two = (work(op, direction, replace(PAPER, points=points)) for points in (1, 2))
    assert (two.bytes - one.bytes, two.operations - one.operations) == (50 * bytes_of_point, 50 * operations_of_point)
    assert work(op, BOTH, PAPER) == work(op, FORWARD, PAPER) + work(op, BACKWARD, PAPER)


@pytest.mark.parametrize(
    ("variable", "least", "most"),
    # An image's side changes bytes, but no operations. A window grows in both directions.
    [("points", 1, 1), ("sequences", 1, 1), ("maps", 0, 0), ("side", 0, 0), ("radius", 1.4, 1.9)],
)
def test_operations_of_the_formula_grow_as_stated(variable: str, least: float, most: float) -> None:
    cases = [case for case in sweep(variable) if case.side > 2 * case.radius]
    sizes = [getattr(case, variable) for case in cases]
    grown = exponent(sizes, [work("render", BOTH, case).operations for case in cases])
    assert least - 1e-9 <= grown <= most + 1e-9


def test_the_exponent_of_a_power_is_found() -> None:
    sizes = (3, 10, 100, 1000)
    assert exponent(sizes, [5 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [2.0] * 4) == pytest.approx(0)


def test_expected_exponents() -> None:
    assert expected("sequences", held_bytes) == pytest.approx(1)
    assert expected("maps", held_bytes) == pytest.approx(0)
    assert 0 < expected("points", held_bytes) < 1  # the images do not grow with the points
    assert 1 < expected("side", held_bytes) < 2


def test_growth_is_told_of_whole_sweeps_on_each_device() -> None:
    points = swept("points", 1.25)
    rows = [*points, *map(on_gpu, points), *swept("side", 0.5, peak_bytes=None), *swept("maps", 0)[:-1]]
    found = {(each.variable, each.where): each for each in growths([*rows, *swept("points", 2, backend="dense")])}
    assert list(found) == [("points", "1 thread"), ("side", "1 thread"), ("points", "GPU")]
    assert found["points", "GPU"].time == pytest.approx(1.25)
    assert found["points", "1 thread"].expected_time == pytest.approx(1)
    assert found["points", "1 thread"].memory == pytest.approx(1)
    side = found["side", "1 thread"]
    assert (side.time, side.memory) == (pytest.approx(0.5), None)
    assert side.expected_time == pytest.approx(0)  # the window does not change
    assert 1 < side.expected_moved < 2
