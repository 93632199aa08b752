"""NumPy's files, .npy and .npz: headers are held against what there is before anything is read or allocated."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy

from fractalops.io.memory import check_memory

_LONGEST_HEADER = 10_000  # bytes, as NumPy has it, which reads a longer one before it looks


def map_array(path: Path) -> numpy.ndarray:
    """Return the array of a .npy file, mapped into memory. Raises `ValueError` for a damaged one."""
    with path.open("rb") as file:
        read_header(file, os.fstat(file.fileno()).st_size)
    mapped: numpy.ndarray = numpy.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], numpy.dtype[Any]]:
    """Return shape and dtype of an array in a file of so many bytes. Raises `ValueError` where it can't be there."""
    major, _ = numpy.lib.format.read_magic(file)
    length = file.read(2 if major == 1 else 4)
    count = int.from_bytes(length, "little")
    if count > min(size, _LONGEST_HEADER):
        raise ValueError(f"its header has {count} bytes")
    read = numpy.lib.format.read_array_header_1_0 if major == 1 else numpy.lib.format.read_array_header_2_0
    shape, _, dtype = read(io.BytesIO(length + file.read(count)))
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    expected, actual = math.prod(shape) * dtype.itemsize, size - 8 - len(length) - count
    if expected > actual:
        raise ValueError(f"its shape {shape} of {dtype} takes {expected} bytes, and it has {actual}")
    return shape, dtype


@contextmanager
def opened_archive(path: Path) -> Iterator[Any]:
    """Open a .npz file as NumPy does. Raises `ValueError` or `zipfile.BadZipFile` for one that is no archive."""
    with path.open("rb") as file:  # NumPy leaves a file open that it finds damaged
        if file.read(2) != b"PK":  # NumPy would load whatever array there is
            raise ValueError("it is no archive")
        file.seek(0)
        with numpy.load(file, allow_pickle=False) as archive:
            yield archive


def read_headers(archive: Any, path: Path, *keys: str, otherwise: str = "") -> dict[str, tuple[int, ...]]:
    """Return the shapes of arrays of a .npz file, without unpacking them.

    Raises `InputError`, see `check_memory`, for those that take more memory than the limit; `ValueError` or
    `zipfile.BadZipFile` for a damaged archive.
    """
    members = {key: key if key in archive.zip.namelist() else f"{key}.npy" for key in keys}
    sizes = {key: archive.zip.getinfo(name).file_size for key, name in members.items()}
    check_memory(path, sum(sizes.values()), f"unpacking {', '.join(keys)[:80]}", otherwise=otherwise)
    shapes = {}
    for key, name in members.items():
        with archive.zip.open(name) as file:
            shapes[key] = read_header(file, sizes[key])[0]
    return shapes
