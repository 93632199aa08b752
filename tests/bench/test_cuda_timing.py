"""Tests of timing on a GPU: the clock's events with a simulated GPU, the loop of multiply-adds, and both on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import cuda_timing, multiply_adds
from bench.cuda_timing import CudaClock, gpu_rates, missing_gpu
from bench.machine import Environment
from bench.measure import run
from bench.subjects import OPS
from bench.suites import BACKENDS, BACKWARD, BOTH, EAGER, FORWARD, Contest
from tests.bench.rows import TINY
from tests.support.requirements import ROOT, skip_or_fail
from tests.support.tolerances import assert_matches


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate a GPU, and return the log of its calls. Two of its events are 2 ms apart."""
    log: list[str] = []

    def note(what: str) -> Callable[..., Any]:
        return lambda *arguments: log.append(what)

    def capture(graph: object, pool: object, stream: object) -> nullcontext[None]:
        log.append("capture")
        return nullcontext()

    def event(enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        return SimpleNamespace(record=note("event"), elapsed_time=lambda end: 2.0)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    standing_in = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda other: nullcontext(),
        "Event": event,
        "CUDAGraph": lambda: SimpleNamespace(replay=note("replay")),
        "graph": capture,
        "graph_pool_handle": lambda: "a pool",
        "synchronize": note("wait"),
        "get_device_properties": lambda: SimpleNamespace(L2_cache_size=50 << 20),
    }
    for name, value in standing_in.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda_timing.torch, "zeros", lambda size, dtype, device: SimpleNamespace(amax=note("read over")))
    return log


def test_calls_take_turns_on_their_inputs_with_the_cache_read_over(log: list[str]) -> None:
    clock = CudaClock(repetitions=3)
    first, second = (lambda: log.append("first")), (lambda: log.append("second"))
    with clock:
        calls = [clock.ready(call, as_graph=False) for call in (first, second)]
        assert log == ["first", "wait", "second", "wait"]
        log.clear()
        taken = clock.time({"it": calls}, 2)
    assert taken == {"it": [2e-3, 2e-3]}
    timed = {name: ["read over", "event", name, "event"] for name in ("first", "second")}
    a_round = [*timed["first"], *timed["second"], *timed["first"], "wait"]
    assert log == [*timed["first"], "wait"] + a_round * 2 + ["wait"]


def test_what_takes_long_is_repeated_less(log: list[str]) -> None:
    with CudaClock(repetitions=20, seconds=3e-3) as clock:  # each call takes 2 ms
        taken = clock.time({"it": [lambda: log.append("call")]}, 9)
    assert len(taken["it"]) == 3
    assert log.count("call") == 1 + 3


def test_a_graph_is_captured_once_and_must_give_what_the_call_gives(log: list[str]) -> None:
    results = iter([torch.ones(2)] * 4 + [torch.ones(2)] * 3 + [torch.tensor([1.0, 1.1])])

    def call() -> tuple[torch.Tensor, None]:
        log.append("call")
        return next(results), None

    with CudaClock(repetitions=2) as clock:
        replay = clock.ready(call, as_graph=True)
        assert log == ["call"] * 3 + ["wait", "capture", "call", "replay", "wait"]
        log.clear()
        clock.time({"it": [replay]}, 1)
        assert log.count("replay") == 1 + 2
        with pytest.raises(AssertionError, match="not close"):
            clock.ready(call, as_graph=True)


def test_without_a_gpu_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert missing_gpu() == "torch finds no NVIDIA GPU"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the GPU in this process")
def test_the_loop_multiplies_and_adds() -> None:
    result = torch.empty(2 * multiply_adds.BLOCK)
    multiply_adds.multiply_adds(result, 5)
    chains = torch.arange(2 * multiply_adds.BLOCK, dtype=torch.float64)[:, None] * 0.001 + torch.arange(8)
    for _ in range(5):
        chains = chains * 0.5 + 1.0
    assert_matches(result, chains.sum(1))


def test_the_loop_compiles_to_fused_multiply_adds_in_registers() -> None:
    """The loop is compiled in its own process, because Triton decides only once whether to interpret kernels."""
    program = r"""if True:
        import re
        import torch
        from triton.runtime import driver
        from bench import multiply_adds as loop
        from tests.support.triton_compilation import NoDevice, inspect
        driver.set_active(NoDevice(86))
        options = {"BLOCK": loop.BLOCK, "num_warps": loop.WARPS, "grid": (2,)}
        made = loop.multiply_adds_kernel.warmup(torch.zeros(2 * loop.BLOCK), 0.5, 1.0, loop.ROUNDS, **options)
        report = inspect(made.asm["cubin"])
        print(made.asm["ptx"].count("fma.rn.f32"), *re.findall(r"(?:STACK|LOCAL):(\d+)", report))
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The loop's, and before it those that make the other chains different from the first.
    assert done.stdout.split() == [str(2 * multiply_adds.CHAINS - 1), "0", "0"]


@pytest.fixture
def gpu() -> CudaClock:
    missing = missing_gpu()
    if missing:
        skip_or_fail("gpu", missing)
    return CudaClock()


@pytest.mark.gpu
def test_what_a_gpu_does_at_most(gpu: CudaClock) -> None:
    rates = gpu_rates()
    assert rates.bytes_per_second
    assert rates.bytes_per_second > 1e10
    assert rates.operations_per_second
    assert rates.operations_per_second > 1e11


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("op", "direction", "backends"),
    [
        *((op, direction, EAGER) for op in OPS for direction in (FORWARD, BACKWARD)),
        *((op, BOTH, BACKENDS) for op in OPS),
        ("step", "optimization step", ("native", "reference", "ops alone")),
        ("fit", "1 image", ("native",)),
        ("rasterize_points", "density, 3 x 3 patches", ("native",)),
    ],
)
def test_every_backend_is_timed_on_a_gpu(op: str, direction: str, backends: tuple[str, ...], gpu: CudaClock) -> None:
    for row in run(Contest("", op, direction, TINY, backends), gpu, Environment.here(), 3):
        assert not row.problem, (row.backend, row.problem)
        assert row.milliseconds
        assert row.milliseconds.median > 0
        assert row.peak_bytes is not None or op == "fit"
