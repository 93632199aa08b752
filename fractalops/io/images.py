"""Pictures in and out: files to targets in [0, 1], gray or in color; tensors to files and animations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError
from torch import Tensor

from fractalops._checks import or_default
from fractalops.errors import InputError
from fractalops.io.files import atomic_path, one_line, reading
from fractalops.io.notices import log_notices
from fractalops.io.picture_options import PictureOptions

_GRAY_MODES = ("1", "L")
_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_LUMA = numpy.array([0.299, 0.587, 0.114], dtype=numpy.float32)  # ITU-R 601, as Pillow converts to gray


def read_image(path: str | Path, options: PictureOptions | None = None) -> Tensor:
    """Return the target that an image file holds: (H, W), or in color (3, H, W), float32 in [0, 1].

    The rotation noted by a camera is applied; of an animation the first frame is taken. Transparent parts are laid over
    `options.background`. Without `options.color` the picture becomes gray (ITU-R 601 luma). A picture whose longest
    side exceeds `options.size` pixels is scaled down with its aspect ratio kept, and never scaled up, unless
    `options.fit_to` is given: its longest side then becomes exactly that, by bilinear interpolation. Then
    `options.invert` swaps dark and bright, and `options.threshold` turns pixels above it to 1 and the others to 0.

    A change that a user may want to know of is logged as a warning of the logger "fractalops.io".

    Raises `InputError` when the file can't be read as an image, or when no pixel above 0 is left.
    """
    target, notices = read_picture(Path(path), or_default("read_image", "options", options, PictureOptions))
    log_notices(path, notices)
    return target


def read_picture(path: Path, options: PictureOptions) -> tuple[Tensor, list[str]]:
    """Return the target that `read_image` returns, and the notices of it, which are not logged."""
    with _decoding(path), path.open("rb") as file, Image.open(file) as image:
        # Not by its path: Pillow would map uncompressed TIFF files into memory, and garbles those that lie on their
        # side.
        picture, notices = upright(image, path)
    target, others = prepare(picture, path, options)
    return target, [*notices, *others]


def prepare(
    picture: Image.Image | numpy.ndarray, name: str | Path, options: PictureOptions
) -> tuple[Tensor, list[str]]:
    """Return the target (H, W) or (3, H, W) of a picture, float32 in [0, 1], and the notices of it.

    `picture` is Pillow's, decoded and upright, or an array (H, W), (3, H, W) or (H, W, 3) of uint8 or of floats in
    [0, 1]; (3, H, 3) is taken for (3, H, W). Raises `InputError`, with the picture's `name`, when it can't be used.
    """
    notices: list[str] = []
    if isinstance(picture, numpy.ndarray):
        bands = _array_to_bands(picture, name, options, notices)
    else:
        bands = _to_bands(picture, name, options, notices)
    bands = _scale(bands, options, notices)
    values = numpy.stack([numpy.array(band, dtype=numpy.float32) for band in bands])  # (1 or 3, H, W)
    target = torch.from_numpy(values if options.color else values[0]).clamp(0.0, 1.0)
    if options.invert:
        target = 1.0 - target
    if options.threshold is not None:
        target = (target > options.threshold).to(torch.float32)
    if not bool((target > 0.0).any()):
        raise InputError(f"cannot use {name}: image must not be blank, {_why_blank(options)}")
    if not options.invert and float(target.mean()) > 0.5:
        notices.append("mostly bright; if the shape is dark on a bright page, use invert=True")
    return target, notices


def upright(picture: Image.Image, name: str | Path) -> tuple[Image.Image, list[str]]:
    """Return the first frame of a picture, fully decoded, with its camera's rotation applied, and the notices of it.

    Raises `InputError`, with the picture's `name`, when it is damaged.
    """
    with _decoding(name):
        frames = getattr(picture, "n_frames", 1)
        picture.load()
        turned = ImageOps.exif_transpose(picture)
    return turned, [f"{frames} frames: the first is used"] if frames > 1 else []


@contextmanager
def _decoding(name: str | Path) -> Iterator[None]:
    """Turn what Pillow raises for the picture `name` into an `InputError` of one line."""
    with reading(name, "the image is damaged"):
        try:
            with warnings.catch_warnings():
                # Pillow warns above 89 million pixels, which good cameras have, and refuses twice as many.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                yield
        except UnidentifiedImageError:
            what = "the file is empty" if Path(name).stat().st_size == 0 else "it is not an image in a known format"
            raise InputError(f"cannot read {name}: {what}") from None
        except Image.DecompressionBombError:
            raise InputError(f"cannot read {name}: it has too many pixels") from None


def check_picture_shape(shape: tuple[int, ...], name: str | Path) -> None:
    """Raise `InputError` unless `shape` is (H, W), (3, H, W) or (H, W, 3), with pixels."""
    if not (len(shape) == 2 or (len(shape) == 3 and 3 in (shape[0], shape[2]))):
        raise InputError(f"cannot read {name}: a picture has shape (H, W), (3, H, W) or (H, W, 3), got {shape}")
    if 0 in shape:
        raise InputError(f"cannot read {name}: it has no pixels, its shape is {shape}")


def unit_values(values: numpy.ndarray, name: str | Path) -> numpy.ndarray:
    """Values of any shape, uint8 or floats in [0, 1], as float32 in [0, 1]. Raises `InputError` for any others."""
    if values.dtype == numpy.uint8:
        return values.astype(numpy.float32) / 255.0
    if values.dtype.kind != "f":
        raise InputError(f"cannot read {name}: its values must be uint8 or floating-point, got {values.dtype}")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN compares to nothing
        raise InputError(f"cannot read {name}: its values must lie in [0, 1], got {low:g} to {high:g}")
    return values.astype(numpy.float32)


def _array_to_bands(
    values: numpy.ndarray, name: str | Path, options: PictureOptions, notices: list[str]
) -> list[Image.Image]:
    """An array (H, W), (3, H, W) or (H, W, 3) as what `_to_bands` returns."""
    check_picture_shape(values.shape, name)
    if values.ndim == 3 and values.shape[0] == 3:
        values = numpy.moveaxis(values, 0, -1)  # (H, W, 3)
    if values.dtype == numpy.uint8:
        return _to_bands(Image.fromarray(numpy.ascontiguousarray(values)), name, options, notices)
    values = unit_values(values, name)
    if values.ndim == 2:
        return [_as_float(values)] * (3 if options.color else 1)
    if options.color:
        return [_as_float(values[..., channel]) for channel in range(3)]
    return [_as_float(values @ _LUMA)]


def _to_bands(image: Image.Image, name: str | Path, options: PictureOptions, notices: list[str]) -> list[Image.Image]:
    """Any mode to mode "F" (32-bit float) with values in [0, 1]: one picture in gray, three in color."""
    if image.mode in _WIDE_MODES:
        return [_wide_to_gray(image, name, notices)] * (3 if options.color else 1)
    try:
        if image.has_transparency_data:
            image = _composite(image.convert("RGBA"), options.background, notices)
        elif image.mode not in _GRAY_MODES:
            image = image.convert("RGB")
    except ValueError as error:
        raise InputError(f"cannot read {name}: {one_line(error)}") from None
    if options.color:
        bands = image.convert("RGB").split()
    else:
        if image.mode == "RGB" and _is_colored(image):
            notices.append("color converted to gray")
        bands = (image.convert("L"),)
    return [_as_float(numpy.array(band, dtype=numpy.float32) / 255.0) for band in bands]


def _wide_to_gray(image: Image.Image, name: str | Path, notices: list[str]) -> Image.Image:
    """Gray of more than 8 bits a pixel, whose range the mode alone does not always tell."""
    values = numpy.array(image).astype(numpy.float64)  # (H, W)
    if not numpy.isfinite(values).all():
        raise InputError(f"cannot read {name}: some of its pixels are NaN or infinite")
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


def _is_colored(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return any(ImageChops.difference(red, other).getbbox() is not None for other in (green, blue))


def _scale(bands: list[Image.Image], options: PictureOptions, notices: list[str]) -> list[Image.Image]:
    width, height = bands[0].size
    new_height, new_width = options.scaled(height, width)
    if (new_height, new_width) == (height, width):
        return bands
    notices.append(f"scaled from {width} x {height} to {new_width} x {new_height} pixels")
    resampling = Image.Resampling.LANCZOS if options.fit_to is None else Image.Resampling.BILINEAR
    return [band.resize((new_width, new_height), resampling) for band in bands]


def _why_blank(options: PictureOptions) -> str:
    if options.invert:
        return "but inverted every pixel is black: leave out invert=True"
    if options.threshold is not None:
        return f"but no pixel is brighter than the threshold {options.threshold:g}"
    if options.background == "black":
        advice = "a black drawing on a transparent page needs background='white' and invert=True"
        return f"but every pixel is black ({advice})"
    return "but every pixel is black"


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
    with atomic_path(path) as temporary:
        try:
            picture.save(temporary)
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
