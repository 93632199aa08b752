"""Pictures in and out: files to targets in [0, 1], gray or in color; tensors to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fractalops._checks import or_default
from fractalops.errors import InputError
from fractalops.io.decoding import open_picture
from fractalops.io.files import PlainFile, atomic_path, one_line
from fractalops.io.notices import log_notices
from fractalops.io.picture_options import PictureOptions
from fractalops.io.preparing import prepare


def read_image(path: str | Path, options: PictureOptions | None = None) -> Tensor:
    """Return the target that an image file holds: (H, W), or in color (3, H, W), float32 in [0, 1].

    Of an animation, or a file of several pages, `options.frame` is taken, else the first. Colors are brought to sRGB
    where the file has a color profile, and transparent parts are laid over `options.background`. Without
    `options.color` the picture becomes gray (ITU-R 601 luma). `options.stretch` makes its lowest value 0 and its
    highest 1; values that leave their range, as floating-point ones may, are always stretched so. A picture whose
    longest side exceeds `options.size` pixels is scaled down with its aspect ratio kept, and never scaled up, unless
    `options.fit_to` is given: its longest side then becomes exactly that, by bilinear interpolation. The rotation noted
    by a camera is applied. Then `options.invert` swaps dark and bright, and `options.threshold` turns pixels above it
    to 1 and the others to 0.

    A JPEG of more than 4 million pixels is decoded at a half, a quarter or an eighth, where that is at least four times
    the size asked for; that changes values by 0.05 at most.

    A change that a user may want to know of is logged as a warning of the logger "fractalops.io".

    Raises `InputError` when the file can't be read as an image, when it is too large (a side above 1,000,000 pixels,
    more than twice Pillow's `Image.MAX_IMAGE_PIXELS`, or decoding that takes more memory than FRACTALOPS_MEMORY_LIMIT,
    without it 1 GiB), or when no pixel above 0 is left.
    """
    target, notices = read_picture(Path(path), or_default("read_image", "options", options, PictureOptions))
    log_notices(path, notices)
    return target


def read_picture(path: Path, options: PictureOptions) -> tuple[Tensor, list[str]]:
    """Return the target that `read_image` returns, and the notices of it, which are not logged."""
    return prepare(open_picture(path, options), path, options)


def check_savable(path: str | Path) -> None:
    """Raise `InputError` when the suffix of `path` names no format that a picture can be saved in."""
    if format_of(path) not in Image.SAVE:
        raise InputError(f"cannot save {path}: unknown suffix {Path(path).suffix.lower()!r}, use for instance .png")


def format_of(path: str | Path) -> str:
    """Return Pillow's name of the format that the suffix of `path` names; "" where it names none."""
    return Image.registered_extensions().get(Path(path).suffix.lower(), "")  # loads the plugins that fill Image.SAVE


def save_image(image: Tensor, path: str | Path) -> None:
    """Save an image (H, W) or (3, H, W) in the format that the suffix of `path` names.

    Values are clamped to [0, 1]. Raises `InputError` when no format has that suffix or can hold the picture.
    """
    if not (image.ndim == 2 or (image.ndim == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            f"save_image: image must have shape (H, W) or (3, H, W) with H, W >= 1, got {tuple(image.shape)}"
        )
    save_picture(to_picture(image), path)


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Save a picture in the format that the suffix of `path` names.

    Raises `InputError` when no format has that suffix or can hold the picture.
    """
    check_savable(path)
    with saving(path) as file:
        picture.save(file, format_of(path))


@contextmanager
def saving(path: str | Path) -> Iterator[PlainFile]:
    """Yield the file that Pillow writes a picture to. Raises `InputError` when the format can't hold the picture."""
    with atomic_path(path) as temporary, PlainFile(temporary) as file:
        try:
            yield file
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a full disk is not the format's fault
            raise InputError(f"cannot save {path}: {one_line(error)}") from error


def to_picture(image: Tensor) -> Image.Image:
    """Return an image (H, W), or (C, H, W) with up to four channels, as a picture: L, LA, RGB or RGBA.

    Values are clamped to [0, 1].
    """
    levels = image.detach().cpu().to(torch.float32).nan_to_num(0.0).clamp(0.0, 1.0).mul(255.0).round()
    levels = levels.to(torch.uint8)
    if levels.ndim == 3:
        levels = levels.permute(1, 2, 0).squeeze(2)  # (H, W) or (H, W, C)
    return Image.fromarray(levels.contiguous().numpy())


class Page:
    """A picture that is put together from parts. It holds bytes, where a tensor would hold floats.

    Where it has no part it has the gray `background`, or nothing if one of its channels is opacity.
    """

    def __init__(self, size: tuple[int, int], channels: int, background: float = 0.0) -> None:
        height, width = size
        mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
        level = 0 if mode.endswith("A") else round(255 * background)
        self.picture = Image.new(mode, (width, height), (level,) * channels)

    def put(self, part: Tensor, top: int, left: int) -> None:
        """Put a part (C, h, w) of the picture, with values in [0, 1], where its first pixel belongs."""
        self.picture.paste(to_picture(part), (left, top))
