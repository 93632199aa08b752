"""Tests of contests: figures for correct results, and a reason for each missing figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fractalops
from bench import baselines, measure, subjects
from bench.machine import Environment, free_bytes
from bench.measure import pairs, run
from bench.rows import Row
from bench.subjects import OPS
from bench.suites import (
    BACKENDS,
    BESIDE,
    BOTH,
    COUNTED,
    EAGER,
    FORWARD,
    LEARNED,
    PAPER,
    PRETRAINING,
    Contest,
)
from bench.timing import Call, Spread, torch_threads
from bench.work import loop_steps, needed_bytes
from fractalops.backends import STATE
from tests.bench.rows import TINY

ENVIRONMENT = Environment("some processor", "", "")

pytestmark = pytest.mark.usefixtures("native")


class Counter:
    """A clock that makes each call once and reports a millisecond."""

    device, threads, pinned, copies = "cpu", 1, "0", 2

    def __init__(self) -> None:
        self.graphs: list[bool] = []

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        self.graphs.append(as_graph)
        return call

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        for each in calls.values():
            for call in each:
                call()
        return {name: [1e-3] * rounds for name in calls}

    def peak_bytes(self, call: Call) -> int | None:
        return 5


def measured(contest: Contest) -> dict[str, Row]:
    return {row.backend: row for row in run(contest, Counter(), ENVIRONMENT, 3)}


def test_the_loop_that_numba_compiles_counts_as_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is not compiled here, because numba may be missing. A wrong loop is tested afterwards."""
    monkeypatch.setattr(baselines, "by_numba", lambda size: baselines.by_loop(size, lambda loop: loop))
    case = replace(TINY, points=40)
    for drawn in COUNTED:
        rows = measured(Contest("", "rasterize_points", drawn, case, ("native", "numba")))
        assert not [row.problem for row in rows.values() if row.problem]
    monkeypatch.setattr(baselines, "by_numba", lambda size: lambda points, patch, mode: torch.zeros(()))
    rows = measured(Contest("", "rasterize_points", "binary", case, ("native", "numba")))
    assert rows["numba"].problem == "differs from the reference"
    assert rows["native"].milliseconds


def test_without_numba_there_is_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    rows = measured(Contest("", "rasterize_points", "density", TINY, ("native", "numba")))
    assert rows["native"].milliseconds
    assert rows["numba"].milliseconds is None
    assert rows["numba"].problem.endswith("needs numba; install it with: pip install 'fractalops[bench]'")


class Plan:
    """A replacement for finufft's plan that spreads with a bump of one pixel."""

    def __init__(self, kind: int, size: tuple[int, int], sign: int, **options: Any) -> None:
        assert options["nthreads"] == torch.get_num_threads()
        self.size = size

    def setpts(self, x: np.ndarray, y: np.ndarray) -> None:
        self.pixels = [
            ((each / (2 * np.pi) + 0.5) * side).round() for each, side in zip((x, y), self.size, strict=True)
        ]

    def execute(self, strengths: np.ndarray) -> np.ndarray:
        image = np.zeros(self.size, np.complex64)
        np.add.at(image, tuple(each.astype(int) for each in self.pixels), strengths)
        return image


