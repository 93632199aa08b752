"""Array files: .npy, .npz and .safetensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy

from fractalops.data.targets.stack import Stack
from fractalops.errors import InputError
from fractalops.io.array_files import map_array, opened_archive, read_headers
from fractalops.io.files import reading, text_path
from fractalops.io.memory import check_memory
from fractalops.io.tensor_files import check_header

_UNREADABLE = "it is damaged, or not made of plain numbers"
_LABEL_BYTES = 8  # at most, of a number
_SAFE_DTYPES = ("U8", "F64", "F32", "F16", "BF16")


def open_array(path: Path) -> Stack:
    """Open the images of an array file (S, H, W), (S, 3, H, W) or (S, H, W, 3), uint8 or floats in [0, 1].

    (S, 3, H, 3) is taken for (S, 3, H, W), and three dimensions always for pictures in gray. A .npz or .safetensors
    file holds them as `images`, or as its only array, beside `labels` (S,) of numbers or text, if any. A .npy or
    .safetensors file stays on disk, but for the image that is asked for; the arrays of a .npz file are loaded. Labels,
    the arrays of a .npz file and a single image take no more memory than the limit, FRACTALOPS_MEMORY_LIMIT or 1 GiB.
    The values of floats are checked as each image is read. Raises `InputError`.
    """
    shape, dtype, read, labels = _FORMATS[path.suffix.lower()](path)
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError(f"cannot read {path}: images have shape (S, H, W), (S, 3, H, W) or (S, H, W, 3), got {shape}")
    if not (dtype in ("uint8", *_SAFE_DTYPES) or dtype.startswith("float")):
        raise InputError(f"cannot read {path}: images must be uint8 or floating-point, got {dtype}")
    with reading(path, "its labels are neither numbers nor text"):
        if labels is not None and not _is_plain(labels):
            raise ValueError(str(labels.dtype))
    return Stack(path.suffix.lower()[1:], path.stem, shape, read, labels, [path])


# What each format gives: the shape and dtype of the images, a function that reads one, and the labels.
_Opened = tuple[tuple[int, ...], str, Callable[[int], numpy.ndarray], "numpy.ndarray | None"]


def _open_npy(path: Path) -> _Opened:
    with reading(path, _UNREADABLE):
        images = map_array(path)
        return images.shape, images.dtype.name, images.__getitem__, None


def _open_npz(path: Path) -> _Opened:
    with reading(path, _UNREADABLE), opened_archive(path) as archive:
        keys = [_key_of_images(archive.files, path), *({"labels"} & set(archive.files))]
        shapes = read_headers(archive, path, *keys, otherwise="save it as .npy, of which one image is read at a time")
        _check_labels(path, *shapes.values())
        images, *labels = (archive[key] for key in keys)
    return images.shape, images.dtype.name, images.__getitem__, labels[0] if labels else None


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import safe_open

    with reading(path), text_path(path) as name:
        check_header(path)
        # Not closed: it is mapped into memory for as long as images are read.
        file: Any = safe_open(name, framework="pt")
        key = _key_of_images(file.keys(), path)
        images = file.get_slice(key)
        labels = None
        if "labels" in file.keys():  # noqa: SIM118
            _check_labels(path, images.get_shape(), held := file.get_slice("labels").get_shape())
            check_memory(path, _LABEL_BYTES * math.prod(held), "reading its labels")
            labels = file.get_tensor("labels").numpy()
        shape, dtype = tuple(images.get_shape()), images.get_dtype()

    def read(index: int) -> numpy.ndarray:
        values = images[index : index + 1][0]  # numpy knows no bfloat16
        array: numpy.ndarray = (values.float() if values.is_floating_point() else values).numpy()
        return array

    return shape, dtype, read, labels


_FORMATS: dict[str, Callable[[Path], _Opened]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
}
SUFFIXES = frozenset(_FORMATS)


def _is_plain(labels: numpy.ndarray) -> bool:
    """Return whether labels are numbers or text, in bytes that of ASCII."""
    return labels.dtype.kind in "biufU" or (labels.dtype.kind == "S" and bool((labels.view(numpy.uint8) < 128).all()))


def _check_labels(path: Path, images: Sequence[int], labels: Sequence[int] | None = None) -> None:
    """Raise `InputError` for labels, if any, of a shape that is not that of the images."""
    if labels is not None and list(labels) != list(images[:1]):
        expected = ", ".join(map(str, images[:1]))
        raise InputError(f"cannot read {path}: labels must have shape ({expected},), got {tuple(labels)}")


def _key_of_images(keys: Collection[str], path: Path) -> str:
    others = sorted(key for key in keys if key != "labels")
    if "images" in others:
        return "images"
    if len(others) != 1:
        actual = ", ".join(others) or "none"
        raise InputError(f"cannot read {path}: it must hold one array of images, or name it 'images', got {actual}")
    return others[0]
