"""Folders of picture files, whose sub-folders are classes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from torch import Tensor

from fractalops.data.targets.dataset import check_number, describe, digest
from fractalops.errors import InputError
from fractalops.io.files import reading
from fractalops.io.images import Preparation, picture_size, read_image

# Pillow knows the suffixes of these, but reads them only by code that a program brings along.
_NO_PICTURES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})


class FolderSource:
    """Picture files in a folder and its sub-folders, of which the first level is the class.

    Raises `InputError` when the folder can't be read or holds no picture.
    """

    def __init__(self, folder: Path, preparation: Preparation, limit: int | None) -> None:
        with reading(folder):
            names = [path.relative_to(folder).as_posix() for path in _walk(folder)]
        pictures = sorted(filter(is_picture, names), key=_natural)
        self.ignored = len(names) - len(pictures)
        """How many files are left out: hidden ones, and those that by their suffix are no pictures."""
        if not pictures:
            raise InputError(f"cannot read {folder}: there is no picture in it, but {self.ignored} other files")
        self._folder, self._preparation, self._names = folder, preparation, pictures[:limit]
        contents = digest(part for name in self._names for part in (os.fsencode(name), _size(folder / name)))
        self.identity = describe("folder", folder.resolve().name, len(self._names), contents, preparation)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, image: int) -> str:
        return self._names[check_number(image, len(self))]

    def label(self, image: int) -> str:
        return self.name(image).rpartition("/")[0].partition("/")[0]

    def shape(self, image: int) -> tuple[int, ...]:
        return self._preparation.target_shape(*picture_size(self._file(image)))

    def read(self, image: int) -> Tensor:
        return read_image(self._file(image), **asdict(self._preparation))[0]

    def holds(self, path: Path) -> bool:
        """Whether a file or folder, which need not exist, lies in this folder, or is it."""
        return path.resolve().is_relative_to(self._folder.resolve())

    def _file(self, image: int) -> Path:
        path = self._folder / self.name(image)
        with reading(path):
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe, for instance, whose end may never come
                raise InputError(f"cannot read {path}: it is not a file")
        return path


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name: one that is not hidden, with the suffix of a format that can be read."""
    path = Path(name)
    format_name = Image.registered_extensions().get(path.suffix.lower())  # loads the plugins that fill Image.OPEN
    return not path.name.startswith(".") and format_name in Image.OPEN and format_name not in _NO_PICTURES


def _walk(folder: Path) -> Iterator[Path]:
    """All files in a folder and its sub-folders, links followed, but hidden folders left out."""

    def fail(error: OSError) -> None:
        with reading(error.filename):
            raise error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        above = {path.resolve() for path in Path(place).parents if path.is_relative_to(folder)}
        if Path(place).resolve() in above:  # a link back to where it lies: there is no end to it
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files)


def _size(path: Path) -> bytes:
    try:
        return str(path.stat().st_size).encode()
    except OSError:  # a link to nothing, for instance: a bad image, as reading it will tell
        return b"unreadable"


def _natural(name: str) -> tuple[object, ...]:
    """A key that sorts paths folder by folder, and numbers within names by their value: 2.png before 10.png."""
    parts = [re.split(r"(\d+)", part.lower()) for part in name.split("/")]
    # Text and digits alternate, beginning with text; names that differ in case or zeros alone are told apart last.
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], name
