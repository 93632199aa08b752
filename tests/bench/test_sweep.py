"""Tests of the tools of `python -m bench`, mainly `sweep`: its plans and its output, also without a GPU."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from bench.__main__ import TOOLS, main
from bench.records import parse
from bench.suites import Case
from bench.sweep import (
    BLOCKS,
    COLUMNS,
    GATHERED,
    PRECISIONS,
    SHAPES,
    SIDES,
    WARPS,
    Sweep,
    backward,
    chain,
    forward,
    gathers,
    plans,
    sweeps,
    table,
)
from bench.timing import Spread
from fractalops.kernels.rbf_rasterize_plan import GATHERS
from tests.support.tolerances import assert_matches

SMALL = Case("small", sequences=2, points=33, maps=1, side=20)


def test_each_plan_is_tried_once_and_gives_the_image() -> None:
    found = list(plans(SMALL, (8, 0)))
    assert len(set(found)) == len(found)
    tried = {(plan.tile.rows, plan.tile.points, plan.tile.warps, plan.tile.precision, plan.binned) for plan in found}
    # Larger tiles contain the whole image, so there is nothing to sort.
    sizes = itertools.product(SIDES, BLOCKS, WARPS, PRECISIONS, (False, True))
    assert tried == {(side, *rest, binned) for side, *rest, binned in sizes if side == 16 or not binned}
    run = forward(SMALL, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    own = run(found[0]).cpu()
    for plan in found[1::25]:
        assert_matches(run(plan).cpu(), own.double())


def test_each_block_of_the_backward_gives_the_gradients() -> None:
    found = list(gathers())
    assert len(set(found)) == len(found) == len(GATHERED) * len(COLUMNS) * len(WARPS)
    assert found[0] == GATHERS[torch.float32]
    run = backward(SMALL, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    own, _, _ = run(found[0])
    for gather in found[1::12]:
        assert_matches(run(gather)[0].cpu(), own.cpu().double())


def test_each_form_of_the_chain_is_a_choice() -> None:
    run_forward, run_backward = chain(SMALL, torch.device("cpu"))
    assert run_forward(0).shape == (SMALL.sequences, SMALL.points, 2)
    assert [each.shape for each in run_backward(0)] == [(1, 2, 2), (1, 2), (SMALL.sequences, 2)]
    with pytest.raises(RuntimeError, match="form must be 0 on the CPU, got 1"):
        run_forward(1)


@pytest.mark.usefixtures("native")
def test_the_tables_are_ordered_by_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.sweep.CHAIN_SHAPES", (SMALL,))

    def timer(times: Iterator[int], function: object) -> Spread:
        return Spread(0, next(times), 999)

    found = list(sweeps(torch.device("cpu"), (8, 9)))
    assert len(found) == 2 * len(SHAPES) + 2
    for sweep in found:
        times = itertools.count(999, -1)
        title, _, *rows = table(sweep, partial(timer, times), records=True).splitlines()
        medians = [float(re.search(r"([\d.]+) \[0, 999\]", row)[1]) for row in rows]  # type: ignore[index]
        assert medians == sorted(medians)
        # The current choice is measured first, so it takes longest here.
        assert [row.endswith("<-") for row in rows] == [False] * (len(rows) - 1) + [True]
        records = [parse(line) for line in capsys.readouterr().out.splitlines()]
        assert {record["sweep"] for record in records if record} == {title}
        assert sorted(record["microseconds"] for record in records if record) == medians


def test_a_choice_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def timer(function: Callable[[], object]) -> Spread:
        function()
        return Spread(1, 2, 3)

    def run(form: object) -> None:
        if form == 1:
            raise RuntimeError("out of resource: shared memory\nand more")

    lines = table(Sweep("title", "form", run, [0, 1, 2]), timer, records=True).splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["chosen by the op", "scan", "one lane per sequence"]
    assert lines[-1].rstrip().endswith("failed: out of resource: shared memory")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_without_a_gpu_it_measures_nothing_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["sweep"]) == 1
    assert capsys.readouterr().out == "sweep: no GPU can be measured: torch finds no NVIDIA GPU\n"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_takes_its_own_options_only(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([tool, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m bench {tool} ")
    with pytest.raises(SystemExit):
        main([tool, "step"])
    assert "unrecognized arguments: step" in capsys.readouterr().err
