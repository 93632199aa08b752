"""Data sets of one file that contains a stack of images: an IDX file or an array file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from fractalops.data.targets.dataset import TargetDataset, describe, digest
from fractalops.io.decoding import check_pixels
from fractalops.io.files import reading
from fractalops.io.notices import log_notices
from fractalops.io.picture_options import PictureOptions
from fractalops.io.preparing import check_picture_shape, prepare

_SAMPLED = 2**16  # bytes at each end of a file that its digest covers
_VALUE_BYTES = 4  # bytes of memory per value that preparing an image takes


@dataclass(frozen=True)
class Stack:
    """An open file that contains a stack of S images."""

    kind: str
    """The name of the file format."""
    stem: str
    """The first part of the names of the images."""
    shape: tuple[int, ...]
    """(S, H, W), (S, 3, H, W) or (S, H, W, 3)."""
    read: Callable[[int], numpy.ndarray]
    """A function that takes the index of an image and returns its array, uint8 or floats."""
    labels: numpy.ndarray | None
    """(S,), numbers or text; None if there are no labels."""
    files: list[Path]
    """The files of the images and the labels."""


class StackTargets(TargetDataset):
    """A data set of the images in one file, all of the same size. `open_targets` creates it.

    Args:
        path: the path of the file.
        open_stack: the function that opens the file.
        options: how each image becomes a target.
        limit: the number of images to use, the first ones; None means all.

    Raises:
        InputError: if the file cannot be read, or if one image takes too much memory.
    """

    def __init__(
        self, path: Path, open_stack: Callable[[Path], Stack], options: PictureOptions, limit: int | None
    ) -> None:
        self._arguments = path, open_stack, options, limit
        self._path, self._options, self._stack = path, options, open_stack(path)
        check_picture_shape(self._stack.shape[1:], path)
        channels = 3 if len(self._stack.shape) == 4 else 1
        height, width = sorted(self._stack.shape[1:])[-2:]
        check_pixels(path, width, height, channels * _VALUE_BYTES)
        self._count = len(range(self._stack.shape[0])[:limit])
        contents = digest(part for file in self._stack.files for part in _sample(file))
        self.title = path.name
        self.identity = describe(self._stack.kind, self.title, self._count, contents, options)

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the arguments: a worker process of a `DataLoader` opens the file again and needs no images."""
        return type(self), self._arguments

    def _name(self, index: int) -> str:
        return f"{self._stack.stem}/{index:05d}"

    def _label(self, index: int) -> str:
        if self._stack.labels is None:
            return ""
        return str(self._stack.labels[index : index + 1].astype(str)[0])

    def _read(self, index: int) -> Tensor:
        name = f"{self._path}, image {index}"
        target, notices = prepare(self._stack.read(index), name, self._options)
        log_notices(name, notices, logging.INFO)
        return target


def _sample(path: Path) -> list[bytes]:
    """Return the size, the first bytes and the last bytes of a file."""
    size = path.stat().st_size
    with reading(path), path.open("rb") as file:
        beginning = file.read(_SAMPLED)
        file.seek(max(0, size - _SAMPLED))
        return [str(size).encode(), beginning, file.read(_SAMPLED)]
