"""Shared parts of the readers of point clouds: their result, its columns and its memory."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import NamedTuple

import numpy

from fractalops.io.memory import check_memory


class Cloud(NamedTuple):
    """The points of a file, including those that are not finite."""

    points: numpy.ndarray
    """(P, 3) or (P, 2), float64."""
    notices: list[str]
    """Notices about columns that were left out."""


class PointList:
    """A list of points that are read in parts. It needs the memory of one array, and checks the memory limit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values = array("d")
        self._columns = 3

    def add(self, points: numpy.ndarray) -> None:
        """Append points (P, D) of float64."""
        self._columns = points.shape[1]
        self._values.frombytes(numpy.ascontiguousarray(points, numpy.float64).tobytes())
        check_points(self._path, len(self))

    def __len__(self) -> int:
        return len(self._values) // self._columns

    def points(self) -> numpy.ndarray:
        """Return all points (P, D), which share the list's memory."""
        return numpy.frombuffer(self._values, numpy.float64).reshape(-1, self._columns)


def check_points(path: Path, points: int) -> None:
    """Raise `InputError` if the given number of points needs more memory than the limit."""
    check_memory(path, 3 * 8 * points, f"storing at least {points} points")


def first_three(columns: int) -> list[str]:
    """Return a notice that columns are left out if there are more than three."""
    return [f"{columns} columns: the first three are used"] if columns > 3 else []
