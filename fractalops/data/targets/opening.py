"""`open_targets`: which kind of data set a path is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fractalops._checks import check_count, or_default
from fractalops.data.targets.arrays import SUFFIXES, open_array
from fractalops.data.targets.dataset import TargetDataset
from fractalops.data.targets.idx import find_idx, is_idx_name, open_idx
from fractalops.data.targets.pictures import PictureFiles, PictureFolder, is_picture
from fractalops.data.targets.stack import StackTargets
from fractalops.errors import InputError
from fractalops.io.decoding import decoding, formats
from fractalops.io.files import check_file, reading
from fractalops.io.picture_options import PictureOptions

_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_KINDS = "a picture, a folder of pictures, an IDX file (...-idx3-ubyte, also .gz), .npy, .npz or .safetensors"


def open_targets(
    path: str | Path | Sequence[str | Path], options: PictureOptions | None = None, *, limit: int | None = None
) -> TargetDataset:
    """Open many target images, each of which is read when it is asked for.

    Args:
        path: a folder of picture files, whose sub-folders are classes (hidden files and what is no picture by its
            suffix are left out, and counted in `ignored`); an IDX file of images, packed with gzip or not, or a folder
            with one, with its labels beside it; an array file: .npy, .npz or .safetensors (see `open_array`); or
            picture files, one or a list of them. A list of one path is that path.
        options: how a picture becomes a target; None takes the defaults.
        limit: only the first so many images.

    Raises:
        InputError: for a path that is no such thing, or that can't be read.
        TypeError, ValueError: for an argument of a wrong type, or out of its range.
    """
    options = or_default("open_targets", "options", options, PictureOptions)
    check_count("open_targets", "limit", limit, optional=True)
    if not isinstance(path, (str, Path, Sequence)):
        raise TypeError(f"open_targets: path must be a path or a list of paths, got {type(path).__name__}")
    paths = [path] if isinstance(path, (str, Path)) else path
    if len(paths) != 1:
        return PictureFiles(paths[:limit], options)
    path = Path(paths[0])
    with reading(path):
        path.stat()  # the reason, where there is nothing or no permission
    if path.is_dir():
        idx = find_idx(path)
        if len(idx) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in idx)
            raise InputError(f"cannot read {path}: it holds several files of images, name one of them: {names}")
        return StackTargets(idx[0], open_idx, options, limit) if idx else PictureFolder(path, options, limit=limit)
    check_file(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"cannot read {path}: {suffix} files run code as they are opened; save the images as .safetensors or .npy"
        )
    if suffix in SUFFIXES:
        return StackTargets(path, open_array, options, limit)
    if is_idx_name(path.name):
        return StackTargets(path, open_idx, options, limit)
    if is_picture(path.name) or _looks_like_a_picture(path):
        return PictureFiles([path], options)
    raise InputError(f"cannot read {path}: it is none of these: {_KINDS}")


def _looks_like_a_picture(path: Path) -> bool:
    """Return whether the content of a file is in a format that Pillow knows, whatever the file's name is."""
    try:
        with decoding(path), path.open("rb") as file, Image.open(file, formats=formats()):
            return True
    except InputError as error:
        return not isinstance(error.__cause__, UnidentifiedImageError)
