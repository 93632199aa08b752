"""Convert decoded pictures and arrays to targets: background, gray or color, range, size and threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageChops
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.decoding import Decoded, check_frame
from fractalops.io.files import one_line
from fractalops.io.picture_options import PictureOptions
from fractalops.io.profiles import to_srgb

_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_GRAY_MODES = ("1", "L", "La", "LA")
_LUMA = numpy.array([0.299, 0.587, 0.114], dtype=numpy.float32)  # ITU-R 601, as Pillow converts to gray
_STRIP = 2**22  # pixels that are processed together
_DARK = 0.25  # fraction of white below which a picture is dark; 14-bit data in 16-bit values reach it
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation

_Rows = Callable[[int, int], list[numpy.ndarray]]  # (first row, last row + 1) -> 1 or 3 arrays (h, W)


@dataclass(frozen=True)
class _Levels:
    """The values of a picture, read row by row, in gray or in color, already drawn on the background."""

    read: _Rows
    pixels: tuple[int, int]  # width and height
    extent: tuple[float, float]
    """Width and height of the picture in these pixels. It may cover the last column and row only in part."""
    white: float = 255.0
    bounded: bool = True
    """Whether all values are known to be in [0, `white`]."""
    deep: bool = False
    """Whether the file has more than 8 bits per value, of which the picture may use only a part."""

    def strips(self) -> Iterator[list[numpy.ndarray]]:
        """Yield the values of a few rows at a time."""
        width, height = self.pixels
        rows = max(1, _STRIP // width)
        for top in range(0, height, rows):
            yield self.read(top, min(top + rows, height))


def prepare(picture: Decoded | numpy.ndarray, name: str | Path, options: PictureOptions) -> tuple[Tensor, list[str]]:
    """Return the target (H, W) or (3, H, W) of a picture, float32 in [0, 1], and its notices.

    `picture` is a decoded picture, or an array (H, W), (3, H, W) or (H, W, 3) of uint8 or of floats in [0, 1]. An array
    (3, H, 3) is interpreted as (3, H, W). Raises `InputError`, with the picture's `name`, if the picture can't be used.
    """
    notices: dict[str, None] = {}  # an ordered set
    size, orientation, frames = (0, 0), 1, 1
    if isinstance(picture, numpy.ndarray):
        check_frame(frames, name, options)
        levels = _of_array(picture, name, options, notices)
        size = levels.pixels
    else:
        notices |= dict.fromkeys(picture.notices)
        levels = _of_image(picture, name, options, notices)
        size, orientation, frames = picture.size, picture.orientation, picture.frames
    low, high = _range(levels, name, options, notices)
    bands = _scale(levels, size, low, high, options)
    turn = _TURNS.get(orientation)
    if turn is not None:
        bands = [band.transpose(turn) for band in bands]
    width, height = size if orientation < 5 else size[::-1]
    if bands[0].size != (width, height):
        new_width, new_height = bands[0].size
        notices[f"scaled from {width} x {height} to {new_width} x {new_height} pixels"] = None
    values = numpy.stack([numpy.array(band) for band in bands])  # (1 or 3, H, W)
    target = torch.from_numpy(values if options.color else values[0]).clamp(0.0, 1.0)
    if options.invert:
        target = 1.0 - target
    if options.threshold is not None:
        target = (target > options.threshold).to(torch.float32)
    if not bool((target > 0.0).any()):
        others = f"; it has {frames} frames, and frame=N selects another one" if frames > 1 else ""
        raise InputError(f"cannot use {name}: image must not be blank, {_why_blank(options)}{others}")
    if not options.invert and options.background == "black" and _has_bright_border(target):
        notices["the picture is mostly bright; if it shows a dark shape on a bright page, use invert=True"] = None
    return target, list(notices)


def _has_bright_border(target: torch.Tensor) -> bool:
    """Return whether a target (H, W) or (3, H, W) is mostly bright and nearly white along its border, like a page."""
    border = torch.cat((target[..., 0, :], target[..., -1, :], target[..., 0], target[..., -1]), -1)
    return float(target.mean()) > 0.5 and float(border.mean()) > 0.9


def check_picture_shape(shape: tuple[int, ...], name: str | Path) -> None:
    """Raise `InputError` unless `shape` is (H, W), (3, H, W) or (H, W, 3), and not empty."""
    if not (len(shape) == 2 or (len(shape) == 3 and 3 in (shape[0], shape[2]))):
        raise InputError(f"cannot read {name}: a picture must have shape (H, W), (3, H, W) or (H, W, 3), got {shape}")
    if 0 in shape:
        raise InputError(f"cannot read {name}: a picture must have pixels, got shape {shape}")


def unit_values(values: numpy.ndarray, name: str | Path) -> numpy.ndarray:
    """Return values of any shape as float32 in [0, 1].

    Raises `InputError` unless `values` are uint8, or floats in [0, 1].
    """
    if values.dtype == numpy.uint8:
        return values.astype(numpy.float32) / 255.0
    if values.dtype.kind != "f":
        raise InputError(f"cannot read {name}: its values must be uint8 or floating-point, got {values.dtype}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # so that NaN is refused, too
        raise InputError(f"cannot read {name}: its values must lie in [0, 1], got {low:g} to {high:g}")
    return values.astype(numpy.float32)


# Values by rows


def _of_array(values: numpy.ndarray, name: str | Path, options: PictureOptions, notices: dict[str, None]) -> _Levels:
    check_picture_shape(values.shape, name)
    if values.ndim == 3 and values.shape[0] == 3:
        values = numpy.moveaxis(values, 0, -1)  # (H, W, 3)
    if values.dtype == numpy.uint8:
        image = Image.fromarray(numpy.ascontiguousarray(values))
        return _of_image(Decoded(image, image.size, image.size), name, options, notices)
    values = unit_values(values, name)

    def read(top: int, end: int) -> list[numpy.ndarray]:
        rows = values[top:end]  # (h, W) or (h, W, 3)
        if rows.ndim == 2:
            return [rows] * (3 if options.color else 1)
        return list(numpy.moveaxis(rows, -1, 0)) if options.color else [rows @ _LUMA]

    size = values.shape[1], values.shape[0]
    return _Levels(read, size, size, white=1.0)


def _of_image(picture: Decoded, name: str | Path, options: PictureOptions, notices: dict[str, None]) -> _Levels:
    image = picture.image
    if image.mode in _WIDE_MODES:
        white = 1.0 if image.mode == "F" else 4095.0 if picture.bits == 12 else 65535.0
        read = _wide_rows(picture, white, options, notices)
        return _Levels(read, image.size, picture.extent, white, bounded=False, deep=image.mode != "F")
    read = _rows(picture, name, options, notices)
    return _Levels(read, image.size, picture.extent, deep=picture.bits > 8)


def _rows(picture: Decoded, name: str | Path, options: PictureOptions, notices: dict[str, None]) -> _Rows:
    """Return the function that reads rows of an 8-bit picture of any mode."""
    image = picture.image
    # Lab colors do not depend on a device, and Pillow converts them to sRGB: no profile is needed.
    profile: bytes = b"" if image.mode == "LAB" else image.info.get("icc_profile") or b""
    key = image.info.get("transparency")  # in the file's bits: 16-bit values for 16-bit colors

    def read(top: int, end: int) -> list[numpy.ndarray]:
        try:
            rows = image.crop((0, top, image.width, end))
            if picture.bits == 16 and isinstance(key, tuple):
                rows.info["transparency"] = tuple(value >> 8 for value in key)
            rows, alpha = _without_alpha(rows)
        except ValueError as error:
            raise InputError(f"cannot read {name}: {one_line(error)}") from None
        if profile:
            transform, notice = to_srgb(profile, rows.mode)
            if transform is not None:
                rows = transform.apply(rows)
            if notice:
                notices[notice] = None
        rows = rows.convert("RGB") if rows.mode == "CMYK" else rows
        if alpha is not None:
            if alpha.getextrema() != (255, 255):
                notices[f"transparent parts are drawn on {options.background}"] = None
            opaque = Image.new(rows.mode, rows.size, options.background)
            opaque.paste(rows, mask=alpha)
            rows = opaque
        if options.color:
            return [numpy.array(band) for band in rows.convert("RGB").split()]
        if rows.mode == "RGB" and _is_colored(rows):
            notices["colors are converted to gray"] = None
        return [numpy.array(rows.convert("L"))]

    return read


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return an 8-bit picture in mode L, RGB or CMYK, and its opacity; None if it can't be transparent."""
    mode = "L" if image.mode in _GRAY_MODES else "RGB"
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if not image.has_transparency_data:
        return image.convert("CMYK" if image.mode == "CMYK" else mode), None
    image = image.convert(f"{mode}A")
    return Image.merge(mode, image.split()[:-1]), image.getchannel("A")


