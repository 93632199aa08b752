"""Open the target images of a path of any supported format."""

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
    """Open target images as a data set. Each image is read when it is indexed.

    Args:
        path: one of the following, where a list of one path means that path:

            - a folder of picture files, whose subfolders are classes, see `PictureFolder`;
            - an IDX file of images (such as "t10k-images-idx3-ubyte", also with ".gz"), or a folder that contains one.
              The labels are read from the file of labels in the same folder, if it exists;
            - a .npy, .npz or .safetensors file with images (S, H, W), (S, 3, H, W) or (S, H, W, 3), uint8 or floats in
              [0, 1]. A .npz or .safetensors file may contain the arrays `images` and `labels` (S,);
            - a picture file, or a list of picture files, see `PictureFiles`.
        options: how a picture becomes a target. Default: None, which means `PictureOptions()`.
        limit: the number of images to use, the first ones, at least 1. Default: None, which means all.

    Returns:
        A data set whose items are (H, W), or (3, H, W) with `PictureOptions(color=True)`, float32 in [0, 1].

    Raises:
        InputError: if the path cannot be read, or if it is of another kind.
        TypeError: if an argument has a wrong type.
        ValueError: if an argument is out of its range.

    Examples:
        >>> import numpy
        >>> from fractalops.data.targets import open_targets
        >>> numpy.save("images.npy", numpy.full((5, 28, 28), 255, dtype=numpy.uint8))
        >>> targets = open_targets("images.npy", limit=3)
        >>> len(targets), targets.name(2), targets[2].shape
        (3, 'images/00002', torch.Size([28, 28]))
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
        path.stat()  # raises an error with the reason if the path does not exist or cannot be read
    if path.is_dir():
        idx = find_idx(path)
        if len(idx) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in idx)
            raise InputError(f"cannot read {path}: it contains several files of images, choose one of them: {names}")
        return StackTargets(idx[0], open_idx, options, limit) if idx else PictureFolder(path, options, limit=limit)
    check_file(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"cannot read {path}: {suffix} files can run code when they are opened; "
            "save the images as .safetensors or .npy"
        )
    if suffix in SUFFIXES:
        return StackTargets(path, open_array, options, limit)
    if is_idx_name(path.name):
        return StackTargets(path, open_idx, options, limit)
    if is_picture(path.name) or _looks_like_a_picture(path):
        return PictureFiles([path], options)
    raise InputError(f"cannot read {path}: it is none of these: {_KINDS}")


def _looks_like_a_picture(path: Path) -> bool:
    """Return whether the content of a file has a format that Pillow can read. The name of the file has no effect."""
    try:
        with decoding(path), path.open("rb") as file, Image.open(file, formats=formats()):
            return True
    except InputError as error:
        return not isinstance(error.__cause__, UnidentifiedImageError)