def test_spreading_by_finufft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finufft may be missing, so a replacement is tested, and afterwards one that loses points."""
    contest = Contest("", "spreading", FORWARD, replace(TINY, sequences=1, points=50), ("native", "finufft"))
    monkeypatch.setitem(sys.modules, "finufft", SimpleNamespace(Plan=Plan))
    rows = measured(contest)
    assert not [row.problem for row in rows.values() if row.problem]
    assert rows["finufft"].times == Spread(1, 1, 1)
    monkeypatch.setattr(Plan, "execute", lambda self, strengths: np.ones(self.size, np.complex64))
    assert measured(contest)["finufft"].wrong
    monkeypatch.setitem(sys.modules, "finufft", None)
    rows = measured(contest)
    assert rows["native"].milliseconds
    assert rows["finufft"].problem.endswith("needs finufft; install it with: pip install 'fractalops[bench]'")


def test_a_fit_beside_busy_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    beside, threads = [], []
    monkeypatch.setattr(measure, "busy_processes", lambda count: beside.append(count) or nullcontext())
    monkeypatch.setattr(fractalops, "fit", lambda *_: threads.append(torch.get_num_threads()))
    with torch_threads(2):
        rows = measured(Contest("", "fit", LEARNED + BESIDE, TINY, ("native", "one thread")))
    assert not [row.problem for row in rows.values() if row.problem]
    assert rows["one thread"].times == Spread(1, 1, 1)
    assert (beside, threads) == ([1], [2, 1])
    measured(Contest("", "fit", LEARNED, TINY, ("native",)))
    assert beside == [1, 0]


def test_steps_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(Contest("", "step", "optimization step", TINY, ("native", "reference", "ops alone")))
    assert not [row.problem for row in rows.values() if row.problem]
    assert rows["native"].milliseconds == Spread(0.1, 0.1, 0.1)  # for one step
    assert (rows["native"].rounds, rows["native"].times) == (3, None)
    assert rows["reference"].times == Spread(1, 1, 1)
    learned = []

    def fit(targets: Tensor, config: fractalops.FitConfig) -> None:
        learned.append((targets.shape, config, STATE.scope.backend))

    monkeypatch.setattr(fractalops, "fit", fit)
    rows = measured(Contest("", "fit", "1 image, default settings", TINY, ("native",)))
    assert set(learned) == {((1, 9, 9), fractalops.FitConfig(), "native")}
    learned.clear()
    rows = measured(Contest("", "fit", "100 images", TINY, ("native",)))
    assert set(learned) == {((100, 9, 9), fractalops.FitConfig.paper(), "native")}
    assert rows["native"].peak_bytes is None
    assert rows["native"].images_per_second == pytest.approx(1e5)


def test_no_figure_for_what_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    original = OPS["render"]["separable"]

    def wrong(*arguments: Any) -> Tensor:
        return 1.001 * original(*arguments)

    case = replace(TINY, name="with a wrong baseline")
    monkeypatch.setitem(OPS["render"], "separable", wrong)
    rows = measured(Contest("render", "render", BOTH, case, EAGER))
    assert rows["separable"].problem.startswith("disagrees with the reference by 0.001")
    assert rows["separable"].milliseconds is None
    assert rows["separable"].points_per_second is None
    assert all(rows[backend].milliseconds for backend in EAGER if backend != "separable")


def test_what_no_machine_should_be_asked_for_is_left_out() -> None:
    row = measured(Contest("", "rbf_rasterize", BOTH, PRETRAINING, ("dense",)))["dense"]
    assert row.problem.startswith("left out: it would need about 157 GB")  # two copies
    row = measured(Contest("", "affine_chain", BOTH, PRETRAINING, ("reference",)))["reference"]
    assert row.problem == "left out: a loop of 100,000 steps in Python"
    assert not loop_steps("rbf_rasterize", "dense", PRETRAINING)
    for backend in BACKENDS:
        assert needed_bytes("render", backend, PAPER) < measure.MOST_BYTES


def test_a_backend_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any) -> Tensor:
        raise fractalops.BackendError("affine_chain: backend 'native' can't run: it was not built")

    monkeypatch.setitem(OPS["affine_chain"], "native", missing)
    case = replace(TINY, name="without a library")
    rows = measured(Contest("", "affine_chain", BOTH, case, ("native", "separable")))
    assert rows["native"].problem == "affine_chain: backend 'native' can't run: it was not built"
    assert rows["separable"].milliseconds


def test_what_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> Tensor:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(subjects, "compiled", lambda function: failing)
    case = replace(TINY, name="without a compiler")
    rows = measured(Contest("", "render", BOTH, case, ("native", "compiled")))
    assert (rows["compiled"].problem, rows["compiled"].wrong) == ("failed: no compiler", False)
    assert rows["native"].milliseconds
    monkeypatch.setitem(OPS["render"], "native", failing)
    rows = measured(Contest("", "render", BOTH, replace(case, name="broken"), ("native", "separable")))
    assert (rows["native"].problem, rows["native"].wrong) == ("failed: no compiler", True)
    assert rows["separable"].milliseconds
    assert rows["separable"].times is None  # no other row was timed in turn with it


def test_a_call_that_fails_on_the_clock_loses_its_own_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Counter, call: Call, *, as_graph: bool) -> Call:
        self.graphs.append(as_graph)
        if len(self.graphs) > self.copies:
            raise torch.OutOfMemoryError("too large")
        return call

    monkeypatch.setattr(Counter, "ready", refuse)
    rows = measured(Contest("", "render", BOTH, replace(TINY, name="large"), ("native", "separable")))
    assert rows["native"].milliseconds
    assert rows["separable"].problem == "failed: too large"


def test_memory_that_is_not_there_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "free_bytes", lambda device: 1000)
    rows = measured(Contest("", "render", BOTH, replace(TINY, name="in little memory"), ("native",)))
    assert rows["native"].problem.startswith("left out: it would need about")
    assert free_bytes("cpu") > 10**8


@pytest.mark.slow
def test_the_compiled_baseline_agrees() -> None:
    rows = measured(Contest("", "render", BOTH, TINY, ("compiled",)))
    assert not rows["compiled"].problem


def test_clocks_run_what_is_for_them() -> None:
    one, two = Counter(), Counter()
    two.threads = 2  # type: ignore[misc]
    contests = [
        Contest("", "affine_chain", FORWARD, TINY, ("native", "separable")),
        Contest("", "rasterize_points", "binary", TINY, ("native",), "least"),
        Contest("", "rbf_rasterize", FORWARD, TINY, ("native",), "most"),
    ]
    shown = [(contest.op, clock.threads) for contest, clock in pairs(contests, [one, two])]
    assert shown == [("affine_chain", 1), ("affine_chain", 2), ("rasterize_points", 1), ("rbf_rasterize", 2)]
    for contest, clock in pairs(contests, [one, two]):
        run(contest, clock, ENVIRONMENT, 1)
    # Each copy of an op's inputs has its own graph. Points are counted once, without a graph.
    assert (one.graphs, two.graphs) == ([True] * 4 + [False], [True] * 6)


def test_beside_a_gpu_the_cpu_shows_the_native_ops() -> None:
    cpu, gpu = Counter(), Counter()
    gpu.device = "cuda"  # type: ignore[misc]
    shown = pairs([Contest("", "render", BOTH, TINY, EAGER)], [gpu, cpu])
    assert [(clock.device, contest.backends) for contest, clock in shown] == [("cuda", EAGER), ("cpu", ("native",))]
