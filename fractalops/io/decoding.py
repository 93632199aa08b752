"""Picture files to decoded pictures: which formats are opened, how large they may be, which frame is taken."""

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

# Pillow decodes by content, whatever the name of a file is. Left out are formats that start a program (EPS:
# Ghostscript), that hold files of other formats (ICNS: JPEG 2000 of any size), and those that Pillow doesn't read by
# itself.
FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "PSD", "ICO", "CUR"),
    *("DDS", "SGI", "QOI", "PCX", "DCX", "XBM", "XPM", "MSP", "SUN", "IM", "FLI", "FITS", "TGA"),
)
"""The formats that are read, in Pillow's names; one that this Pillow doesn't have is left out."""

_LONGEST_SIDE = 1_000_000  # pixels
_LARGE = 2**22  # pixels: a JPEG of more is decoded at a part of its size ...
_GAP = 4  # ... that is so many times what is asked for, or more

# Bytes a pixel that decoding takes, as measured: those formats hold the picture more than once; other modes take 4.
_FORMAT_BYTES = {"JPEG2000": 20, "WEBP": 16, "AVIF": 10, "QOI": 8, "DDS": 8, "SGI": 8}
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}

_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 0x0102, 0x0106, 0x011C

# Pillow also logs what it finds wrong, and Python prints records that nobody handles. libtiff writes to standard error;
# Pillow raises all the same.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):
    _pillow = ctypes.CDLL(_imaging.__file__)
    _pillow.TIFFSetErrorHandler(None)
    _pillow.TIFFSetWarningHandler(None)


@dataclass(frozen=True)
class Decoded:
    """One frame of a picture, decoded, not yet turned as its camera says."""

    image: Image.Image
    size: tuple[int, int]
    """Width and height in the file."""
    extent: tuple[float, float]
    """Width and height in pixels of `image`, of which the last may be covered in part where it was reduced."""
    orientation: int = 1
    """As EXIF counts: 1 is upright, 6 is to be turned clockwise by 90 degrees."""
    bits: int = 8
    """Bits of a value in the file; values of a color have been read as 8."""
    white_is_zero: bool = False
    """Whether values of more than 8 bits in gray count from white."""
    frames: int = 1
    notices: tuple[str, ...] = ()


@cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this Pillow opens."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(path: Path, options: PictureOptions) -> Decoded:
    """Return the frame of a picture file that `options` asks for. Raises `InputError`."""
    check_file(path)
    with decoding(path), path.open("rb") as file, Image.open(file, formats=formats()) as image:
        # Not by its path: Pillow would map uncompressed TIFF files into memory, and garbles those that lie on their
        # side.
        return decode(image, path, options, draft=True)


def decode(image: Image.Image, name: str | Path, options: PictureOptions, *, draft: bool = False) -> Decoded:
    """Return a frame of Pillow's picture, decoded: the one that `options` asks for, else the current one.

    With `draft` a large JPEG is decoded at a half, a quarter or an eighth where that is enough, which changes `image`.
    Raises `InputError`, with the picture's `name`, where it is damaged or too large, or has no such frame.
    """
    notices = []
    with decoding(name):
        _check_size(image, name)
        # The layers of a PSD file are no frames: what is read is the picture that they make.
        frames = 1 if image.format == "PSD" else getattr(image, "n_frames", 1)
        check_frame(frames, name, options)
        if frames > 1 and options.frame is None:
            notices.append(f"{frames} frames: frame {image.tell() + 1} is used (frame=N chooses another)")
        elif frames > 1 and options.frame is not None:
            _seek(image, options.frame - 1)
            _check_size(image, name)
        bits, white_is_zero = _layout(image, name)
        if bits > 8 and len(image.getbands()) > 1:
            notices.append(f"colors of {bits} bits read as 8")
        size, extent = image.size, None
        if draft and size[0] * size[1] > _LARGE:
            height, width = options.scaled(size[1], size[0])
            reduced = image.draft(None, (_GAP * width, _GAP * height))
            extent = None if reduced is None else reduced[1][2:]
        image.load()
        if extent is None:
            size = extent = image.size  # a TIFF has been turned
        # After decoding, as a PNG may say it behind its pixels.
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    return Decoded(image, size, extent, orientation, bits, white_is_zero, frames, tuple(notices))


def check_frame(frames: int, name: str | Path, options: PictureOptions) -> None:
    """Raise `InputError` where a frame is asked for that a picture of so many doesn't have."""
    if options.frame is not None and options.frame > frames:
        has = f"{frames} frames" if frames > 1 else "1 frame"
        raise InputError(f"cannot read {name}: it has {has}, and frame {options.frame} is asked for")


@contextmanager
def decoding(name: str | Path) -> Iterator[None]:
    """Turn what Pillow raises for the picture `name` into an `InputError` of one line, see `reading`."""
    with reading(name, "the image is damaged"):
        try:
            yield
        except UnidentifiedImageError as error:
            what = "the file is empty" if Path(name).stat().st_size == 0 else "it is not an image in a known format"
            raise InputError(f"cannot read {name}: {what}") from error
        except Image.DecompressionBombError as error:
            sizes = str(error).partition(",")[0]  # what follows is of attacks
            raise InputError(
                f"cannot read {name}: it has too many pixels for Pillow ({sizes}; PIL.Image.MAX_IMAGE_PIXELS raises it)"
            ) from None


def _check_size(image: Image.Image, name: str | Path) -> None:
    """Raise `InputError` for a picture that by its header is too large to decode."""
    check_pixels(name, *image.size, _FORMAT_BYTES.get(image.format or "", _MODE_BYTES.get(image.mode, 4)))


def check_pixels(name: str | Path, width: int, height: int, each: int) -> None:
    """Raise `InputError` for a picture with too long a side, or of so many bytes a pixel that exceed the limit."""
    if max(width, height) > _LONGEST_SIDE:
        raise InputError(
            f"cannot read {name}: a side must be at most {_LONGEST_SIDE} pixels, and it has {width} x {height}"
        )
    check_memory(name, width * height * each, f"decoding {width} x {height} pixels")


def _seek(image: Image.Image, frame: int) -> None:
    """Go to a frame, counted from 0."""
    if isinstance(image, GifImageFile):
        for number in range(frame):
            image.seek(number)
            # Else a frame that says nothing of what becomes of it is disposed of as the one before it.
            image.disposal_method = 0
    image.seek(frame)


def _layout(image: Image.Image, name: str | Path) -> tuple[int, bool]:
    """Return the bits of a value in the file, and whether values count from white; before it is decoded."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # another format than TIFF
        tiles = getattr(image, "tile", ())
        return (16 if any(";16" in str(tile[3]) for tile in tiles) else 8), False
    bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
    if bits > 8 and len(image.getbands()) > 1 and tags.get(_PLANES) == 2 and image.info.get("compression") == "raw":
        # Pillow would take each byte for a value.
        raise InputError(f"cannot read {name}: its colors of {bits} bits lie in planes; save it with its pixels whole")
    return bits, tags.get(_PHOTOMETRIC) == 0
