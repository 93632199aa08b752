"""Timing on a machine with other work: functions are timed in turn, and medians and percentiles are reported."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, and their 20th and 80th percentiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of values."""
        ordered = sorted(values)
        fifth = math.ceil(0.2 * len(ordered))  # nearest rank, from both ends
        return cls(ordered[fifth - 1], statistics.median(ordered), ordered[-fifth])

    def scaled(self, factor: float) -> Spread:
        """Return the spread of the values, multiplied by a factor above 0."""
        return Spread(self.low * factor, self.median * factor, self.high * factor)

    def inverse(self) -> Spread:
        """Return the spread of the inverse values."""
        return Spread(1 / self.high, 1 / self.median, 1 / self.low)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios by round. If the numbers of rounds differ, divide by the median instead."""
    if len(numerators) != len(denominators):
        denominators = [statistics.median(denominators)] * len(numerators)
    return Spread.of([one / other for one, other in zip(numerators, denominators, strict=True)])


class Clock(AbstractContextManager[object], Protocol):
    """An object that times calls on one device, inside `with clock`."""

    device: str  # "cpu" or "cuda"
    threads: int  # 0 on a GPU
    pinned: str
    copies: int  # recommended number of calls on different inputs for `time`

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        """Return the call in the form to time: a CUDA graph on a GPU if `as_graph`, else the call."""

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Return the seconds of one call for each name and round. The names are timed in turn."""

    def peak_bytes(self, call: Call) -> int | None:
        """Return by how much a call raises the peak of memory, or None if unknown."""


class CpuClock:
    """Wall-clock time on a number of threads, which are pinned to as many cores if possible."""

    device = "cpu"
    copies = 1

    def __init__(self, threads: int) -> None:
        self.threads, self.pinned = threads, ""
        self._set = ExitStack()

    def __enter__(self) -> CpuClock:
        self._set.enter_context(torch_threads(self.threads))
        self.pinned = self._set.enter_context(pinned_cores(self.threads))
        return self

    def __exit__(self, *exception: object) -> None:
        self._set.close()

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        """Return the call unchanged. The CPU has no graphs."""
        return call

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Return the seconds of one call for each name and round."""
        return interleaved({name: each for name, (each, *_) in calls.items()}, rounds)

    def peak_bytes(self, call: Call) -> int | None:
        """Return by how much a call raises the peak of memory, or None if unknown."""
        gc.collect()
        with suppress(AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)  # freed memory that the process keeps would hide growth
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident memory
        except OSError:
            return None
        before = proc_bytes("self/status", "VmHWM")
        call()
        return proc_bytes("self/status", "VmHWM") - before


def interleaved(
    functions: Mapping[str, Call], rounds: int, seconds: float = 0.1, most: float = 20.0
) -> dict[str, list[float]]:
    """Return the seconds of one call for each function and round: the median of the calls in about `seconds` seconds.

    If all rounds would take more than `most` seconds, there are fewer rounds: at least three, or one if a single round
    takes longer than that.
    """
    calls, round_seconds = {}, 0.0
    for name, function in functions.items():
        one = _seconds(function)
        if one < most:  # the first call may compile
            one = _seconds(function)
        calls[name] = min(max(int(seconds / one), 1), 1000)
        round_seconds += calls[name] * one
    if round_seconds * rounds > most:
        rounds = min(rounds, max(1 if round_seconds > most else 3, int(most / round_seconds)))
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(statistics.median(_seconds(function) for _ in range(calls[name])))
    return taken


def _seconds(function: Call) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def proc_bytes(file: str, field: str) -> int:
    """Return a field of a file in /proc, converted from kB to bytes."""
    lines = Path("/proc", file).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch and the native ops on `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `count` busy processes on the cores of this process inside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def pinned_cores(count: int) -> Iterator[str]:
    """Pin all threads of the process to its first `count` cores inside the block.

    Yields the numbers of the cores as text, or an empty string if pinning is not possible. The numbers are those of the
    system. With two hardware threads per core, several numbers can belong to one core.
    """
    before = _affinity()
    everywhere = set().union(*before.values())
    cores = set(sorted(everywhere)[:count])
    _set_affinity(dict.fromkeys(before, cores))
    try:
        held = bool(before) and all(allowed == cores for allowed in _affinity().values())
        yield ", ".join(map(str, sorted(cores))) if held else ""
    finally:
        _set_affinity({thread: before.get(thread, everywhere) for thread in _affinity()})


def _affinity() -> dict[int, set[int]]:
    """Return the cores of each thread, or an empty dictionary if the system is not Linux."""
    found: dict[int, set[int]] = {}
    with suppress(OSError, AttributeError):
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(OSError):  # the thread may have ended
                found[thread] = os.sched_getaffinity(thread)
    return found


def _set_affinity(cores: Mapping[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with suppress(OSError):
            os.sched_setaffinity(thread, allowed)
