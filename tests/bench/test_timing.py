"""Tests of the CPU's clock (rounds in turn, threads, memory) and of the machine's description."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from bench.machine import Environment, copy_rate, describe, multiply_add_rate
from bench.rows import Rates
from bench.timing import CpuClock, Spread, busy_processes, interleaved, ratios


def test_rounds_in_turn() -> None:
    calls: list[int] = []
    taken = interleaved({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3, seconds=0)
    assert [len(times) for times in taken.values()] == [3, 3]
    assert calls[-6:] == [1, 2] * 3
    assert Spread.of([5, 1, 4, 2, 3, 6]) == Spread(2, 3.5, 5)
    assert ratios([2, 9, 4], [1, 3, 1]) == Spread(2, 3, 4)
    assert ratios([2, 4, 6], [1, 9, 2, 2]) == Spread(1, 2, 3)  # different numbers of rounds: by the median
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
    # In a separate process: the C library keeps freed memory from earlier large blocks. The blocks are above 32 MiB,
    # because up to this size it may always keep the memory.
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
    assert again < 5e6  # the earlier peak is forgotten


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = describe([Rates("cpu", 1, 2e10, None), Rates("cpu", 2, 3e10, 1e11)])
    assert lines["at most, 1 thread"] == "copies 20 GB/s"
    assert lines["at most, 2 threads"] == "copies 30 GB/s, multiply-adds 100 Gop/s"
    assert Environment("a", "b", "c").of("cpu")["device_name"] == "a"
    assert Environment("a", "b", "c").of("cuda")["driver"] == "c"
    assert copy_rate(CpuClock(1), 1 << 20) > 1e6
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert multiply_add_rate(1) is None


def test_busy_processes_end_with_the_block() -> None:
    with busy_processes(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.poll() is not None for process in processes)