def _is_colored(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))


def _wide_rows(picture: Decoded, white: float, options: PictureOptions, notices: dict[str, None]) -> _Rows:
    """Return the function that reads rows of a gray picture of more than 8 bits."""
    image, behind = picture.image, white if options.background == "white" else 0.0
    key = image.info.get("transparency")  # the one value that is transparent
    if image.info.get("icc_profile"):
        notices["the color profile is ignored, as values have more than 8 bits"] = None

    def read(top: int, end: int) -> list[numpy.ndarray]:
        with numpy.errstate(invalid="ignore"):  # numpy warns of signaling NaN; the range is checked later
            values = numpy.array(image.crop((0, top, image.width, end)), dtype=numpy.float64)  # (h, W)
        clear = values == key if isinstance(key, int) else numpy.zeros_like(values, dtype=bool)
        if picture.white_is_zero:
            values = white - values
        if clear.any():
            notices[f"transparent parts are drawn on {options.background}"] = None
            values[clear] = behind
        return [values] * (3 if options.color else 1)

    return read


# Range and size


def _range(levels: _Levels, name: str | Path, options: PictureOptions, notices: dict[str, None]) -> tuple[float, float]:
    """Return the two values that become 0 and 1."""
    if levels.bounded and not levels.deep and not options.stretch:
        return 0.0, levels.white
    low, high = math.inf, -math.inf
    for bands in levels.strips():
        for band in bands:
            least, most = float(band.min()), float(band.max())
            if not (math.isfinite(least) and math.isfinite(most)):
                raise InputError(f"cannot read {name}: some of its pixels are NaN or infinite")
            low, high = min(low, least), max(high, most)
    if options.stretch or low < 0.0 or high > levels.white:
        notices[f"values from {low:g} to {high:g} are stretched to [0, 1]"] = None
        return low, high
    if levels.deep and 0.0 < high <= _DARK * levels.white:
        notices[f"dark: the highest value is {high:g} of {levels.white:g}; stretch=True scales it to 1"] = None
    return 0.0, levels.white


