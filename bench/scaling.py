"""How time and memory grow with each size: the fitted exponent beside the one that the counted work has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cases import SWEEPS, Case, sweep
from .rows import Row, find, where
from .subjects import BOTH
from .work import work


@dataclass(frozen=True)
class Growth:
    """Of a native render, differentiated, with one size of a sweep: p of `figure = c size^p`."""

    variable: str  # of cases.SWEEPS
    device: str
    threads: int
    time: float
    expected_time: float  # of the operations that the shapes ask for
    memory: float | None
    expected_memory: float
    expected_moved: float  # of time too, where the bytes that are moved take it

    @property
    def where(self) -> str:
        return where(self.device, self.threads)


def growths(rows: Sequence[Row]) -> list[Growth]:
    """Of each sweep that is in the rows as a whole, on each device."""
    found = []
    measured = [row for row in find(rows, suite="scaling", backend="native") if row.milliseconds]
    for device, threads in sorted({(row.device, row.threads) for row in measured}):
        here = {row.case: row for row in find(measured, device=device, threads=threads)}
        for variable in SWEEPS:
            cases = sweep(variable)
            if all(case.name in here for case in cases):
                found.append(_growth(variable, cases, [here[case.name] for case in cases]))
    return found


def _growth(variable: str, cases: Sequence[Case], rows: Sequence[Row]) -> Growth:
    _, sizes = SWEEPS[variable]
    peaks = [row.peak_bytes or 0 for row in rows]
    return Growth(
        variable,
        rows[0].device,
        rows[0].threads,
        exponent(sizes, [row.milliseconds.median for row in rows if row.milliseconds]),
        expected(variable, lambda case: work("render", BOTH, case).operations),
        exponent(sizes, peaks) if all(peaks) else None,
        expected(variable, held_bytes),
        expected(variable, lambda case: work("render", BOTH, case).bytes),
    )


def expected(variable: str, count: Callable[[Case], float]) -> float:
    """The exponent of a count over a sweep's sizes."""
    return exponent(SWEEPS[variable][1], [count(case) for case in sweep(variable)])


def held_bytes(case: Case) -> int:
    """What a native render and its backward allocate: points and images, and a gradient of each (the upstream's is
    given)."""
    return 4 * (2 * 2 * case.all_points + case.sequences * case.side**2)


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """p of the least-squares fit `figure = c size^p`."""
    x = [math.log(size) for size in sizes]
    y = [math.log(figure) for figure in figures]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)
