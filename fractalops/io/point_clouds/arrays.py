"""Read points from .npy and .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy

from fractalops.errors import InputError
from fractalops.io.array_files import map_array, opened_archive, read_headers
from fractalops.io.point_clouds.table import Cloud, check_points, first_three

_EXACT = 2**53  # float64 represents all whole numbers up to this one


def read_array(path: Path) -> Cloud:
    """Return the points of a .npy file. Only the columns that are used are loaded into memory."""
    return _cloud(path, map_array(path))


def read_archive(path: Path) -> Cloud:
    """Return the points of the only array in a .npz file, or of the one named "points"."""
    with opened_archive(path) as arrays:
        names = list(arrays)
        if "points" not in names and len(names) != 1:
            raise InputError(f"cannot read {path}: it must contain one array, or one named 'points', got {names}")
        name = "points" if "points" in names else names[0]
        read_headers(arrays, path, name)
        return _cloud(path, arrays[name])


def _cloud(path: Path, values: numpy.ndarray) -> Cloud:
    if values.ndim != 2 or values.shape[1] < 2 or len(values) == 0 or values.dtype.kind not in "fiu":
        expected = "numbers of shape (P, 3) or (P, 2) with P >= 1"
        raise InputError(f"cannot use {path}: points must be {expected}, got {values.dtype} {values.shape}")
    check_points(path, len(values))
    points = numpy.require(values[:, :3], numpy.float64, ["C", "W"])  # copies mapped arrays
    if values.dtype.kind in "iu" and numpy.abs(points).max() > _EXACT:
        raise InputError(f"cannot use {path}: whole numbers must lie in [-2^53, 2^53], to be exact in float64")
    return Cloud(points, first_three(values.shape[1]))
