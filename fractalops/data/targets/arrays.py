"""Open array files as stacks of images: .npy, .npz and .safetensors."""

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

_UNREADABLE = "it is damaged or does not contain plain numbers"
_LABEL_BYTES = 8  # bytes of a label, at most
_SAFE_DTYPES = ("U8", "F64", "F32", "F16", "BF16")


def open_array(path: Path) -> Stack:
    """Open the images of an array file: (S, H, W), (S, 3, H, W) or (S, H, W, 3), uint8 or floats in [0, 1].

    Arrays of three dimensions are images in gray. A shape (S, 3, H, 3) is read as (S, 3, H, W). A .npz or .safetensors
    file contains the array `images`, or only one array apart from `labels`. The optional array `labels` (S,) contains
    numbers or text.

    The images of a .npy or .safetensors file are read from disk one at a time. The arrays of a .npz file are loaded
    together. The labels, the arrays of a .npz file, and a single image may each take at most the memory limit
    (FRACTALOPS_MEMORY_LIMIT, 1 GiB by default). The range of floats is checked when an image is read.

    Args:
        path: the path of the file, with the suffix .npy, .npz or .safetensors.

    Raises:
        InputError: if the file cannot be read, is damaged, takes too much memory, or has a wrong shape or dtype.
    """
    shape, dtype, read, labels = _FORMATS[path.suffix.lower()](path)
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError(
            f"cannot read {path}: images must have shape (S, H, W), (S, 3, H, W) or (S, H, W, 3), got {shape}"
        )
    if not (dtype in ("uint8", *_SAFE_DTYPES) or dtype.startswith("float")):
        raise InputError(f"cannot read {path}: images must be uint8 or floating-point, got {dtype}")
    with reading(path, "its labels are neither numbers nor text"):
        if labels is not None and not _is_plain(labels):
            raise ValueError(str(labels.dtype))
    return Stack(path.suffix.lower()[1:], path.stem, shape, read, labels, [path])


# An open file: the shape and dtype of the images, a function that reads one image, and the labels.
_Opened = tuple[tuple[int, ...], str, Callable[[int], numpy.ndarray], "numpy.ndarray | None"]


def _open_npy(path: Path) -> _Opened:
    with reading(path, _UNREADABLE):
        images = map_array(path)
        return images.shape, images.dtype.name, images.__getitem__, None


def _open_npz(path: Path) -> _Opened:
    with reading(path, _UNREADABLE), opened_archive(path) as archive:
        keys = [_key_of_images(archive.files, path), *({"labels"} & set(archive.files))]
        shapes = read_headers(archive, path, *keys, otherwise="save it as .npy, which is read one image at a time")
        _check_labels(path, *shapes.values())
        images, *labels = (archive[key] for key in keys)
    return images.shape, images.dtype.name, images.__getitem__, labels[0] if labels else None


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import safe_open

    with reading(path), text_path(path) as name:
        check_header(path)
        # The file stays open, because images are read from its memory map.
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
        values = images[index : index + 1][0]  # a tensor, because NumPy has no bfloat16
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
    """Return whether labels are numbers, text, or bytes of ASCII text."""
    return labels.dtype.kind in "biufU" or (labels.dtype.kind == "S" and bool((labels.view(numpy.uint8) < 128).all()))


def _check_labels(path: Path, images: Sequence[int], labels: Sequence[int] | None = None) -> None:
    """Raise `InputError` unless the shape of `labels`, if any, is (S,), with S of the shape of `images`."""
    if labels is not None and list(labels) != list(images[:1]):
        expected = ", ".join(map(str, images[:1]))
        raise InputError(f"cannot read {path}: labels must have shape ({expected},), got {tuple(labels)}")


def _key_of_images(keys: Collection[str], path: Path) -> str:
    others = sorted(key for key in keys if key != "labels")
    if "images" in others:
        return "images"
    if len(others) != 1:
        actual = ", ".join(others) or "none"
        raise InputError(f"cannot read {path}: it must contain one array, or an array named 'images', got {actual}")
    return others[0]
