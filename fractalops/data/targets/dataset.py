"""The base class of data sets of targets: map-style, with a name for each image."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from fractalops._checks import check_item
from fractalops.io.picture_options import PictureOptions


class TargetDataset(Dataset[Tensor], ABC):
    """Target images by number, each read when it is asked for; a `DataLoader` may read them in several processes.

    An index counts from 0, or from the end where it is negative; `IndexError` is raised for one out of range. A
    sub-class sets `title` and `identity`, and implements `__len__`, `_read`, `_name` and `_label`, whose index is
    checked and counts from 0.
    """

    title: str
    """The name of the folder or file that the images come from, without its place."""
    identity: str
    """The description of the images in a run's manifest: kind, title, number, a short digest, and the options.

    It is equal for equal content and options, wherever the files lie, and is cheap: of files that are not read as a
    whole it sees names, sizes and a sample, so that an edit which keeps the size may escape it.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """Return a target (H, W) or (3, H, W), float32 in [0, 1], which the caller may change.

        Raises `InputError`, which names file and image, when it can't be used.
        """
        return self._read(check_item(type(self).__name__, index, len(self)))

    def name(self, index: int) -> str:
        """Return a path, or a file's name and a number: "cats/7.png", "t10k-images/00017"."""
        return self._name(check_item(type(self).__name__, index, len(self)))

    def label(self, index: int) -> str:
        """Return the name of an image's class, or "" where none is known."""
        return self._label(check_item(type(self).__name__, index, len(self)))

    def holds(self, path: Path) -> bool:
        """Return whether a file or folder, which need not exist, lies in the folder that the images come from."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, {len(self)} images)"

    @abstractmethod
    def _read(self, index: int) -> Tensor: ...

    @abstractmethod
    def _name(self, index: int) -> str: ...

    @abstractmethod
    def _label(self, index: int) -> str: ...


def describe(kind: str, title: str, images: int, contents: str, options: PictureOptions | None = None) -> str:
    """Return the identity of a data set."""
    names = {} if options is None else dataclasses.asdict(options)
    text = ", ".join(f"{name} {value}" for name, value in names.items())
    return f"{kind} {title}: {images} images, {contents}{'; ' if text else ''}{text}"


def digest(parts: Iterable[bytes]) -> str:
    """Return twelve hexadecimal digits for a series of byte strings."""
    total = hashlib.blake2b(digest_size=6)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))  # so that no two series run together into the same bytes
        total.update(part)
    return total.hexdigest()
