"""Read NumPy's .npy and .npz files. Headers are compared with the file's size before data is read or allocated."""

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

_LONGEST_HEADER = 10_000  # bytes: NumPy's limit, which NumPy checks only after it has read the header


def map_array(path: Path) -> numpy.ndarray:
    """Return the array of a .npy file, mapped into memory. Raises `ValueError` if the file is damaged."""
    with path.open("rb") as file:
        read_header(file, os.fstat(file.fileno()).st_size)
    mapped: numpy.ndarray = numpy.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], numpy.dtype[Any]]:
    """Return the shape and the dtype of the array in a file of `size` bytes.

    Raises `ValueError` if the header is damaged or declares more data than the file contains.
    """
    major, _ = numpy.lib.format.read_magic(file)
    length = file.read(2 if major == 1 else 4)
    count = int.from_bytes(length, "little")
    if count > min(size, _LONGEST_HEADER):
        raise ValueError(f"its header must have at most {min(size, _LONGEST_HEADER)} bytes, got {count}")
    read = numpy.lib.format.read_array_header_1_0 if major == 1 else numpy.lib.format.read_array_header_2_0
    shape, _, dtype = read(io.BytesIO(length + file.read(count)))
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    expected, actual = math.prod(shape) * dtype.itemsize, size - 8 - len(length) - count
    if expected > actual:
        raise ValueError(f"its shape {shape} of {dtype} needs {expected} bytes, got {actual}")
    return shape, dtype


@contextmanager
def opened_archive(path: Path) -> Iterator[Any]:
    """Open a .npz file with NumPy. Raises `ValueError` or `zipfile.BadZipFile` if it is not an archive."""
    with path.open("rb") as file:  # opened here, as NumPy does not close a damaged file
        if file.read(2) != b"PK":  # NumPy would also accept a .npy file
            raise ValueError("it is not an archive")
        file.seek(0)
        with numpy.load(file, allow_pickle=False) as archive:
            yield archive


def read_headers(archive: Any, path: Path, *keys: str, otherwise: str = "") -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays `keys` of a .npz file, without unpacking them.

    Raises `InputError` if the arrays need more memory than the limit, see `check_memory`. Raises `ValueError` or
    `zipfile.BadZipFile` if the archive is damaged.
    """
    members = {key: key if key in archive.zip.namelist() else f"{key}.npy" for key in keys}
    sizes = {key: archive.zip.getinfo(name).file_size for key, name in members.items()}
    check_memory(path, sum(sizes.values()), f"unpacking {', '.join(keys)[:80]}", otherwise=otherwise)
    shapes = {}
    for key, name in members.items():
        with archive.zip.open(name) as file:
            shapes[key] = read_header(file, sizes[key])[0]
    return shapes
