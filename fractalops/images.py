"""Pictures in and out: files to targets in [0, 1], grey or in colour; tensors to files, sheets and animations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError
from torch import Tensor

from fractalops.errors import InputError
from fractalops.files import atomic_path

_GREY_MODES = ("1", "L")
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_SEPARATOR = 0.25  # the grey between the tiles of a sheet


def read_image(
    path: str | Path,
    *,
    size: int = 32,
    background: str = "black",
    invert: bool = False,
    threshold: float | None = None,
    colour: bool = False,
) -> tuple[Tensor, list[str]]:
    """Read an image file as a target for learning.

    Returns the target (H, W), or with `colour` red, green and blue (3, H, W), float32 in [0, 1], and a notice for
    each change that a user may want to know of.

    The rotation noted by a camera is applied; of an animation the first frame is taken; transparent parts are
    laid over `background` ("black" or "white"); without `colour` it becomes grey (ITU-R 601 luma); a picture
    whose longest side exceeds `size` pixels is scaled down with its aspect ratio kept, and never scaled up; then
    `invert` swaps dark and bright, and `threshold` turns pixels above it to 1 and the others to 0, channel by
    channel.

    Raises `InputError` when the file can't be read as an image, or when no pixel above 0 is left.
    """
    if size < 1:
        raise ValueError(f"read_image: size must be at least 1, got {size}")
    if background not in ("black", "white"):
        raise ValueError(f"read_image: background must be 'black' or 'white', got {background!r}")
    if threshold is not None and not 0.0 <= threshold < 1.0:
        raise ValueError(f"read_image: threshold must lie in [0, 1), got {threshold}")

    notices: list[str] = []
    bands = _scale_down(_to_bands(_open(Path(path), notices), colour, background, path, notices), size, notices)
    values = numpy.stack([numpy.array(band, dtype=numpy.float32) for band in bands])  # (1 or 3, H, W)
    target = torch.from_numpy(values if colour else values[0]).clamp(0.0, 1.0)
    if invert:
        target = 1.0 - target
    if threshold is not None:
        target = (target > threshold).to(torch.float32)
    if not bool((target > 0.0).any()):
        raise InputError(f"cannot use {path}: image must not be blank, {_why_blank(background, invert, threshold)}")
    if not invert and float(target.mean()) > 0.5:
        notices.append("mostly bright; if the shape is dark on a bright page, use --invert")
    return target, notices


def _open(path: Path, notices: list[str]) -> Image.Image:
    """The first frame of an image file, fully decoded and upright."""
    try:
        with warnings.catch_warnings():
            # Pillow warns above 89 million pixels, which good cameras have, and refuses twice as many.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Not by its path: Pillow would map uncompressed TIFF files, and garbles those that lie on their side.
            with path.open("rb") as file, Image.open(file) as image:
                frames = getattr(image, "n_frames", 1)
                image.load()
                upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        what = "the file is empty" if path.stat().st_size == 0 else "it is not an image in a known format"
        raise InputError(f"cannot read {path}: {what}") from None
    except Image.DecompressionBombError:
        raise InputError(f"cannot read {path}: it has too many pixels") from None
    except Exception as error:  # decoders raise almost anything (SyntaxError, struct.error ...) on a damaged file
        if isinstance(error, OSError) and error.strerror is not None:  # missing, a folder, not permitted ...
            raise InputError(f"cannot read {path}: {error.strerror.lower()}") from None
        raise InputError(f"cannot read {path}: the image is damaged ({_one_line(error)})") from error
    if frames > 1:
        notices.append(f"{frames} frames: the first is used")
    return upright


def _to_bands(
    image: Image.Image, colour: bool, background: str, path: str | Path, notices: list[str]
) -> list[Image.Image]:
    """Any mode to mode "F" (32-bit float) with values in [0, 1]: one picture in grey, three in colour."""
    if image.mode in _WIDE_MODES:
        return [_wide_to_grey(image, path, notices)] * (3 if colour else 1)
    try:
        if image.has_transparency_data:
            image = _composite(image.convert("RGBA"), background, notices)
        elif image.mode not in _GREY_MODES:
            image = image.convert("RGB")
    except ValueError as error:
        raise InputError(f"cannot read {path}: {_one_line(error)}") from None
    if colour:
        bands = image.convert("RGB").split()
    else:
        if image.mode == "RGB" and _is_coloured(image):
            notices.append("colour converted to grey")
        bands = (image.convert("L"),)
    return [_as_float(numpy.array(band, dtype=numpy.float32) / 255.0) for band in bands]


def _wide_to_grey(image: Image.Image, path: str | Path, notices: list[str]) -> Image.Image:
    """Grey of more than 8 bits a pixel, whose range the mode alone does not always tell."""
    values = numpy.array(image).astype(numpy.float64)  # (H, W)
    if not numpy.isfinite(values).all():
        raise InputError(f"cannot read {path}: some of its pixels are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    natural_high = 1.0 if image.mode == "F" else 65535.0
    if low >= 0.0 and high <= natural_high:
        return _as_float(values / natural_high)
    notices.append(f"values from {low:g} to {high:g} stretched to the range from 0 to 1")
    return _as_float((values - low) / ((high - low) or 1.0))


def _as_float(values: numpy.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(numpy.float32))


def _composite(image: Image.Image, background: str, notices: list[str]) -> Image.Image:
    """RGBA over an opaque background: RGB."""
    opaque = Image.new("RGB", image.size, background)
    opaque.paste(image, mask=image.getchannel("A"))
    if image.getchannel("A").getextrema() != (255, 255):
        notices.append(f"transparent parts laid over {background}")
    return opaque


def _is_coloured(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))


def _scale_down(bands: list[Image.Image], size: int, notices: list[str]) -> list[Image.Image]:
    width, height = bands[0].size
    longest = max(width, height)
    if longest <= size:
        return bands
    new_width, new_height = max(1, round(width * size / longest)), max(1, round(height * size / longest))
    notices.append(f"scaled from {width} x {height} to {new_width} x {new_height} pixels")
    return [band.resize((new_width, new_height), Image.Resampling.LANCZOS) for band in bands]


def _why_blank(background: str, invert: bool, threshold: float | None) -> str:
    if invert:
        return "but inverted every pixel is black: leave out --invert"
    if threshold is not None:
        return f"but no pixel is brighter than the threshold {threshold:g}"
    if background == "black":
        advice = "a black drawing on a transparent page needs --background white --invert"
        return f"but every pixel is black ({advice})"
    return "but every pixel is black"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Every pixel of images (..., H, W) as a square of factor x factor: (..., factor * H, factor * W)."""
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def enlargement(height: int, width: int, wanted: int) -> int:
    """The largest whole factor, at least 1, that keeps the longest side within `wanted` pixels."""
    return max(1, wanted // max(height, width))


def contact_sheet(images: Tensor, *, columns: int | None = None, gap: int = 4) -> Tensor:
    """Images (S, H, W) or (S, 3, H, W) as the tiles of one picture, row by row, in a dark grey frame `gap` pixels wide.

    Without `columns` the sheet is about square. Returns (rows * (H + gap) + gap, columns * (W + gap) + gap), after the
    three channels of images in colour.
    """
    if images.ndim not in (3, 4) or images.shape[0] == 0:
        raise ValueError(
            f"contact_sheet: images must have shape (S, H, W) or (S, 3, H, W) with S >= 1, got {tuple(images.shape)}"
        )
    count, *channels, height, width = images.shape
    columns = min(columns or math.isqrt(count - 1) + 1, count)
    rows = -(-count // columns)
    sheet = images.new_full((*channels, rows * (height + gap) + gap, columns * (width + gap) + gap), _SEPARATOR)
    for position in range(count):
        top = gap + (position // columns) * (height + gap)
        left = gap + (position % columns) * (width + gap)
        sheet[..., top : top + height, left : left + width] = images[position]
    return sheet


def comparison(target: Tensor, reconstruction: Tensor, *, wanted: int = 384) -> Tensor:
    """The target (H, W) or (3, H, W) on the left, its reconstruction on the right, both enlarged."""
    if target.shape != reconstruction.shape:
        raise ValueError(
            f"comparison: reconstruction must have the target's shape {tuple(target.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )
    pair = torch.stack((target.detach(), reconstruction.detach().to(target)))  # (2, ...)
    return contact_sheet(enlarge(pair, enlargement(target.shape[-2], target.shape[-1], wanted)), columns=2)


def check_savable(path: str | Path) -> None:
    """Raise `InputError` when the suffix of `path` names no format that a picture can be saved in."""
    suffix = Path(path).suffix.lower()
    format_name = Image.registered_extensions().get(suffix)  # loads the plugins that fill Image.SAVE
    if format_name is None or format_name not in Image.SAVE:
        raise InputError(f"cannot save {path}: unknown suffix {suffix!r}, use for instance .png")


def save_image(image: Tensor, path: str | Path) -> None:
    """Save an image (H, W) or (3, H, W) in the format that the suffix of `path` names.

    Values are clamped to [0, 1]. Raises `InputError` when no format has that suffix or can hold the picture.
    """
    check_savable(path)
    picture = _to_picture(image, "save_image")
    with atomic_path(path) as temporary:
        try:
            picture.save(temporary)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a full disk is not the format's fault
            raise InputError(f"cannot save {path}: {_one_line(error)}") from error


def save_animation(
    frames: Sequence[Tensor],
    path: str | Path,
    *,
    frame_milliseconds: int = 120,
    last_milliseconds: int = 2000,
) -> None:
    """Save images (H, W) or (3, H, W) with values in [0, 1] as an endless GIF that rests on its last frame."""
    if not frames:
        raise ValueError("save_animation: frames must not be empty, got 0 frames")
    first, *others = (_to_picture(frame, "save_animation") for frame in frames)
    durations = [frame_milliseconds] * len(others) + [last_milliseconds]
    with atomic_path(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


def _to_picture(image: Tensor, function: str) -> Image.Image:
    if not (image.ndim == 2 or (image.ndim == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            f"{function}: image must have shape (H, W) or (3, H, W) with H, W >= 1, got {tuple(image.shape)}"
        )
    levels = image.detach().cpu().to(torch.float32).nan_to_num(0.0).clamp(0.0, 1.0).mul(255.0).round()
    levels = levels.to(torch.uint8)
    return Image.fromarray((levels if image.ndim == 2 else levels.permute(1, 2, 0)).numpy())
