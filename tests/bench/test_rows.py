"""Tests of rows: derived values, storage, and changes between two runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rows import Figures, Rates, compare
from bench.suites import PAPER
from bench.timing import Spread
from fractalops.errors import InputError
from tests.bench.rows import DENSE, NATIVE, on_gpu, row, timed


def test_what_follows_from_a_row() -> None:
    assert NATIVE.milliseconds == Spread(1.4, 1.5, 1.6)
    assert NATIVE.nanoseconds_a_point == pytest.approx(100)
    assert NATIVE.points_per_second == pytest.approx(1e7)
    assert NATIVE.images_per_second == pytest.approx(50 / 1.5e-3)
    assert NATIVE.bytes_per_second == pytest.approx(NATIVE.bytes / 1.5e-3)


def test_without_a_figure_nothing_follows() -> None:
    failed = row(PAPER, problem="left out")
    assert failed.points_per_second is failed.nanoseconds_a_point is failed.bytes_per_second is None
    assert row(PAPER, 2500, op="fit").points_per_second is None  # a fit draws its points in every step
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
    assert document["common"]["torch"] == "2.13.0"  # equal in all rows
    assert document["contest"] == ["device", "threads", "pinned", "device_name"]
    contests = text.partition('"rows": [')[2].splitlines()[1:-1]
    assert [line.count("native") + line.count("dense") for line in contests] == [2, 1, 1]
    assert '["native",[1.4,1.5,1.6],3,null,3000000]' in contests[0]
    assert '["dense",[0.333333,0.666667,1.0],3,[190.0,200.0,220.0],3000000]' in contests[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it contains no figures of fractalops bench"),
        ("{", "it contains no figures of fractalops bench"),
        ("[]", "it contains no figures of fractalops bench"),
        ('{"format": 2}', "it contains no figures of fractalops bench"),
        (
            '{"format": 2, "machine": {}, "rates": [], "common": {}, "contest": ["op"], "backend": ["backend"], '
            '"rows": [[["render"], ["native"]]]}',
            "it contains no figures",
        ),
        ('{"format": 1}', "its format is 1, not 2"),
        (b"\xff\xfe\x00", "it contains no figures of fractalops bench"),
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
    # One round has no spread to exceed. Another shape is another measurement.
    assert compare(old, [timed(slower, 3.0)]).moved == []
    found = compare([NATIVE], [replace(slower, points=301)])
    assert (found.moved, found.shared, len(found.only_old), len(found.only_new)) == ([], 0, 1, 1)


def test_what_moved_alike_stays_in_order() -> None:
    old = [replace(NATIVE, case=f"case {i}") for i in range(20)]
    new = [timed(each, 3.0, 3.0, 3.0) for each in old]
    assert [each.new for each in compare(old, new).moved] == new


def test_a_figure_of_only_one_run_is_no_change() -> None:
    """A figure of another processor, or one that is wrong now, is no change either."""
    other = replace(timed(NATIVE, 9.0), device_name="Another processor")
    found = compare([NATIVE, DENSE], [other, replace(timed(DENSE), problem="wrong")])
    assert (found.moved, found.only_old, found.only_new) == ([], sorted(map(str, (NATIVE, DENSE))), [str(other)])
