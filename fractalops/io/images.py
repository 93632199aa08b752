"""Read pictures as targets in [0, 1], in gray or in color, and save tensors as pictures."""

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
    """Read an image file as a target.

    The steps are applied in this order:

    1. The frame `options.frame` of an animation or of a file of several pages is selected; by default the first one.
    2. Colors are converted to sRGB if the file has a color profile.
    3. Transparent parts are drawn on the color `options.background`.
    4. Colors are converted to gray (ITU-R 601 luma) unless `options.color` is set.
    5. If `options.stretch` is set, the lowest value becomes 0 and the highest 1. Values out of range, which
       floating-point files may have, are always stretched.
    6. If the longest side exceeds `options.size` pixels, the picture is scaled down to that size (Lanczos). A smaller
       picture keeps its size. If `options.fit_to` is given, the longest side becomes exactly that many pixels
       (bilinear), and small pictures are scaled up. The aspect ratio is kept.
    7. The rotation noted by the camera is applied.
    8. If `options.invert` is set, dark and bright are swapped.
    9. If `options.threshold` is given, values above it become 1 and the others 0.

    A JPEG of more than 4 million pixels is decoded at 1/2, 1/4 or 1/8 of its size if that is at least four times the
    requested size. This changes values by at most 0.05.

    Changes that a user may want to know of are logged as warnings of the logger "fractalops.io".

    Args:
        path: The image file. The format is detected from its content.
        options: How the picture becomes a target; None takes the defaults of `PictureOptions`.

    Returns:
        The target, float32 in [0, 1]: (H, W), or (3, H, W) if `options.color` is set.

    Raises:
        InputError: If the file can't be read as an image; if it is too large (a side of more than 1,000,000 pixels,
            more than twice the pixels of Pillow's `Image.MAX_IMAGE_PIXELS`, or decoding that needs more memory than
            the environment variable FRACTALOPS_MEMORY_LIMIT allows, by default 1 GiB); or if every pixel is 0.

    Examples:
        >>> import torch
        >>> from fractalops.io import PictureOptions
        >>> from fractalops.io.images import read_image, save_image
        >>> save_image(torch.eye(640), "line.png")
        >>> read_image("line.png", PictureOptions(size=64)).shape
        torch.Size([64, 64])
    """
    target, notices = read_picture(Path(path), or_default("read_image", "options", options, PictureOptions))
    log_notices(path, notices)
    return target


def read_picture(path: Path, options: PictureOptions) -> tuple[Tensor, list[str]]:
    """Return the target of `read_image` and its notices, without logging them."""
    return prepare(open_picture(path, options), path, options)


def check_savable(path: str | Path) -> None:
    """Raise `InputError` unless a picture can be saved in the format given by the suffix of `path`."""
    if format_of(path) not in Image.SAVE:
        raise InputError(f"cannot save {path}: unknown suffix {Path(path).suffix.lower()!r}, use for example .png")


def format_of(path: str | Path) -> str:
    """Return Pillow's name of the format given by the suffix of `path`, or "" if the suffix is unknown."""
    return Image.registered_extensions().get(Path(path).suffix.lower(), "")  # loads the plugins that fill Image.SAVE


def save_image(image: Tensor, path: str | Path) -> None:
    """Save an image in the format given by the suffix of `path`, for example .png.

    Args:
        image: An image (H, W) or (3, H, W). Values are clamped to [0, 1].
        path: The file to write.

    Raises:
        InputError: If the suffix is unknown, or if the format can't store the picture.
        ValueError: If `image` has another shape.

    Examples:
        >>> import torch
        >>> from fractalops.io.images import save_image
        >>> save_image(torch.rand(3, 64, 64), "noise.png")
    """
    if not (image.ndim == 2 or (image.ndim == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            f"save_image: image must have shape (H, W) or (3, H, W) with H, W >= 1, got {tuple(image.shape)}"
        )
    save_picture(to_picture(image), path)


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Save a picture in the format given by the suffix of `path`.

    Raises `InputError` if the suffix is unknown, or if the format can't store the picture.
    """
    check_savable(path)
    with saving(path) as file:
        picture.save(file, format_of(path))


@contextmanager
def saving(path: str | Path) -> Iterator[PlainFile]:
    """Yield the file that Pillow writes a picture to. Raises `InputError` if the format can't store the picture."""
    with atomic_path(path) as temporary, PlainFile(temporary) as file:
        try:
            yield file
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a system error, such as a full disk, has nothing to do with the format
            raise InputError(f"cannot save {path}: {one_line(error)}") from error


def to_picture(image: Tensor) -> Image.Image:
    """Convert an image (H, W), or (C, H, W) with up to four channels, to a picture of mode L, LA, RGB or RGBA.

    Values are clamped to [0, 1].
    """
    levels = image.detach().cpu().to(torch.float32).nan_to_num(0.0).clamp(0.0, 1.0).mul(255.0).round()
    levels = levels.to(torch.uint8)
    if levels.ndim == 3:
        levels = levels.permute(1, 2, 0).squeeze(2)  # (H, W) or (H, W, C)
    return Image.fromarray(levels.contiguous().numpy())


class Page:
    """A picture that is assembled from parts. It stores bytes, which take less memory than the floats of a tensor.

    Where no part is put, it has the gray value `background`, or is transparent if one of its channels is opacity.
    """

    def __init__(self, size: tuple[int, int], channels: int, background: float = 0.0) -> None:
        height, width = size
        mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
        level = 0 if mode.endswith("A") else round(255 * background)
        self.picture = Image.new(mode, (width, height), (level,) * channels)

    def put(self, part: Tensor, top: int, left: int) -> None:
        """Put a part (C, h, w) with values in [0, 1] at the row `top` and the column `left`."""
        self.picture.paste(to_picture(part), (left, top))