def _scale(
    levels: _Levels, size: tuple[int, int], low: float, high: float, options: PictureOptions
) -> list[Image.Image]:
    """Return 1 or 3 bands of mode "F" at the target's size, with the values `low` and `high` mapped to 0 and 1.

    To save memory, a large picture is never stored as floats. Each strip is scaled to the new width, then all strips
    together to the new height. Pillow also scales in these two passes.
    """
    width, height = levels.extent
    new_height, new_width = options.scaled(size[1], size[0])
    resampling = Image.Resampling.LANCZOS if options.fit_to is None else Image.Resampling.BILINEAR
    span = (high - low) or 1.0

    def narrow(band: numpy.ndarray) -> numpy.ndarray:
        """Scale (h, W) to (h, new W)."""
        rows = Image.fromarray(((band - numpy.float64(low)) / span).astype(numpy.float32))
        return numpy.asarray(rows.resize((new_width, len(band)), resampling, (0, 0, width, len(band))))

    strips = [list(map(narrow, bands)) for bands in levels.strips()]
    columns = [Image.fromarray(numpy.concatenate(parts)) for parts in zip(*strips, strict=True)]
    return [band.resize((new_width, new_height), resampling, (0, 0, new_width, height)) for band in columns]


def _why_blank(options: PictureOptions) -> str:
    if options.invert:
        return "but every pixel is black after the inversion; leave out invert=True"
    if options.threshold is not None:
        return f"but no pixel is brighter than the threshold {options.threshold:g}"
    if options.stretch:
        return "but every pixel has the same value, which stretch=True makes black"
    if options.background == "black":
        advice = "a black drawing on a transparent page needs background='white' and invert=True"
        return f"but every pixel is black ({advice})"
    return "but every pixel is black"
