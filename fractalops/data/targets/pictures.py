"""Picture files: those that are named, or those in a folder, whose sub-folders are classes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from fractalops._checks import check_count, or_default
from fractalops.data.targets.dataset import TargetDataset, describe, digest
from fractalops.errors import InputError
from fractalops.io.decoding import FORMATS
from fractalops.io.files import reading
from fractalops.io.images import read_picture
from fractalops.io.notices import log_notices
from fractalops.io.picture_options import PictureOptions


class _Pictures(TargetDataset):
    """The base class of data sets of picture files."""

    def __init__(self, kind: str, title: str, paths: dict[str, Path], options: PictureOptions) -> None:
        self._names, self._paths, self._options = list(paths), list(paths.values()), options
        self.title = title
        # The names within a folder are a part of what the images are; of single files the place is not.
        names = self._names if kind == "folder" else [path.name for path in self._paths]
        parts = zip(names, self._paths, strict=True)
        contents = digest(part for name, path in parts for part in (os.fsencode(name), _size(path)))
        self.identity = describe(kind, title, len(paths), contents, options)

    def __len__(self) -> int:
        return len(self._names)

    def _name(self, index: int) -> str:
        return self._names[index]

    def _read(self, index: int) -> Tensor:
        path = self._paths[index]
        target, notices = read_picture(path, self._options)
        log_notices(path, notices, logging.INFO)
        return target


class PictureFiles(_Pictures):
    """Picture files in the order given, named by their paths as given, without labels.

    Args:
        paths: at least one file, none of them twice.
        options: how each becomes a target; None takes the defaults.

    Raises `TypeError` for what is no list, `ValueError` for no path, `InputError` for one that is given twice. A file
    that can't be read is an error when it is asked for.
    """

    def __init__(self, paths: Sequence[str | Path], options: PictureOptions | None = None) -> None:
        options = or_default("PictureFiles", "options", options, PictureOptions)
        if not isinstance(paths, Sequence) or isinstance(paths, str):
            raise TypeError(f"PictureFiles: paths must be a list of paths, got {type(paths).__name__}")
        if not paths:
            raise ValueError("PictureFiles: paths must not be empty, got none of them")
        named: dict[str, Path] = {}
        for path in map(Path, paths):
            if str(path) in named:
                raise InputError(f"cannot use {path} twice: name each picture once")
            named[str(path)] = path
        first, *others = named.values()
        super().__init__("pictures", f"{first.name}{f' and {len(others)} more' if others else ''}", named, options)

    def _label(self, index: int) -> str:
        return ""


class PictureFolder(_Pictures):
    """Picture files in a folder and its sub-folders, of which the first level is the class, in natural order.

    Args:
        folder: hidden files and sub-folders, and files that by their suffix are no pictures, are left out; links are
            followed.
        options: how each becomes a target; None takes the defaults.
        limit: only the first so many pictures.

    Raises `InputError` when the folder can't be read or holds no picture.
    """

    def __init__(self, folder: str | Path, options: PictureOptions | None = None, *, limit: int | None = None) -> None:
        options = or_default("PictureFolder", "options", options, PictureOptions)
        check_count("PictureFolder", "limit", limit, optional=True)
        self._folder = Path(folder)
        with reading(folder):
            names = [path.relative_to(folder).as_posix() for path in _walk(self._folder)]
        pictures = sorted(filter(is_picture, names), key=_natural)
        self.ignored = len(names) - len(pictures)
        """How many files are left out: hidden ones, and those that by their suffix are no pictures."""
        if not pictures:
            raise InputError(f"cannot read {folder}: there is no picture in it, but {self.ignored} other files")
        paths = {name: self._folder / name for name in pictures[:limit]}
        super().__init__("folder", self._folder.resolve().name, paths, options)

    def holds(self, path: Path) -> bool:
        """Return whether a file is in the folder."""
        return path.resolve().is_relative_to(self._folder.resolve())

    def _label(self, index: int) -> str:
        return self._names[index].rpartition("/")[0].partition("/")[0]


def is_picture(name: str) -> bool:
    """Return whether a file is not hidden, and its suffix is that of a format that can be read."""
    path = Path(name)
    return not path.name.startswith(".") and Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its sub-folders, links followed, but hidden folders left out."""

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
    """Return a key that sorts paths folder by folder, and numbers within names by their value: 2.png before 10.png."""
    parts = [re.split(r"(\d+)", part.lower()) for part in name.split("/")]
    # Text and digits alternate, beginning with text; names that differ in case or zeros alone are told apart last.
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], name
