"""Timing on a machine that does other things too: rounds in turn, medians, percentiles."""

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
        fifth = math.ceil(0.2 * len(ordered))  # by the nearest rank, from either end
        return cls(ordered[fifth - 1], statistics.median(ordered), ordered[-fifth])

    def scaled(self, factor: float) -> Spread:
        """Return the spread of the values times a factor above 0."""
        return Spread(self.low * factor, self.median * factor, self.high * factor)

    def inverse(self) -> Spread:
        """Return the spread of the inverse values."""
        return Spread(1 / self.high, 1 / self.median, 1 / self.low)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the ratios round by round; to the median where one of them took fewer rounds."""
    if len(numerators) != len(denominators):
        denominators = [statistics.median(denominators)] * len(numerators)
    return Spread.of([one / other for one, other in zip(numerators, denominators, strict=True)])


class Clock(AbstractContextManager[object], Protocol):
    """Times calls on one device, within `with clock`."""

    device: str  # "cpu" or "cuda"
    threads: int  # 0 on a GPU
    pinned: str
    copies: int  # of a call, each on inputs of its own, that `time` is best given

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        """Return the call as it is to be timed: on a GPU, if asked, as a CUDA graph."""

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Return seconds of one call of each name, round by round, the names in turn."""

    def peak_bytes(self, call: Call) -> int | None:
        """Return by how much a call raises the peak of memory; None where that is not known."""


class CpuClock:
    """Wall-clock time on a number of threads, which are kept on as many cores where that can be done."""

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
        """Return the call as it is: there are no graphs on the CPU."""
        return call

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Return the seconds of one call of each name, round by round."""
        return interleaved({name: each for name, (each, *_) in calls.items()}, rounds)

    def peak_bytes(self, call: Call) -> int | None:
        """Return by how much a call raises the peak of memory, or None."""
        gc.collect()
        with suppress(AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide growth
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
        except OSError:
            return None
        before = proc_bytes("self/status", "VmHWM")
        call()
        return proc_bytes("self/status", "VmHWM") - before


def interleaved(
    functions: Mapping[str, Call], rounds: int, seconds: float = 0.1, most: float = 20.0
) -> dict[str, list[float]]:
    """Return the seconds of one call of each function in each round, the median of `seconds` worth of calls.

    Where all rounds would take more than `most` seconds there are fewer of them: three at least, or one where even a
    single one takes so long.
    """
    calls, round_seconds = {}, 0.0
    for name, function in functions.items():
        one = _seconds(function)
        if one < most:  # a first call may compile something
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
    """Return a field in kB of a file in /proc."""
    lines = Path("/proc", file).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch, and with it the native ops, on `count` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `count` processes that compute all the time, on the cores of this one, within the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def pinned_cores(count: int) -> Iterator[str]:
    """Keep all threads of the process on its first `count` cores; gives their numbers, or nothing where it can't.

    Cores as the system numbers them: with two threads a core, a few may be of one.
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
    """Return the cores of each thread; none elsewhere than on Linux."""
    found: dict[int, set[int]] = {}
    with suppress(OSError, AttributeError):
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(OSError):  # it may have ended since
                found[thread] = os.sched_getaffinity(thread)
    return found


def _set_affinity(cores: Mapping[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with suppress(OSError):
            os.sched_setaffinity(thread, allowed)
