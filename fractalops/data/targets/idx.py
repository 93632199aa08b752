"""IDX files, as MNIST and its relatives are shipped: a magic number, the shape, then the values."""

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
_PART = 2**20  # bytes that are unpacked at once
_DTYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


def is_idx_name(name: str) -> bool:
    """Return whether a file is one of IDX images by its name: "t10k-images-idx3-ubyte", also with a point or ".gz"."""
    return _IMAGES.fullmatch(name) is not None


def find_idx(folder: Path) -> list[Path]:
    """Return the IDX files of images in a folder, or where torchvision keeps them: in `raw` or `MNIST/raw`.

    Of a file that is there both packed and unpacked it is the unpacked one, which need not be held in memory.
    """
    places = [folder, folder / "raw", *sorted(folder.glob("*/raw"))]
    paths = {
        path for place in places for path in place.glob("*idx3-ubyte*") if is_idx_name(path.name) and path.is_file()
    }
    return sorted(path for path in paths if path.suffix != ".gz" or path.with_suffix("") not in paths)


def open_idx(path: Path) -> Stack:
    """Open the images of an IDX file, with the labels of the file beside it (labels-idx1 for images-idx3), if any.

    Values are uint8. A file is mapped into memory; one in gzip is unpacked into memory as a whole, up to the limit,
    FRACTALOPS_MEMORY_LIMIT or 1 GiB. Raises `InputError`.
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
    """Return the file of labels that belongs to a file of images, if it exists."""
    name, found = re.subn(r"images([-.])idx3-ubyte(\.gz)?$", r"labels\1idx1-ubyte", path.name)
    candidates = [path.with_name(name + ending) for ending in ("", ".gz")] if found else []
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read_idx(path: Path, dimensions: int) -> numpy.ndarray:
    """Return the array of an IDX file of uint8, which must have so many dimensions."""
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
        _check_size(actual + len(file.read(1)), size, shape, path)  # to its end, where gzip checks the sum
        return values.reshape(shape)


def _read_shape(file: io.BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _DTYPES:
        raise InputError(f"cannot read {path}: it is no IDX file, it begins with {header[:4].hex(' ') or 'nothing'}")
    if header[2] != _UINT8:
        raise InputError(f"cannot read {path}: its values are {_DTYPES[header[2]]}, and only uint8 is read")
    if header[3] != dimensions:
        raise InputError(f"cannot read {path}: it must have {dimensions} dimension(s), and has {header[3]}")
    if len(header) < 4 + 4 * dimensions:
        raise InputError(f"cannot read {path}: it is truncated, it ends within its header")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", header[4:])
    if 0 in shape:
        raise InputError(f"cannot read {path}: it is empty, its shape is {shape}")
    return shape


def _check_size(actual: int, expected: int, shape: tuple[int, ...], path: Path) -> None:
    if actual != expected:
        what = "it is truncated" if actual < expected else "it goes on after its end"
        has = f"it has {actual}" if actual < expected else "there are more"
        raise InputError(f"cannot read {path}: {what}, its shape {shape} takes {expected} bytes and {has}")
