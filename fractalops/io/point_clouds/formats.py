"""Read and write point clouds. The suffix selects the format, and coordinates keep their digits."""

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

_SHOWN = 5  # bad points that a message lists


def read_point_cloud(path: str | Path, *, drop_bad: bool = False) -> Tensor:
    """Read a point cloud as a target for `fit_points`. No code in the file is executed.

    The suffix selects the format:

    - A .npy file contains an array (P, 3) or (P, 2) of numbers. A .npz file contains one array, or one named "points".
    - A .ply file, ASCII or binary, has an element "vertex" with the properties x, y and z.
    - A .xyz, .pts, .asc or .txt file has one point per line. Numbers are separated by spaces, tabs, commas or
      semicolons. `#` and `//` start comments. The points may follow a line of column names and a line with the number
      of points. Decimal commas are read if they can't be separators (`1,5 2,5 3,5` and `1,5;2,5;3,5`). A file that can
      be read in two ways is refused.
    - A .las or .laz file needs laspy: `pip install 'fractalops[las]'`.

    Only the coordinates are read; other columns are left out. This is logged as a warning of the logger
    "fractalops.io".

    Args:
        path: The file.
        drop_bad: Leave out points with a coordinate that is NaN or infinite, and log a warning. Default: False.

    Returns:
        The points (P, 3) or (P, 2), float64, as geographic coordinates have more digits than float32 can represent.

    Raises:
        InputError: If the file can't be read, contains no point, or contains a point that is not finite and `drop_bad`
            is False.
        MissingExtra: If a .las or .laz file is read and laspy is not installed.

    Examples:
        >>> import torch
        >>> from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
        >>> save_point_cloud(torch.rand(1000, 3), "cloud.ply")
        >>> read_point_cloud("cloud.ply").shape
        torch.Size([1000, 3])
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
        what = f"{len(numbers)} of {len(values)} with NaN or infinite coordinates (number {shown})"
        if not drop_bad:
            raise InputError(f"cannot use {path}: points must be finite, got {what}; drop_bad=True leaves them out")
        values, notices = values[~bad], [*notices, f"points are left out: {what}"]
    if len(values) == 0:
        got = "none that is finite" if bad.any() else "none"
        raise InputError(f"cannot use {path}: it must contain points, got {got}")
    log_notices(path, notices)
    return torch.from_numpy(values)


def save_point_cloud(points: Tensor, path: str | Path) -> None:
    """Write a point cloud in the format given by the suffix of `path`: .npy, .ply or .xyz.

    Points of float64 and whole numbers are written as float64, others as float32, with all digits. A .ply file is
    ASCII, and always has three coordinates: z is 0 for points (P, 2). An interruption leaves no broken file.

    Args:
        points: The points (P, 3) or (P, 2).
        path: The file to write.

    Raises:
        InputError: If the suffix is not supported.
        ValueError: If `points` has another shape.
        OSError: If the file can't be written.

    Examples:
        >>> import torch
        >>> from fractalops.io.point_clouds import save_point_cloud
        >>> save_point_cloud(torch.rand(1000, 3), "cloud.ply")
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
            numpy.savetxt(file, values, fmt="%.17g" if exact else "%.9g")  # enough digits to read the same bits
