"""Read points from .las and .laz files with laspy."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy

from fractalops.errors import InputError, MissingExtra
from fractalops.io.files import one_line
from fractalops.io.memory import memory_limit
from fractalops.io.point_clouds.table import Cloud, check_points

_AT_ONCE = 2**20  # points
_RECORDS = slice(100, 104)  # bytes of the number of variable length records before the points
_RECORD_BYTES = 54  # the minimum size of such a record


def read_las(path: Path) -> Cloud:
    """Return the points of a file, in the file's units.

    Raises `MissingExtra` if laspy is not installed, or lazrs for a .laz file.
    """
    try:
        import laspy
    except ImportError as error:
        raise MissingExtra("read_point_cloud", "laspy", "las") from error
    size = path.stat().st_size
    with path.open("rb") as start:
        records = int.from_bytes(start.read(_RECORDS.stop)[_RECORDS], "little")
    if records * _RECORD_BYTES > size:  # laspy would try to read them past the end
        raise InputError(f"cannot read {path}: its header declares {records} records, but the file is too short")
    with _panics(path), laspy.open(path, read_evlrs=False) as file:
        count = file.header.point_count
        packed = file.header.are_points_compressed
        check_points(path, count)
        if packed:
            _check_chunks(path, file.header, size)
        elif count * file.header.point_format.size > size - file.header.offset_to_point_data:
            raise InputError(f"cannot read {path}: its header declares {count} points, but the file is too short")
        points, done = numpy.empty((count, 3)), 0
        for part in file.chunk_iterator(_AT_ONCE):
            rows = points[done : done + len(part)]
            for axis, values in enumerate((part.x, part.y, part.z)):
                rows[:, axis] = values  # scale and offset are applied in float64
            done += len(part)
    if done != count:
        raise InputError(f"cannot read {path}: its header declares {count} points, got {done}")
    return Cloud(points, [])


def _check_chunks(path: Path, header: Any, size: int) -> None:
    """Raise `InputError` if the chunks of a .laz file don't fit in it, as lazrs ends the process if memory runs out.

    Raises `MissingExtra` if lazrs is not installed.
    """
    try:
        import lazrs
    except ImportError as error:
        raise MissingExtra("read_point_cloud", "lazrs", "las") from error
    (record,) = header.vlrs.get("LasZipVlr")
    packing = lazrs.LazVlr(record.record_data)
    item, chunk = packing.item_size(), 0 if packing.uses_variable_size_chunks() else packing.chunk_size()
    with path.open("rb") as file:
        file.seek(header.offset_to_point_data)
        (table,) = struct.unpack("<q", file.read(8))
        if table < 0:  # then its position is stored at the end of the file
            file.seek(-8, os.SEEK_END)
            (table,) = struct.unpack("<q", file.read(8))
        file.seek(table)
        _, chunks = struct.unpack("<II", file.read(8))
    # The first point of a chunk is not compressed.
    if item != header.point_format.size or max(chunk, 1) * item > memory_limit() or chunks * item > size:
        raise InputError(f"cannot read {path}: the file is damaged ({chunks} chunks of {chunk} points)")


@contextmanager
def _panics(path: Path) -> Iterator[None]:
    """Raise `InputError` if lazrs panics. It is written in Rust, and a panic is not an `Exception`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"cannot read {path}: the file is damaged ({one_line(error)})") from None
