"""What a source of target images is, and what its kinds share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy
from torch import Tensor

from fractalops.io.files import reading
from fractalops.io.images import Preparation, array_size, prepare

_SAMPLED = 2**16  # bytes at either end of a file that its digest looks at


class Source(Protocol):
    """Target images, numbered from 0, each read when it is asked for.

    `image` must lie in [0, len(source)): `IndexError` otherwise.
    """

    @property
    def identity(self) -> str:
        """What the images are, for a run's record: kind, name, number, a short digest, and the options.

        It is equal for equal content and options, wherever the files lie, and is cheap: of files that are not read as a
        whole it sees names, sizes and a sample, so that an edit which keeps the size may escape it.
        """

    def __len__(self) -> int: ...

    def name(self, image: int) -> str:
        """A path within the folder, or a file's name and a number: "cats/7.png", "t10k-images/00017"."""

    def label(self, image: int) -> str:
        """The name of its class, or "" where none is known."""

    def shape(self, image: int) -> tuple[int, ...]:
        """The shape (H, W) or (3, H, W) of the target, by its header alone. Raises `InputError` for a bad one."""

    def read(self, image: int) -> Tensor:
        """The target (H, W) or (3, H, W), float32 in [0, 1]. Raises `InputError`, which names file and image."""


@dataclass(frozen=True)
class Stack:
    """What a file that holds a stack of images tells when it is opened."""

    path: Path
    kind: str
    stem: str
    """What the images are named by."""
    shape: tuple[int, ...]  # (S, H, W), (S, 3, H, W) or (S, H, W, 3)
    read: Callable[[int], numpy.ndarray]  # an image's number -> its array, uint8 or floats
    labels: list[str]  # S of them, or none
    files: list[Path]
    """All that images and labels come from."""


class StackSource:
    """The images of one file that holds a stack of them, all of one size: what IDX and array files have in common."""

    def __init__(self, stack: Stack, preparation: Preparation, limit: int | None) -> None:
        self._stack, self._preparation = stack, preparation
        self._shape = preparation.target_shape(*array_size(stack.shape[1:], stack.path))
        self._count = stack.shape[0] if limit is None else min(stack.shape[0], limit)
        contents = digest(part for file in stack.files for part in _sample(file))
        self.identity = describe(stack.kind, stack.path.name, self._count, contents, preparation)

    def __len__(self) -> int:
        return self._count

    def name(self, image: int) -> str:
        return f"{self._stack.stem}/{check_number(image, self._count):05d}"

    def label(self, image: int) -> str:
        check_number(image, self._count)
        return self._stack.labels[image] if self._stack.labels else ""

    def shape(self, image: int) -> tuple[int, ...]:
        check_number(image, self._count)
        return self._shape

    def read(self, image: int) -> Tensor:
        check_number(image, self._count)
        return prepare(self._stack.read(image), f"{self._stack.path}, image {image}", self._preparation, [])


def check_number(image: int, count: int) -> int:
    """The number of an image, if there is one of that number. Raises `IndexError`."""
    if not 0 <= image < count:
        raise IndexError(f"image must lie in [0, {count}), got {image}")
    return image


def check_limit(function: str, limit: int | None) -> None:
    """Raise `ValueError`, on behalf of `function`, for a limit that leaves no image."""
    if limit is not None and limit < 1:
        raise ValueError(f"{function}: limit must be at least 1, got {limit}")


def describe(kind: str, name: str, images: int, contents: str, preparation: Preparation | None = None) -> str:
    """The identity of a source."""
    options = "" if preparation is None else f"; {_options(preparation)}"
    return f"{kind} {name}: {images} images, {contents}{options}"


def _options(preparation: Preparation) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(preparation).items())


def digest(parts: Iterable[bytes]) -> str:
    """Twelve hexadecimal digits for a series of byte strings."""
    total = hashlib.blake2b(digest_size=6)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))  # so that no two series run together into the same bytes
        total.update(part)
    return total.hexdigest()


def _sample(path: Path) -> list[bytes]:
    """The size of a file, its beginning and its end."""
    size = path.stat().st_size
    with reading(path), path.open("rb") as file:
        beginning = file.read(_SAMPLED)
        file.seek(max(0, size - _SAMPLED))
        return [str(size).encode(), beginning, file.read(_SAMPLED)]
