"""Reading and writing clouds of points: the format is that of the suffix, coordinates keep their digits."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import PlainFile, atomic_path, check_file, reading
from fractalops.io.notices import log_notices
from fractalops.io.point_clouds.arrays import read_archive, read_array
from fractalops.io.point_clouds.las import read_las
from fractalops.io.point_clouds.ply import read_ply
from fractalops.io.point_clouds.text import read_text

_READERS = {
    ".npy": read_array,
    ".npz": read_archive,
    ".ply": read_ply,
    **dict.fromkeys((".xyz", ".pts", ".asc", ".txt"), read_text),
    **dict.fromkeys((".las", ".laz"), read_las),
}
READABLE = tuple(_READERS)
WRITABLE = (".npy", ".ply", ".xyz")

_SHOWN = 5  # numbers of points in a message


def read_point_cloud(path: str | Path, *, drop_bad: bool = False) -> Tensor:
    """Read a cloud of points as a target for learning; no code in a file is executed.

    - A .npy file holds an array (P, 3) or (P, 2) of numbers, a .npz file one array or one named "points".
    - A .ply file, ascii or binary, has the properties x, y and z of its element vertex.
    - A .xyz, .pts, .asc or .txt file has a point a line. Its numbers are separated by spaces, tabs, commas or
      semicolons. `#` and `//` begin comments. A line of names may come first, and so may the number of points. Decimal
      commas are read where they can't be separators (`1,5 2,5 3,5` and `1,5;2,5;3,5`); a file that can be read in two
      ways is refused.
    - A .las or .laz file needs laspy: `pip install 'fractalops[las]'`.

    Further columns of an array or a line are left out. That is logged as a warning of the logger "fractalops.io".

    Args:
        path: the file.
        drop_bad: leave out points with a coordinate that is NaN or infinite, which is logged, too.

    Returns:
        The points (P, 3) or (P, 2), float64: coordinates of maps have more digits than float32 holds.

    Raises:
        InputError: for a file that can't be read so, that holds no point, or one that is not finite.
        MissingExtra: for a .las or .laz file without laspy.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"cannot read {path}: unknown suffix {path.suffix!r}, use one of {', '.join(READABLE)}")
    check_file(path)
    with reading(path):
        values, notices = read(path)  # (P, 3) or (P, 2)
    bad = ~numpy.isfinite(values).all(1)  # (P,)
    if bad.any():
        numbers = numpy.flatnonzero(bad) + 1
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (" ..." if len(numbers) > _SHOWN else "")
        what = f"{len(numbers)} with NaN or infinite coordinates (of {len(values)}: number {shown})"
        if not drop_bad:
            raise InputError(f"cannot use {path}: points must be finite, got {what}")
        values, notices = values[~bad], [*notices, f"points are left out: {what}"]
    if len(values) == 0:
        left = "none that is finite" if bad.any() else "none"
        raise InputError(f"cannot use {path}: it must hold points, got {left}")
    log_notices(path, notices)
    return torch.from_numpy(values)


def save_point_cloud(points: Tensor, path: str | Path) -> None:
    """Write points (P, 3) or (P, 2) in the format that the suffix of `path` names.

    An interruption leaves no broken file. Points of float64 and whole numbers are written as float64, others as
    float32, with all digits. A .ply file is ascii, and always has three coordinates. Raises `InputError` for another
    suffix than .npy, .ply and .xyz, `ValueError` for another shape, `OSError` when the file can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"cannot save {path}: unknown suffix {path.suffix!r}, use one of {', '.join(WRITABLE)}")
    if points.dim() != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"save_point_cloud: points must have shape (P, 3) or (P, 2), got {tuple(points.shape)}")
    exact = points.dtype == torch.float64 or not points.is_floating_point()
    values = points.detach().cpu().to(torch.float64 if exact else torch.float32).numpy()  # (P, D)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npy":
            with PlainFile(temporary) as file:
                numpy.save(file, values)
            return
        header = ""
        if path.suffix.lower() == ".ply":
            values = numpy.pad(values, ((0, 0), (0, 3 - values.shape[1])))
            properties = "".join(f"property {'double' if exact else 'float'} {axis}\n" for axis in "xyz")
            header = f"ply\nformat ascii 1.0\nelement vertex {len(values)}\n{properties}end_header\n"
        with temporary.open("w", encoding="ascii", newline="") as file:
            file.write(header)
            numpy.savetxt(file, values, fmt="%.17g" if exact else "%.9g")  # digits that give the same bits back
