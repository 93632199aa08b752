"""Decode picture files. This module limits the formats and the sizes of pictures, and selects the frame."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError, _imaging
from PIL.GifImagePlugin import GifImageFile

from fractalops.errors import InputError
from fractalops.io.files import check_file, reading
from fractalops.io.memory import check_memory
from fractalops.io.picture_options import PictureOptions

# Pillow chooses the decoder by the file's content, not by its name. Some formats are excluded: formats that start a
# program (EPS: Ghostscript), formats that contain files of other formats (ICNS: JPEG 2000 of any size), and formats
# that need another library than Pillow.
FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "PSD", "ICO", "CUR"),
    *("DDS", "SGI", "QOI", "PCX", "DCX", "XBM", "XPM", "MSP", "SUN", "IM", "FLI", "FITS", "TGA"),
)
"""The formats that are read, in Pillow's names. `formats` leaves out those that the installed Pillow does not have."""

_LONGEST_SIDE = 1_000_000  # pixels
_LARGE = 2**22  # pixels: a JPEG with more pixels is decoded at a reduced size ...
_GAP = 4  # ... which is at least this many times the requested size

# Bytes per pixel that decoding needs, as measured. The decoders of these formats keep several copies of the picture.
# Other formats need the bytes of their mode; a mode that is not listed needs 4.
_FORMAT_BYTES = {"JPEG2000": 20, "WEBP": 16, "AVIF": 10, "QOI": 8, "DDS": 8, "SGI": 8}
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}

_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 0x0102, 0x0106, 0x011C

# Pillow also logs its errors, and Python prints log records that have no handler. libtiff writes its errors to standard
# error. Neither is needed, as Pillow also raises an exception.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):
    _pillow = ctypes.CDLL(_imaging.__file__)
    _pillow.TIFFSetErrorHandler(None)
    _pillow.TIFFSetWarningHandler(None)


@dataclass(frozen=True)
class Decoded:
    """One decoded frame of a picture, before the rotation noted by the camera is applied."""

    image: Image.Image
    size: tuple[int, int]
    """Width and height in the file."""
    extent: tuple[float, float]
    """Width and height of the picture in pixels of `image`. If the picture was decoded at a reduced size, these may be
    fractions: the picture covers the last column and row of pixels only in part."""
    orientation: int = 1
    """The EXIF orientation: 1 is upright, 6 needs a clockwise rotation by 90 degrees."""
    bits: int = 8
    """Bits per value in the file. Values of color pictures have been reduced to 8 bits."""
    white_is_zero: bool = False
    """Whether 0 is white, for gray values of more than 8 bits."""
    frames: int = 1
    """The number of frames in the file."""
    notices: tuple[str, ...] = ()
    """Messages about changes to the picture, see `fractalops.io.notices`."""


@cache
def formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that the installed Pillow can open."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(path: Path, options: PictureOptions) -> Decoded:
    """Return the frame of a picture file that `options` selects.

    Raises `InputError` if the file can't be read, is too large, or has no such frame.
    """
    check_file(path)
    with decoding(path), path.open("rb") as file, Image.open(file, formats=formats()) as image:
        # An open file, not its path: given a path, Pillow maps uncompressed TIFF files into memory, and corrupts those
        # whose orientation is a quarter turn.
        return decode(image, path, options, draft=True)


def decode(image: Image.Image, name: str | Path, options: PictureOptions, *, draft: bool = False) -> Decoded:
    """Decode the frame of Pillow's `image` that `options` selects; by default the current frame.

    With `draft`, a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is enough; this changes `image`. Raises
    `InputError`, with the picture's `name`, if the picture is damaged, is too large, or has no such frame.
    """
    notices = []
    with decoding(name):
        _check_size(image, name)
        # The layers of a PSD file are not frames: the merged picture is read.
        frames = 1 if image.format == "PSD" else getattr(image, "n_frames", 1)
        check_frame(frames, name, options)
        if frames > 1 and options.frame is None:
            notices.append(f"{frames} frames: frame {image.tell() + 1} is used (frame=N selects another one)")
        elif frames > 1 and options.frame is not None:
            _seek(image, options.frame - 1)
            _check_size(image, name)
        bits, white_is_zero = _layout(image, name)
        if bits > 8 and len(image.getbands()) > 1:
            notices.append(f"{bits}-bit colors are read as 8-bit colors")
        size, extent = image.size, None
        if draft and size[0] * size[1] > _LARGE:
            height, width = options.scaled(size[1], size[0])
            reduced = image.draft(None, (_GAP * width, _GAP * height))
            extent = None if reduced is None else reduced[1][2:]
        image.load()
        if extent is None:
            size = extent = image.size  # after decoding, as `load` applies the orientation of a TIFF
        # After decoding, as a PNG may store it after its pixels.
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    return Decoded(image, size, extent, orientation, bits, white_is_zero, frames, tuple(notices))


def check_frame(frames: int, name: str | Path, options: PictureOptions) -> None:
    """Raise `InputError` if `options` selects a frame that a picture with `frames` frames does not have."""
    if options.frame is not None and options.frame > frames:
        raise InputError(f"cannot read {name}: frame must be at most {frames}, got {options.frame}")


@contextmanager
def decoding(name: str | Path) -> Iterator[None]:
    """Convert Pillow's exceptions for the picture `name` to an `InputError` of one line, see `reading`."""
    with reading(name, "the image is damaged"):
        try:
            yield
        except UnidentifiedImageError as error:
            what = "the file is empty" if Path(name).stat().st_size == 0 else "it is not an image in a known format"
            raise InputError(f"cannot read {name}: {what}") from error
        except Image.DecompressionBombError as error:
            sizes = str(error).partition(",")[0]  # the rest of the message is about attacks
            raise InputError(
                f"cannot read {name}: it has too many pixels for Pillow ({sizes}; PIL.Image.MAX_IMAGE_PIXELS raises it)"
            ) from None


def _check_size(image: Image.Image, name: str | Path) -> None:
    """Raise `InputError` if the size in a picture's header is too large to decode."""
    check_pixels(name, *image.size, _FORMAT_BYTES.get(image.format or "", _MODE_BYTES.get(image.mode, 4)))


def check_pixels(name: str | Path, width: int, height: int, each: int) -> None:
    """Raise `InputError` if a side is too long, or if `each` bytes per pixel exceed the memory limit."""
    if max(width, height) > _LONGEST_SIDE:
        raise InputError(
            f"cannot read {name}: each side must be at most {_LONGEST_SIDE} pixels, got {width} x {height} pixels"
        )
    check_memory(name, width * height * each, f"decoding {width} x {height} pixels")


def _seek(image: Image.Image, frame: int) -> None:
    """Select a frame, counted from 0."""
    if isinstance(image, GifImageFile):
        for number in range(frame):
            image.seek(number)
            # A frame without a disposal method of its own would inherit that of the frame before it.
            image.disposal_method = 0
    image.seek(frame)


def _layout(image: Image.Image, name: str | Path) -> tuple[int, bool]:
    """Return the bits per value in the file and whether 0 is white. Call it before the picture is decoded."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # the format is not TIFF
        tiles = getattr(image, "tile", ())
        return (16 if any(";16" in str(tile[3]) for tile in tiles) else 8), False
    bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    if bits > 8 and len(image.getbands()) > 1 and tags.get(_PLANES) == 2 and image.info.get("compression") == "raw":
        # Pillow would read each byte as a value.
        raise InputError(
            f"cannot read {name}: {bits}-bit colors in separate planes are not supported; save them interleaved"
        )
    return bits, tags.get(_PHOTOMETRIC) == 0
