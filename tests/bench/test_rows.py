"""Rows of the benchmarks: what follows from them, how they are kept, what moved between two runs, growth, promises."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases import PAPER, SWEEPS, sweep
from bench.promises import TARGETS, promises
from bench.report import summary
from bench.rows import Figures, Rates, Row, compare
from bench.table import exponent_text, number, spread_text
from bench.timing import Spread
from bench.work import expected, exponent, growths, held_bytes
from fractalops.errors import InputError
from tests.bench.rows import on_gpu, row, timed

NATIVE = row(PAPER, 1.5, 1.4, 1.6)
DENSE = row(PAPER, 300, 308, 304, backend="dense", times=Spread(190, 200, 220))
BOTH = "forward and backward"


def test_what_follows_from_a_row() -> None:
    assert NATIVE.milliseconds == Spread(1.4, 1.5, 1.6)
    assert NATIVE.nanoseconds_a_point == pytest.approx(100)
    assert NATIVE.points_per_second == pytest.approx(1e7)
    assert NATIVE.images_per_second == pytest.approx(50 / 1.5e-3)
    assert NATIVE.bytes_per_second == pytest.approx(NATIVE.bytes / 1.5e-3)


def test_without_a_figure_nothing_follows() -> None:
    failed = row(PAPER, problem="left out")
    assert (
        failed.milliseconds is failed.points_per_second is failed.nanoseconds_a_point is failed.bytes_per_second is None
    )
    assert row(PAPER, 2500, op="fit").points_per_second is None  # it draws them in every step
    assert row(PAPER, 1, op="affine_chain", images=0).images_per_second is None


def test_the_share_of_the_roof_is_by_what_takes_longer() -> None:
    moved = replace(NATIVE, bytes=3000, operations=600, milliseconds=Spread(1, 1, 1))
    assert Rates("cpu", 1, 6e6, 6e6).share(moved) == pytest.approx(0.5)
    assert Rates("cpu", 1, 6e7, 6e6).share(moved) == pytest.approx(0.1)
    assert Rates("cpu", 1, None, 6e6).share(moved) == pytest.approx(0.1)
    assert Rates("cpu", 1, None, None).share(moved) is None
    assert Rates("cpu", 1, 6e6, 6e6).share(replace(moved, bytes=0, operations=0)) is None
    assert Rates("cpu", 1, 6e6, 6e6).share(replace(moved, milliseconds=None)) is None


def test_a_row_in_words() -> None:
    assert str(NATIVE) == "render, forward, paper, native, A processor, 1 thread"
    assert str(replace(DENSE, threads=2)) == "render, forward, paper, dense, A processor, 2 threads"
    assert str(on_gpu(NATIVE)) == "render, forward, paper, native, A GPU"
    assert [each.where for each in (NATIVE, replace(NATIVE, threads=2), on_gpu(NATIVE))] == [
        "1 thread",
        "2 threads",
        "GPU",
    ]


def test_figures_come_back_as_they_were_saved(tmp_path: Path) -> None:
    rows = (NATIVE, on_gpu(DENSE), row(PAPER, problem="left out", peak_bytes=None), DENSE, replace(DENSE, wrong=True))
    figures = Figures(rows, (Rates("cpu", 1, 1.5e10, None), Rates("cuda", 0, None, 1e13)), {"date": "2026-11-26"})
    for each in (figures, Figures((), (), {})):
        each.save(tmp_path / "figures.json")
        assert Figures.load(tmp_path / "figures.json") == each


def test_a_file_has_a_line_for_each_contest_and_short_numbers() -> None:
    third = replace(DENSE, milliseconds=Spread(1 / 3, 2 / 3, 1))
    text = Figures((NATIVE, third, replace(NATIVE, threads=2), on_gpu(third)), (), {}).text()
    document = json.loads(text)
    assert document["common"]["torch"] == "2.13.0"  # the same in all
    assert document["contest"] == ["device", "threads", "pinned", "device_name"]
    contests = text.partition('"rows": [')[2].splitlines()[1:-1]
    assert [line.count("native") + line.count("dense") for line in contests] == [2, 1, 1]
    assert '["native",[1.4,1.5,1.6],3,null,3000000]' in contests[0]
    assert '["dense",[0.333333,0.666667,1.0],3,[190.0,200.0,220.0],3000000]' in contests[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no figures of fractalops bench"),
        ("{", "it holds no figures of fractalops bench"),
        ("[]", "it holds no figures of fractalops bench"),
        ('{"format": 2}', "it holds no figures of fractalops bench"),
        (
            '{"format": 2, "machine": {}, "rates": [], "common": {}, "contest": ["op"], "backend": ["backend"], '
            '"rows": [[["render"], ["native"]]]}',
            "it holds no figures",
        ),
        ('{"format": 1}', "it is of format 1, not 2"),
        (b"\xff\xfe\x00", "it holds no figures of fractalops bench"),
    ],
)
def test_what_holds_no_figures_is_an_error_of_one_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        Figures.load(path)
    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_moved_beyond_both_spreads() -> None:
    old = [NATIVE, DENSE, on_gpu(NATIVE)]
    slower, overlapping = timed(NATIVE, 3.0, 2.8, 3.1), timed(DENSE, 307, 320, 330)
    faster = timed(on_gpu(NATIVE), 0.001, 0.001, 0.001)
    found = compare(old, [faster, slower, overlapping])
    assert [(each.new, each.factor) for each in found.moved] == [(slower, 2.0), (faster, pytest.approx(1 / 15))]
    assert (found.shared, found.only_old, found.only_new) == (3, [], [])
    # Of one round there is no spread to be beyond; and another shape is another measurement.
    assert compare(old, [timed(slower, 3.0)]).moved == []
    found = compare([NATIVE], [replace(slower, points=301)])
    assert (found.moved, found.shared, len(found.only_old), len(found.only_new)) == ([], 0, 1, 1)


def test_what_moved_alike_stays_in_order() -> None:
    old = [replace(NATIVE, case=f"case {i}") for i in range(20)]
    new = [timed(each, 3.0, 3.0, 3.0) for each in old]
    assert [each.new for each in compare(old, new).moved] == new


def test_a_figure_of_only_one_run_is_no_change() -> None:
    """Nor is one of another processor, nor one that now is wrong."""
    other = replace(timed(NATIVE, 9.0), device_name="Another processor")
    found = compare([NATIVE, DENSE], [other, replace(timed(DENSE), problem="wrong")])
    assert (found.moved, found.only_old, found.only_new) == ([], sorted(map(str, (NATIVE, DENSE))), [str(other)])


def test_the_exponent_of_a_power_is_found() -> None:
    sizes = (3, 10, 100, 1000)
    assert exponent(sizes, [5 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [2.0] * 4) == pytest.approx(0)


def test_expected_exponents() -> None:
    assert expected("sequences", held_bytes) == pytest.approx(1)
    assert expected("maps", held_bytes) == pytest.approx(0)
    assert 0 < expected("points", held_bytes) < 1  # the images don't grow with them
    assert 1 < expected("side", held_bytes) < 2


def swept(variable: str, power: float, **fields: object) -> list[Row]:
    """Rows of a sweep, of which time and memory grow so."""
    sizes = SWEEPS[variable][1]
    return [
        row(case, size**power, direction=BOTH, suite="scaling", **{"peak_bytes": 1000 * size, **fields})
        for size, case in zip(sizes, sweep(variable), strict=True)
    ]


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
    assert side.expected_time == pytest.approx(0)  # the window stays as it is
    assert 1 < side.expected_moved < 2


def test_promises_are_judged_by_the_median() -> None:
    render = replace(NATIVE, direction=BOTH)
    separable = replace(render, backend="separable", times=Spread(20, 21, 22))
    rows = [render, replace(DENSE, direction=BOTH), separable]
    states = {each.target.against: (each.where, each.state) for each in promises(rows)}
    assert states == {
        "dense": ("1 thread", "kept"),
        "separable": ("1 thread", "NOT kept"),
        "compiled": ("1 thread", "not measured"),
        **dict.fromkeys(("", "ops alone", "numba"), ("", "not measured")),
    }
    assert [each.target for each in promises([])] == list(TARGETS)


def test_promises_in_their_own_units() -> None:
    rows = [
        row(PAPER, 0.5, 0.6, 0.7, op="rbf_rasterize"),  # 40 ns a point
        row(PAPER, 0.1, op="rbf_rasterize", threads=2),  # of one thread alone is promised
        row(PAPER, 2900, op="fit", direction="1 image"),
        row(PAPER, 5.1, op="step", direction="optimisation step"),
        row(PAPER, 2, op="step", direction="optimisation step", backend="ops alone", times=Spread(0.3, 1 / 2.55, 0.5)),
        on_gpu(row(PAPER, 9, op="step", direction="optimisation step")),
    ]
    found = {each.target.unit: (each.found.median, each.state) for each in promises(rows) if each.found}
    assert found == {
        "ns a point": (pytest.approx(40), "kept"),
        "s": (pytest.approx(2.9), "kept"),
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.5, "1.50"),
        (0.012345, "0.0123"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345.6, "12,300"),
        (-2, "-2.00"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_spreads_in_words() -> None:
    assert spread_text(Spread(1.4, 1.5, 1.6)) == "1.50 [1.40, 1.60]"
    assert spread_text(Spread(12, 12, 12)) == "12.0"
    assert [exponent_text(each) for each in (1.005, -1e-17, -0.5)] == ["1.00", "0.00", "-0.50"]


def test_the_summary_for_the_terminal() -> None:
    render = replace(NATIVE, direction=BOTH)
    failed = replace(timed(render), backend="compiled", problem="left out: it would hold about 9 GB")
    slow = replace(timed(render, 3.0), backend="separable", times=Spread(2, 2, 2))
    rows = (render, replace(DENSE, direction=BOTH), failed, slow, *swept("points", 1.25))
    text = summary(Figures(rows, (), {}))
    assert "1.50 [1.40, 1.60]" in text
    assert "200 [190, 220]" in text
    assert "left out: it would hold about 9 GB" in text
    assert "1.25 (1.00)" in text
    assert "NOT kept" in text
    assert "at least 150" in text
    assert "points 300" not in text  # a point of a curve
    assert summary(Figures((), (), {})) == ""
