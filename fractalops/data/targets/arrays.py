"""Array files: .npy, .npz and .safetensors."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy

from fractalops.data.targets.stack import Stack
from fractalops.errors import InputError
from fractalops.io.files import MOST_BYTES, reading

_UNREADABLE = "it is damaged, or not made of plain numbers"
_SAFE_DTYPES = ("U8", "F64", "F32", "F16", "BF16")


def open_array(path: Path) -> Stack:
    """Open the images of an array file (S, H, W), (S, 3, H, W) or (S, H, W, 3), uint8 or floats in [0, 1].

    (S, 3, H, 3) is taken for (S, 3, H, W), and three dimensions always for pictures in gray. A .npz or .safetensors
    file holds them as `images`, or as its only array, beside `labels` (S,) of numbers or text, if any. A .npy or
    .safetensors file stays on disk, but for the image that is asked for; the arrays of a .npz file are loaded, up to
    1 GiB each. The values of floats are checked as each image is read. Raises `InputError`.
    """
    shape, dtype, read, labels = _FORMATS[path.suffix.lower()](path)
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError(f"cannot read {path}: images have shape (S, H, W), (S, 3, H, W) or (S, H, W, 3), got {shape}")
    if not (dtype in ("uint8", *_SAFE_DTYPES) or dtype.startswith("float")):
        raise InputError(f"cannot read {path}: images must be uint8 or floating-point, got {dtype}")
    if labels is not None and labels.shape != shape[:1]:
        raise InputError(f"cannot read {path}: labels must have shape ({shape[0]},), got {labels.shape}")
    with reading(path, "its labels are neither numbers nor text"):
        texts: list[str] = [] if labels is None else labels.astype(str).tolist()
    return Stack(path.suffix.lower()[1:], path.stem, shape, read, texts, [path])


# What each format gives: the shape and dtype of the images, a function that reads one, and the labels.
_Opened = tuple[tuple[int, ...], str, Callable[[int], numpy.ndarray], "numpy.ndarray | None"]


def _open_npy(path: Path) -> _Opened:
    with reading(path, _UNREADABLE):
        images: numpy.ndarray = numpy.load(path, mmap_mode="r", allow_pickle=False)
        return images.shape, images.dtype.name, images.__getitem__, None


def _open_npz(path: Path) -> _Opened:
    # Opened here: numpy leaves a file open that it finds damaged.
    with reading(path, _UNREADABLE), path.open("rb") as file, numpy.load(file, allow_pickle=False) as archive:
        images = _load(archive, _key_of_images(archive.files, path), path)
        labels = _load(archive, "labels", path) if "labels" in archive.files else None
    return images.shape, images.dtype.name, images.__getitem__, labels


def _load(archive: Any, key: str, path: Path) -> numpy.ndarray:
    """Load an array of a .npz file, if it isn't too large by the table of contents, beyond which nothing is read."""
    name = key if key in archive.zip.namelist() else f"{key}.npy"
    size = archive.zip.getinfo(name).file_size
    if size > MOST_BYTES:
        raise InputError(
            f"cannot read {path}: unpacked {key} has {size} bytes, and at most {MOST_BYTES} are held in memory; "
            "save it as .npy, of which one image is read at a time"
        )
    return numpy.asarray(archive[key])  # what begins as no .npy file is read as bytes


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import safe_open

    with reading(path):
        # Not closed: it is mapped into memory for as long as images are read.
        file: Any = safe_open(str(path), framework="pt")
        key = _key_of_images(file.keys(), path)
        images = file.get_slice(key)
        labels = file.get_tensor("labels").numpy() if "labels" in file.keys() else None  # noqa: SIM118
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


def _key_of_images(keys: Collection[str], path: Path) -> str:
    others = sorted(key for key in keys if key != "labels")
    if "images" in others:
        return "images"
    if len(others) != 1:
        actual = ", ".join(others) or "none"
        raise InputError(f"cannot read {path}: it must hold one array of images, or name it 'images', got {actual}")
    return others[0]
