"""The base class of data sets of target images."""

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
    """The base class of map-style data sets of target images. Each image is read when it is indexed.

    `open_targets` returns such a data set for a path. A `torch.utils.data.DataLoader` may read it in several processes.
    Indices count from 0. Negative indices count from the end. An index out of range raises `IndexError`.

    A subclass sets `title` and `identity` and implements `__len__`, `_read`, `_name` and `_label`. The last three get
    an index that is in range and not negative.

    Attributes:
        title: the name of the folder or file of the images, without its parent folder.
        identity: the description of the images in the manifest of a run.
    """

    title: str
    """The name of the folder or file of the images, without its parent folder."""
    identity: str
    """The description of the images in the manifest of a run: kind, title, number of images, digest, and options.

    Equal content and options give an equal identity, in any folder. The digest covers only names, sizes and samples of
    files that are not read as a whole, so it may miss an edit that keeps the size.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """Return the target image at `index`: (H, W), or (3, H, W) in color, float32 in [0, 1].

        The tensor is a copy, so the caller may change it.

        Args:
            index: the index of the image, in [-len, len).

        Raises:
            IndexError: if the index is out of range.
            InputError: if the image cannot be used. The message names the file and the image.
        """
        return self._read(check_item(type(self).__name__, index, len(self)))

    def name(self, index: int) -> str:
        """Return the name of the image at `index`: a path, or the name of a file and a number.

        Examples are "cats/7.png" and "t10k-images/00017". Raises `IndexError` if the index is out of range.
        """
        return self._name(check_item(type(self).__name__, index, len(self)))

    def label(self, index: int) -> str:
        """Return the class name of the image at `index`, or "" if it is unknown.

        Raises `IndexError` if the index is out of range.
        """
        return self._label(check_item(type(self).__name__, index, len(self)))

    def holds(self, path: Path) -> bool:
        """Return whether a path, which need not exist, is inside the folder of the images.

        It is always False for data sets that are not a folder of pictures.
        """
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
    """Return the identity of a data set, see `TargetDataset.identity`. `contents` is a digest of the images."""
    names = {} if options is None else dataclasses.asdict(options)
    text = ", ".join(f"{name} {value}" for name, value in names.items())
    return f"{kind} {title}: {images} images, {contents}{'; ' if text else ''}{text}"


def digest(parts: Iterable[bytes]) -> str:
    """Return a digest of a series of byte strings: twelve hexadecimal digits."""
    total = hashlib.blake2b(digest_size=6)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))  # else ("ab", "c") and ("a", "bc") would give the same digest
        total.update(part)
    return total.hexdigest()
