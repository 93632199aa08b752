"""`open_source`: which kind of source a path is."""

from __future__ import annotations

from pathlib import Path

from fractalops.data.targets.arrays import SUFFIXES, open_array
from fractalops.data.targets.dataset import Source, StackSource, check_limit
from fractalops.data.targets.idx import find_idx, is_idx_name, open_idx
from fractalops.data.targets.pictures import FolderSource
from fractalops.errors import InputError
from fractalops.io.files import reading
from fractalops.io.images import Preparation

_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_KINDS = "a folder of pictures, an IDX file (...-idx3-ubyte, also .gz), .npy, .npz or .safetensors"


def open_source(
    path: str | Path,
    *,
    size: int = 32,
    color: bool = False,
    invert: bool = False,
    background: str = "black",
    threshold: float | None = None,
    limit: int | None = None,
    fit_to: int | None = None,
) -> Source:
    """Open many target images, each of which is read when it is asked for.

    Args:
        path: a folder of picture files, whose sub-folders are classes (hidden files and what is no picture by its
            suffix are left out, and counted in `ignored`); an IDX file of images, packed with gzip or not, or a folder
            with one, with its labels beside it; or an array file: .npy, .npz or .safetensors (see `open_array`).
        size, color, invert, background, threshold, fit_to: as in `read_image`.
        limit: only the first so many images.

    Raises:
        InputError: for a path that is no such thing, or that can't be read.
        ValueError: for an option out of its range.
    """
    preparation = Preparation(size, background, invert, threshold, color, fit_to)
    preparation.check("open_source")
    check_limit("open_source", limit)
    path = Path(path)
    with reading(path):
        path.stat()  # the reason, where there is nothing or no permission
    if path.is_dir():
        idx = find_idx(path)
        if len(idx) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in idx)
            raise InputError(f"cannot read {path}: it holds several files of images, name one of them: {names}")
        if idx:
            return StackSource(open_idx(idx[0]), preparation, limit)
        return FolderSource(path, preparation, limit)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"cannot read {path}: {suffix} files run code as they are opened; save the images as .safetensors or .npy"
        )
    if suffix in SUFFIXES:
        return StackSource(open_array(path), preparation, limit)
    if is_idx_name(path.name):
        return StackSource(open_idx(path), preparation, limit)
    raise InputError(f"cannot read {path}: it is none of these: {_KINDS}")
