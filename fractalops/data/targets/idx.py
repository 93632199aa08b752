"""Read IDX files, the format of MNIST and similar data sets: a magic number, the shape, then the values."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
from pathlib import Path

import numpy

from fractalops.data.targets.stack import Stack
from fractalops.errors import InputError
from fractalops.io.files import reading
from fractalops.io.memory import check_memory

_IMAGES = re.compile(r"(?P<stem>.+)[-.]idx3-ubyte(\.gz)?")
_UINT8 = 8
_PART = 2**20  # bytes that are unpacked in one step
_DTYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def is_idx_name(name: str) -> bool:
    """Return whether a name is that of an IDX file of images: "*-idx3-ubyte" or "*.idx3-ubyte", also with ".gz"."""
    return _IMAGES.fullmatch(name) is not None


def find_idx(folder: Path) -> list[Path]:
    """Return the IDX files of images in a folder and in its subfolders `raw` and `*/raw`, which torchvision uses.

    If a file exists both packed and unpacked, only the unpacked one is returned, because it can be mapped into memory.
    """
    places = [folder, folder / "raw", *sorted(folder.glob("*/raw"))]
    paths = {
        path for place in places for path in place.glob("*idx3-ubyte*") if is_idx_name(path.name) and path.is_file()
    }
    return sorted(path for path in paths if path.suffix != ".gz" or path.with_suffix("") not in paths)


def open_idx(path: Path) -> Stack:
    """Open the images of an IDX file and their labels, if the same folder contains the file of labels.

    The file of labels of "*images-idx3-ubyte" is "*labels-idx1-ubyte". Values must be uint8. An unpacked file is mapped
    into memory. A gzip file is unpacked into memory as a whole, up to the memory limit (FRACTALOPS_MEMORY_LIMIT, 1 GiB
    by default).

    Args:
        path: the path of the file.

    Raises:
        InputError: if a file cannot be read, is damaged or takes too much memory, or if the numbers of images and
            labels differ.
    """
    images = _read_idx(path, 3)  # (S, H, W)
    named = _IMAGES.fullmatch(path.name)
    labels: numpy.ndarray | None = None
    files = [path]
    beside = _labels_beside(path)
    if beside is not None:
        labels = _read_idx(beside, 1)  # (S,)
        if len(labels) != len(images):
            raise InputError(
                f"cannot read {beside}: it has {len(labels)} labels for {len(images)} images in {path.name}"
            )
        files.append(beside)
    stem = named["stem"] if named else path.name
    return Stack("IDX", stem, images.shape, images.__getitem__, labels, files)


def _labels_beside(path: Path) -> Path | None:
    """Return the path of the file of labels for a file of images, or None if it does not exist."""
    name, found = re.subn(r"images([-.])idx3-ubyte(\.gz)?$", r"labels\1idx1-ubyte", path.name)
    candidates = [path.with_name(name + ending) for ending in ("", ".gz")] if found else []
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read_idx(path: Path, dimensions: int) -> numpy.ndarray:
    """Return the uint8 array of an IDX file, which must have `dimensions` dimensions."""
    packed = path.suffix == ".gz"
    with reading(path), gzip.open(path) if packed else path.open("rb") as file:
        shape = _read_shape(file, path, dimensions)
        start, size = file.tell(), math.prod(shape)
        if not packed:
            _check_size(os.fstat(file.fileno()).st_size - start, size, shape, path)
            return numpy.memmap(path, numpy.uint8, "r", start, shape)
        check_memory(path, size, "unpacking it", otherwise="unpack the file")
        values = numpy.empty(size, numpy.uint8)
        actual = 0
        while actual < size and (read := file.readinto(values.data[actual : actual + _PART])):
            actual += read
        _check_size(actual + len(file.read(1)), size, shape, path)  # reads to the end, where gzip tests the checksum
        return values.reshape(shape)


def _read_shape(file: io.BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _DTYPES:
        found = header[:4].hex(" ") or "nothing"
        raise InputError(f"cannot read {path}: it is not an IDX file: it begins with {found}")
    if header[2] != _UINT8:
        raise InputError(f"cannot read {path}: its values must be uint8, got {_DTYPES[header[2]]}")
    if header[3] != dimensions:
        raise InputError(f"cannot read {path}: it must have {dimensions} dimension(s), got {header[3]}")
    if len(header) < 4 + 4 * dimensions:
        raise InputError(f"cannot read {path}: it is truncated: it ends within its header")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", header[4:])
    if 0 in shape:
        raise InputError(f"cannot read {path}: it is empty: its shape is {shape}")
    return shape


def _check_size(actual: int, expected: int, shape: tuple[int, ...], path: Path) -> None:
    if actual != expected:
        what, has = ("truncated", actual) if actual < expected else ("too long", "more")
        raise InputError(
            f"cannot read {path}: it is {what}: its shape {shape} takes {expected} bytes, and it has {has}"
        )
