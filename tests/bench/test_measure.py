"""The benchmarks measure what they say: what is timed agrees with the reference, and what disagrees gets no figure."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from bench import agreement, baselines, measure, subjects
from bench.cases import GRID, PAPER, PRETRAINING, SWEEPS, Case, sweep
from bench.machine import Environment, copy_rate, describe, free_bytes, multiply_add_rate
from bench.measure import pairs, run
from bench.rows import Rates, Row
from bench.subjects import BACKENDS, BACKWARD, BOTH, COUNTED, FORWARD, OPS
from bench.suites import SLOW, SUITES, Contest
from bench.timing import Call, CpuClock, Spread, interleaved, ratios, torch_threads
from bench.work import exponent, loop_steps, needed_bytes, work

TINY = Case("tiny", sequences=3, points=7, maps=3, side=9)
EAGER = tuple(backend for backend in BACKENDS if backend != "compiled")
ENVIRONMENT = Environment("some processor", "", "")

pytestmark = pytest.mark.usefixtures("native")


class Counter:
    """A clock that calls each call once and says that it took a millisecond."""

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


# What is timed


@pytest.mark.parametrize("backend", EAGER)
@pytest.mark.parametrize("op", OPS)
def test_what_is_timed_agrees_in_float64(op: str, backend: str) -> None:
    assert agreement.error(op, backend, TINY, dtype=torch.float64) < 1e-12


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_the_native_ops_agree_on_every_case_of_the_grid(case: Case) -> None:
    """On as much of it as the reference goes through."""
    for op in ("affine_chain",) if case.name == "long chain" else OPS:
        assert not agreement.problem(op, "native", agreement.within_reach(case).cut(20, 1000))


@pytest.mark.parametrize("op", OPS)
def test_a_case_beyond_the_reference_is_compared_whole(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that a case cut short doesn't show: here in whatever comes after the first three points."""
    monkeypatch.setattr(agreement, "_LONGEST", 3)
    case = replace(TINY, name=f"beyond, {op}")
    assert not agreement.problem(op, "native", case)
    original = OPS[op]["native"]

    def wrong(*arguments: Any) -> Tensor:
        value = original(*arguments)
        long = arguments[0].shape[1] > 3 if op == "rbf_rasterize" else arguments[2].shape[1] > 3
        return value * 1.01 if long and value.dtype == torch.float32 else value

    monkeypatch.setitem(OPS[op], "native", wrong)
    case = replace(case, name=f"wrong beyond, {op}")
    assert "disagrees with the reference by 0.01" in agreement.problem(op, "native", case)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD, BOTH])
def test_a_call_gives_the_gradients_of_all_leaves(direction: str) -> None:
    call = subjects.subject("render", "native", TINY).call(direction)
    value: Any = call()
    if direction == FORWARD:
        assert value.shape == (3, 9, 9)
        assert not value.requires_grad
    else:
        assert [grad.shape for grad in value] == [(3, 2, 2), (3, 2), (3, 2)]
    again: Any = call()
    assert torch.equal(again[0], value[0])


