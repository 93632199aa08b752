"""What a call must do at least, whoever does it: bytes moved and float32 operations, by its shapes.

Bytes: each array of the call's inputs and results once. Operations: those of the windowed, separable formula, a
multiply-add being two, an exponential and any other one being one. A baseline that does more is credited with no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cases import Case
from .subjects import BACKWARD, BOTH, FORWARD

FLOAT = 4  # bytes
POINT = 2 * FLOAT
MULTIPLY_ADD = 2


@dataclass(frozen=True)
class Work:
    bytes: int
    operations: int

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.operations + other.operations)


def work(op: str, direction: str, case: Case) -> Work:
    """Of one call of an op in one direction."""
    if direction == BOTH:
        return work(op, FORWARD, case) + work(op, BACKWARD, case)
    if op == "render":
        return work("affine_chain", direction, case) + work("rbf_rasterize", direction, case)
    return {"affine_chain": _chain, "rbf_rasterize": _rasterize}[op](direction, case)


def _chain(direction: str, case: Case) -> Work:
    """v_t = A v_(t-1) + b; h_t = g_t + A^T h_(t+1), dA += h_t v_(t-1)^T, db += h_t."""
    index = 1 if case.maps <= 256 else 4
    step = 4 * MULTIPLY_ADD  # a product of a 2 x 2 matrix and a vector, and an addition
    if direction == FORWARD:
        return Work((index + POINT) * case.all_points, step * case.all_points)
    outer = 4 * MULTIPLY_ADD + 2
    return Work((index + 2 * POINT) * case.all_points, (step + outer) * case.all_points)


def _rasterize(direction: str, case: Case) -> Work:
    """Two tables of exponentials and their product over the window; backward, two such products."""
    window = min(2 * case.radius + 1, case.side)
    tables = 2 * window * 5  # a difference, its square, times -1 / tau, exp, and a comparison
    image = FLOAT * case.sequences * case.side**2
    if direction == FORWARD:
        return Work(POINT * case.all_points + image, (tables + window**2 * MULTIPLY_ADD) * case.all_points)
    sums = 2 * window**2 * MULTIPLY_ADD + 3 * window * MULTIPLY_ADD
    return Work(2 * POINT * case.all_points + image, (tables + sums) * case.all_points)


def needed_bytes(op: str, backend: str, case: Case) -> int:
    """What a backend's forward and backward hold at once, roughly: to leave out what no machine should be asked for."""
    count, table = case.all_points, case.all_points * 2 * case.side * FLOAT
    chain = {
        "native": 4 * POINT * count,
        "reference": 40 * FLOAT * count,
        # Each pass of the scan keeps its maps for the backward.
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
    """Steps of the Python loop that a backend's chain is, one after the other."""
    return case.points if backend in ("reference", "dense") and op != "rbf_rasterize" else 0
