"""Timing on a machine that does other things too: rounds in turn, medians, percentiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, and their 20th and 80th percentiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(ordered[round(0.2 * last)], statistics.median(ordered), ordered[round(0.8 * last)])

    def scaled(self, factor: float) -> Spread:
        return Spread(self.low * factor, self.median * factor, self.high * factor)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Of measurements that were taken in the same rounds."""
    return Spread.of([one / other for one, other in zip(numerators, denominators, strict=True)])


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, seconds: float = 0.1
) -> dict[str, list[float]]:
    """Seconds of one call of each function in each round; a round's is the median of `seconds` worth of calls."""
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = min(max(int(seconds / _seconds(function)), 1), 1000)
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(statistics.median(_seconds(function) for _ in range(calls[name])))
    return taken


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch, and with it the native ops, on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
