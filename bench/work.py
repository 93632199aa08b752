"""The least work of a call by its shapes, and the growth of measurements in comparison.

The bytes are those of all inputs and results of the call, each counted once. The operations are those of the windowed,
separable formula in float32. A multiply-add counts as two, any other operation as one, also an exponential. A baseline
that does more work gets the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from .rows import Row, find
from .suites import BACKWARD, BOTH, FORWARD, SWEEPS, Case, sweep

FLOAT = 4  # bytes
POINT = 2 * FLOAT
MULTIPLY_ADD = 2


@dataclass(frozen=True)
class Work:
    """The least memory traffic and operations of a call."""

    bytes: int
    operations: int

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.operations + other.operations)


def work(op: str, direction: str, case: Case) -> Work:
    """Return the work of one call of an op in one direction."""
    if direction == BOTH:
        return work(op, FORWARD, case) + work(op, BACKWARD, case)
    if op == "render":
        return work("affine_chain", direction, case) + work("rbf_rasterize", direction, case)
    return {"affine_chain": _chain, "rbf_rasterize": _rasterize}[op](direction, case)


def _chain(direction: str, case: Case) -> Work:
    """Count v_t = A v_(t-1) + b; h_t = g_t + A^T h_(t+1), dA += h_t v_(t-1)^T, db += h_t."""
    index = 1 if case.maps <= 256 else 4
    step = 4 * MULTIPLY_ADD  # a product of a 2 x 2 matrix and a vector, and an addition
    if direction == FORWARD:
        return Work((index + POINT) * case.all_points, step * case.all_points)
    outer = 4 * MULTIPLY_ADD + 2
    return Work((index + 2 * POINT) * case.all_points, (step + outer) * case.all_points)


def _rasterize(direction: str, case: Case) -> Work:
    """Count two tables of exponentials and their product over the window, or in the backward, two such products."""
    window = min(2 * case.radius + 1, case.side)
    tables = 2 * window * 5  # a difference, its square, times -1 / tau, exp, and a comparison
    image = FLOAT * case.sequences * case.side**2
    if direction == FORWARD:
        return Work(POINT * case.all_points + image, (tables + window**2 * MULTIPLY_ADD) * case.all_points)
    sums = 2 * window**2 * MULTIPLY_ADD + 3 * window * MULTIPLY_ADD
    return Work(2 * POINT * case.all_points + image, (tables + sums) * case.all_points)


def held_bytes(case: Case) -> int:
    """Return the bytes that a native render and its backward allocate: points, their gradient, and images."""
    return FLOAT * (2 * 2 * case.all_points + case.sequences * case.side**2)


def needed_bytes(op: str, backend: str, case: Case) -> int:
    """Estimate the memory of a backend's forward and backward. Backends that need too much are left out."""
    count, table = case.all_points, case.all_points * 2 * case.side * FLOAT
    chain = {
        "native": 4 * POINT * count,
        "reference": 40 * FLOAT * count,
        # Each pass of the scan saves its maps for the backward.
        "separable": (case.points.bit_length() + 2) * 12 * FLOAT * count,
        "dense": 40 * FLOAT * count,
    }
    drawing = {
        "native": 4 * POINT * count,
        "reference": 10 * table,
        "separable": 4 * table,
        "dense": 3 * count * case.side**2 * FLOAT,
    }
    of_op = {"affine_chain": (chain,), "rbf_rasterize": (drawing,), "render": (chain, drawing)}[op]
    images = 3 * case.sequences * case.side**2 * FLOAT * (op != "affine_chain")
    return images + sum(each["separable" if backend == "compiled" else backend] for each in of_op)


def loop_steps(op: str, backend: str, case: Case) -> int:
    """Return the number of steps of the Python loop in a backend's chain, or 0 if it has no loop."""
    return case.points if backend in ("reference", "dense") and op != "rbf_rasterize" else 0


@dataclass(frozen=True)
class Growth:
    """Exponents p of `figure = c size^p` for a native render, forward and backward, in one sweep."""

    variable: str  # key of SWEEPS
    where: str
    time: float
    expected_time: float  # exponent of the least operations
    expected_moved: float  # exponent of the least bytes, for time limited by memory
    memory: float | None
    expected_memory: float


def growths(rows: Sequence[Row]) -> list[Growth]:
    """Return the growth for each sweep that is complete in the rows, on each device."""
    found = []
    measured = [row for row in find(rows, suite="scaling", backend="native") if row.milliseconds]
    for device, threads in sorted({(row.device, row.threads) for row in measured}):
        here = {row.case: row for row in find(measured, device=device, threads=threads)}
        for variable, (_, sizes) in SWEEPS.items():
            swept = [here[case.name] for case in sweep(variable) if case.name in here]
            if len(swept) < len(sizes):
                continue
            peaks = [row.peak_bytes or 0 for row in swept]
            growth = Growth(
                variable,
                swept[0].where,
                exponent(sizes, [row.milliseconds.median for row in swept if row.milliseconds]),
                expected(variable, lambda case: work("render", BOTH, case).operations),
                expected(variable, lambda case: work("render", BOTH, case).bytes),
                exponent(sizes, peaks) if all(peaks) else None,
                expected(variable, held_bytes),
            )
            found.append(growth)
    return found


def expected(variable: str, count: Callable[[Case], float]) -> float:
    """Return the exponent of a count over the sizes of a sweep."""
    return exponent(SWEEPS[variable][1], [count(case) for case in sweep(variable)])


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """Return p of the least-squares fit `figure = c size^p`."""
    return linear_regression([math.log(size) for size in sizes], [math.log(figure) for figure in figures]).slope