def test_copies_have_inputs_of_their_own() -> None:
    first, second = (subjects.subject("rbf_rasterize", "native", TINY, seed).arguments[0] for seed in (0, 1))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_the_loop_that_numba_compiles_counts_as_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompiled here, as numba need not be there; then one that is wrong."""
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


def test_steps_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(Contest("", "step", "optimisation step", TINY, ("native", "reference", "ops alone")))
    assert not [row.problem for row in rows.values() if row.problem]
    assert rows["native"].milliseconds == Spread(0.1, 0.1, 0.1)  # of one step
    assert (rows["native"].rounds, rows["native"].times) == (3, None)
    assert rows["reference"].times == Spread(1, 1, 1)
    learned = []
    monkeypatch.setattr(
        fractalops, "fit", lambda targets, config, backend: learned.append((targets.shape, config, backend))
    )
    rows = measured(Contest("", "fit", "1 image, default settings", TINY, ("native",)))
    assert set(learned) == {((1, 9, 9), fractalops.FitConfig(), "native")}
    learned.clear()
    rows = measured(Contest("", "fit", "100 images", TINY, ("native",)))
    assert set(learned) == {((100, 9, 9), fractalops.FitConfig.paper(), "native")}
    assert rows["native"].peak_bytes is None
    assert rows["native"].images_per_second == pytest.approx(1e5)


def test_a_wrong_step_gets_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    original = subjects.learning

    def learning(case: Case, backend: str, device: str) -> Any:
        return (loss * (1.01 if backend == "native" else 1) for loss in original(case, backend, device))

    monkeypatch.setattr(subjects, "learning", learning)
    assert agreement.step_problem("native", TINY).startswith("disagrees with the reference by 0.01")


# No figure for what is wrong, or too large


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


def test_no_figure_for_gradients_that_are_missing_or_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad * math.nan

    monkeypatch.setitem(OPS["affine_chain"], "native", lambda *each: Broken.apply(fractalops.affine_chain(*each)))
    case = replace(TINY, name="with a broken backward")
    assert agreement.problem("affine_chain", "native", case).startswith("disagrees with the reference by inf")


def test_what_no_machine_should_be_asked_for_is_left_out() -> None:
    row = measured(Contest("", "rbf_rasterize", BOTH, PRETRAINING, ("dense",)))["dense"]
    assert row.problem.startswith("left out: it would hold about 157 GB")  # two copies
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


def test_each_number_of_threads_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(agreement, "_error", lambda *arguments: asked.append(arguments[-1]) or 0.0)
    for threads in (1, 2):
        with torch_threads(threads):
            assert not agreement.problem("render", "native", TINY)
    assert asked == [1, 2]


def test_memory_that_is_not_there_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "free_bytes", lambda device: 1000)
    rows = measured(Contest("", "render", BOTH, replace(TINY, name="in little memory"), ("native",)))
    assert rows["native"].problem.startswith("left out: it would hold about")
    assert free_bytes("cpu") > 10**8


@pytest.mark.slow
def test_the_compiled_baseline_agrees() -> None:
    rows = measured(Contest("", "render", BOTH, TINY, ("compiled",)))
    assert not rows["compiled"].problem


# The suites


def test_every_contest_has_the_native_op_and_a_name_of_its_own() -> None:
    contests = [contest for make in SUITES.values() for contest in make()]
    assert all(contest.backends[0] == "native" for contest in contests)
    assert len({(contest.suite, str(contest)) for contest in contests}) == len(contests)
    assert set(SLOW) < set(SUITES)
    assert [case.all_points for case in GRID] == [15_000, 10**5, 10**6, 3 * 10**7, 10**7]


def test_the_compiler_takes_its_turn_at_the_papers_shape() -> None:
    compiled = [contest for make in SUITES.values() for contest in make() if "compiled" in contest.backends]
    assert {contest.op for contest in compiled} == {"rbf_rasterize", "render"}
    assert all(contest.case == PAPER and contest.direction == BOTH for contest in compiled)


@pytest.mark.parametrize("variable", SWEEPS)
def test_a_sweep_varies_one_size(variable: str) -> None:
    cases = sweep(variable)
    assert [getattr(case, variable) for case in cases] == list(SWEEPS[variable][1])
    others = {"points", "sequences", "side", "maps", "radius"} - {variable}
    assert all(len({getattr(case, other) for case in cases}) == 1 for other in others)


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
    # Of an op each of its inputs has a graph of its own; points are counted once.
    assert (one.graphs, two.graphs) == ([True] * 4 + [False], [True] * 6)


def test_beside_a_gpu_the_cpu_shows_the_native_ops() -> None:
    cpu, gpu = Counter(), Counter()
    gpu.device = "cuda"  # type: ignore[misc]
    shown = pairs([Contest("", "render", BOTH, TINY, EAGER)], [gpu, cpu])
    assert [(clock.device, contest.backends) for contest, clock in shown] == [("cuda", EAGER), ("cpu", ("native",))]


# Work


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
    # An image's side asks for bytes, not for operations; a window grows to both sides.
    [("points", 1, 1), ("sequences", 1, 1), ("maps", 0, 0), ("side", 0, 0), ("radius", 1.4, 1.9)],
)
def test_operations_of_the_formula_grow_as_stated(variable: str, least: float, most: float) -> None:
    cases = [case for case in sweep(variable) if case.side > 2 * case.radius]
    sizes = [getattr(case, variable) for case in cases]
    grown = exponent(sizes, [work("render", BOTH, case).operations for case in cases])
    assert least - 1e-9 <= grown <= most + 1e-9


# Clocks


def test_rounds_in_turn() -> None:
    calls: list[int] = []
    taken = interleaved({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3, seconds=0)
    assert [len(times) for times in taken.values()] == [3, 3]
    assert calls[-6:] == [1, 2] * 3
    assert Spread.of([5, 1, 4, 2, 3, 6]) == Spread(2, 3.5, 5)
    assert ratios([2, 9, 4], [1, 3, 1]) == Spread(2, 3, 4)
    assert ratios([2, 4, 6], [1, 9, 2, 2]) == Spread(1, 2, 3)  # of unlike rounds by the median
    assert Spread(1, 2, 4).inverse() == Spread(0.25, 0.5, 1)
    assert Spread.of(range(9)) == Spread(1, 4, 7)
    assert Spread.of([3]) == Spread(3, 3, 3)


def test_slow_calls_take_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**6))
    monkeypatch.setattr("bench.timing.time.perf_counter", lambda: next(now))  # every call takes a second
    assert len(interleaved({"slow": int}, 9, most=5)["slow"]) == 5
    assert len(interleaved({"slow": int}, 9, most=1)["slow"]) == 3
    assert len(interleaved({"slow": int}, 2, most=1)["slow"]) == 2
    assert len(interleaved({"slow": int}, 9, most=0.5)["slow"]) == 1


@pytest.mark.usefixtures("restored_threads")
def test_the_cpu_clock_keeps_its_threads_on_cores_and_gives_them_back() -> None:
    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    with CpuClock(1) as clock:
        assert torch.get_num_threads() == 1
        assert os.sched_getaffinity(0) == {min(cores)}
        assert clock.pinned == str(min(cores))
        assert clock.time({"it": [lambda: None]}, 2)["it"] == pytest.approx([0, 0], abs=1e-3)
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (before, cores)


def test_peak_memory_is_what_a_call_holds_at_most() -> None:
    # In a process of its own: the C library keeps what was freed where large blocks were held before. Above 32 MiB, at
    # which it may do so anyway.
    code = """
import torch
from fractalops.bench.timing import CpuClock

def call():
    torch.ones(40 * 10**6, dtype=torch.uint8)
    torch.ones(80 * 10**6, dtype=torch.uint8)

CpuClock(1).peak_bytes(call)  # what a first call loads is not counted
print(CpuClock(1).peak_bytes(call), CpuClock(1).peak_bytes(lambda: None))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    peak, again = (int(number) for number in printed.split())
    assert 79e6 < peak < 85e6
    assert again < 5e6  # an earlier peak is forgotten


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = describe([Rates("cpu", 1, 2e10, None), Rates("cpu", 2, 3e10, 1e11)])
    assert lines["at most, 1 thread"] == "copies 20 GB/s"
    assert lines["at most, 2 threads"] == "copies 30 GB/s, multiply-adds 100 Gop/s"
    assert Environment("a", "b", "c").of("cpu")["device_name"] == "a"
    assert Environment("a", "b", "c").of("cuda")["driver"] == "c"
    assert copy_rate(CpuClock(1), 1 << 20) > 1e6
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert multiply_add_rate(1) is None
