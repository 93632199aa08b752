"""Data sets of picture files: given files, or the files of a folder, whose subfolders are classes."""

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
        # The identity of a folder includes the paths within it. The identity of single files omits their folders.
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
    """A data set of given picture files, in the given order. The names are the given paths, and there are no labels.

    A file that cannot be read raises `InputError` when it is indexed.

    Args:
        paths: the paths of the files: a list of at least one path, without duplicates.
        options: how each picture becomes a target. Default: None, which means `PictureOptions()`.

    Raises:
        TypeError: if `paths` is not a list or another sequence of paths.
        ValueError: if `paths` is empty.
        InputError: if a path is given twice.

    Examples:
        >>> from PIL import Image
        >>> from fractalops.data.targets import PictureFiles
        >>> Image.new("L", (32, 24), "white").save("white.png")
        >>> targets = PictureFiles(["white.png"])
        >>> targets.name(0), targets[0].shape
        ('white.png', torch.Size([24, 32]))
    """

    def __init__(self, paths: Sequence[str | Path], options: PictureOptions | None = None) -> None:
        options = or_default("PictureFiles", "options", options, PictureOptions)
        if not isinstance(paths, Sequence) or isinstance(paths, str):
            raise TypeError(f"PictureFiles: paths must be a list of paths, got {type(paths).__name__}")
        if not paths:
            raise ValueError("PictureFiles: paths must not be empty, got 0 paths")
        named: dict[str, Path] = {}
        for path in map(Path, paths):
            if str(path) in named:
                raise InputError(f"cannot use {path}: it is given twice")
            named[str(path)] = path
        first, *others = named.values()
        super().__init__("pictures", f"{first.name}{f' and {len(others)} more' if others else ''}", named, options)

    def _label(self, index: int) -> str:
        return ""


class PictureFolder(_Pictures):
    """A data set of the picture files in a folder and its subfolders, in natural order: "2.png" is before "10.png".

    The label of a picture is the first-level subfolder that contains it, or "" for pictures directly in the folder. Its
    name is the path within the folder. Hidden files, hidden subfolders, and files without the suffix of a picture
    format are left out. Symbolic links are followed.

    Args:
        folder: the path of the folder.
        options: how each picture becomes a target. Default: None, which means `PictureOptions()`.
        limit: the number of pictures to use, the first ones, at least 1. Default: None, which means all.

    Attributes:
        ignored: the number of files that are left out, without those in hidden subfolders.

    Raises:
        InputError: if the folder cannot be read or contains no picture.
        TypeError: if an argument has a wrong type.
        ValueError: if `limit` is below 1.

    Examples:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from fractalops.data.targets import PictureFolder
        >>> Path("shapes/squares").mkdir(parents=True, exist_ok=True)
        >>> Image.new("L", (32, 32), "white").save("shapes/squares/1.png")
        >>> targets = PictureFolder("shapes")
        >>> targets.name(0), targets.label(0), targets[0].shape
        ('squares/1.png', 'squares', torch.Size([32, 32]))
    """

    def __init__(self, folder: str | Path, options: PictureOptions | None = None, *, limit: int | None = None) -> None:
        options = or_default("PictureFolder", "options", options, PictureOptions)
        check_count("PictureFolder", "limit", limit, optional=True)
        self._folder = Path(folder)
        with reading(folder):
            names = [path.relative_to(folder).as_posix() for path in _walk(self._folder)]
        pictures = sorted(filter(is_picture, names), key=_natural)
        self.ignored = len(names) - len(pictures)
        """The number of files that are left out because they are hidden or lack the suffix of a picture format."""
        if not pictures:
            raise InputError(f"cannot read {folder}: it contains no picture (other files: {self.ignored})")
        paths = {name: self._folder / name for name in pictures[:limit]}
        super().__init__("folder", self._folder.resolve().name, paths, options)

    def holds(self, path: Path) -> bool:
        """Return whether a path, which need not exist, is inside the folder."""
        return path.resolve().is_relative_to(self._folder.resolve())

    def _label(self, index: int) -> str:
        return self._names[index].rpartition("/")[0].partition("/")[0]


def is_picture(name: str) -> bool:
    """Return whether a file is not hidden and has the suffix of a picture format that can be read."""
    path = Path(name)
    return not path.name.startswith(".") and Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its subfolders. Links are followed, and hidden folders are left out."""

    def fail(error: OSError) -> None:
        with reading(error.filename):
            raise error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        above = {path.resolve() for path in Path(place).parents if path.is_relative_to(folder)}
        if Path(place).resolve() in above:  # a link to a folder that contains it, which would not end
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files)


def _size(path: Path) -> bytes:
    try:
        return str(path.stat().st_size).encode()
    except OSError:  # for instance a broken link, which raises an error when the image is read
        return b"unreadable"


def _natural(name: str) -> tuple[object, ...]:
    """Return a key that sorts paths folder by folder, and numbers in names by value: 2.png before 10.png."""
    parts = [re.split(r"(\d+)", part.lower()) for part in name.split("/")]
    # Text and digits alternate, text first. The full name is the last key, for names equal except for case and zeros.
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], name
