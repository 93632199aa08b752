"""`python -m bench sweep`: which plans it tries, what it prints, what it does without a GPU."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from fractalops.kernels.rbf_rasterize_plan import GATHERS

from bench.__main__ import main
from bench.cuda_timing import Gpu
from bench.rbf_rasterize_work import SHAPES, Picture
from bench.sweep import (
    BLOCKS,
    COLUMNS,
    GATHERED,
    PRECISIONS,
    SIDES,
    WARPS,
    backward,
    forward,
    gathers,
    plans,
    print_sweep,
)
from bench.timing import Spread
from tests.support.tolerances import assert_matches


def test_each_plan_is_tried_once_and_gives_the_image() -> None:
    shape = Picture("small", 2, 33, 20)
    found = list(plans(shape, (8, 0)))
    assert len(set(found)) == len(found)
    tried = {(plan.tile.rows, plan.tile.points, plan.tile.warps, plan.tile.precision, plan.binned) for plan in found}
    # Larger tiles hold the whole image, of which there is nothing to sort.
    sizes = itertools.product(SIDES, BLOCKS, WARPS, PRECISIONS, (False, True))
    assert tried == {(side, *rest, binned) for side, *rest, binned in sizes if side == 16 or not binned}
    run = forward(shape, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    own = run(found[0]).cpu()
    for plan in found[1::25]:
        assert_matches(run(plan).cpu(), own.double())


def test_each_block_of_the_backward_gives_the_gradients() -> None:
    found = list(gathers())
    assert len(set(found)) == len(found) == len(GATHERED) * len(COLUMNS) * len(WARPS)
    assert found[0] == GATHERS[torch.float32]
    run = backward(Picture("small", 2, 33, 20), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    own, _, _ = run(found[0])
    for gather in found[1::12]:
        assert_matches(run(gather)[0].cpu(), own.cpu().double())


def test_the_table_is_ordered_by_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = itertools.count(999, -1)

    def timer(function: object) -> Spread:
        return Spread(0, next(times), 999)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert print_sweep(Gpu("some card", torch.device("cpu"), timer), "") == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert len(tables) == 1 + 2 * len(SHAPES)
    for table in tables[1:]:
        rows = table.splitlines()[2:]
        medians = [int(re.search(r"(\d+) \[0, 999\]", row)[1]) for row in rows]  # type: ignore[index]
        assert medians == sorted(medians)
        # What the table holds is measured first, and so took longest here.
        assert [row.endswith("<-") for row in rows] == [False] * (len(rows) - 1) + [True]


def test_without_a_gpu_it_measures_nothing_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["sweep"]) == 1
    assert capsys.readouterr().out == "sweep: nothing to measure on: torch finds no NVIDIA GPU\n"
