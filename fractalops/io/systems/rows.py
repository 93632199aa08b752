"""Systems as rows of numbers, one per map, as in the files of Fractint and FractalDB.

In 2-D a row is `a b c d e f p`: x' = a x + b y + e, y' = c x + d y + f, with probability p. In 3-D a row is
`a b c d e f g h i j k l p`: the matrix row by row, the translation j, k, l, and the probability p.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import torch

from fractalops.io.notices import log_notices
from fractalops.io.systems.entries import build_system, error_at
from fractalops.systems import System, from_right_and_up, to_right_and_up
from fractalops.systems.system import shares_of

COLUMNS = {7: 2, 13: 3}
"""The number of dimensions by the number of columns."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # linear time
_ROUNDING = 1.0001e-3  # error of the sum of probabilities that are rounded to three digits
TOLERANCE = 1.0001e-2  # error of the sum that other programs accept

Row = tuple[int, list[float]]  # the number of a line, and the numbers of a map


def parse_number(text: str, path: Path, where: str) -> float:
    """Return a finite number. Raises `InputError` for other text, including "1_0" and "nan", which `float` accepts."""
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    if _NUMBER.fullmatch(text) is None:
        raise error_at(path, where, f"{shown!r} is not a number")
    value = float(text)
    if not math.isfinite(value):
        raise error_at(path, where, f"the number {shown} is too large")
    return value


def system_of_rows(path: Path, rows: list[Row], where: str, what: str = "the probabilities") -> System:
    """Return the system of rows, which all have 7 numbers or all have 13.

    Raises `InputError` if a probability is negative, or if their sum differs from 1 by more than 0.01. If it differs by
    more than 0.001, a notice is logged. `where` is the line of the system, and `what` the name of the probabilities in
    messages.
    """
    for line, numbers in rows:
        if numbers[-1] < 0:
            raise error_at(path, f"line {line}", f"a probability must not be negative, got {numbers[-1]:g}")
    if not rows:
        raise error_at(path, where, "a system must have at least one map, got none")
    table = np.array([numbers for _, numbers in rows])  # (N, 7) or (N, 13)
    total = float(table[:, -1].sum())
    if abs(total - 1) > TOLERANCE:
        raise error_at(path, where, f"{what} must add up to 1, got {total:g}")
    if abs(total - 1) > _ROUNDING:
        log_notices(path, [f"{where}: {what} add up to {total:g} instead of 1: maps are drawn in proportion to them"])
    dimensions = COLUMNS[table.shape[1]]
    matrix, offset = from_right_and_up(
        torch.from_numpy(table[:, : dimensions**2].reshape(-1, dimensions, dimensions)),
        torch.from_numpy(table[:, dimensions**2 : -1].copy()),
    )
    return build_system(path, where, matrix, offset, table[:, -1].copy())


def rows_of_system(system: System) -> list[list[str]]:
    """Return the rows of a system as text, with enough digits to read the same numbers.

    Probabilities that don't add up to 1 are scaled, as the formats require it.
    """
    matrix, offset = to_right_and_up(system.matrix.double(), system.offset.double())
    probabilities = system.probabilities.double()
    if abs(float(probabilities.sum()) - 1) > _ROUNDING:
        probabilities = shares_of(probabilities)
    table = torch.cat((matrix.flatten(1), offset, probabilities[:, None]), 1)  # (N, 7) or (N, 13)
    return [[repr(value) for value in row] for row in table.tolist()]
