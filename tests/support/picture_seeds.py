"""Small valid pictures of every format that is read, each in several layouts."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from functools import cache
from typing import Any

import numpy
from PIL import Image

from fractalops.io.decoding import formats
from tests.support.pictures import icc_bytes, tiff_bytes

SIZE = (13, 9)  # width, height


@cache
def picture_seeds() -> dict[str, list[bytes]]:
    """Return the files of each format, by Pillow's names. Formats that this Pillow does not read have no files."""
    random = numpy.random.default_rng(1)
    rgb = Image.fromarray(random.integers(0, 256, (*SIZE[::-1], 3), dtype=numpy.uint8))
    deep = Image.fromarray(random.integers(0, 65536, SIZE[::-1]).astype(numpy.uint16))
    gray, cmyk, palette, bits = rgb.convert("L"), rgb.convert("CMYK"), rgb.quantize(9), rgb.convert("1")
    rgba = rgb.copy()
    rgba.putalpha(gray)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    frames = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}
    profile = icc_bytes("GRAY", {"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, 256)})
    forms: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
        "PNG": [
            *((rgb, {"exif": exif}), (palette, {"transparency": 3}), (deep, {}), (rgb, frames), (bits, {})),
            (gray, {"icc_profile": profile}),
        ],
        "JPEG": [(rgb, {"exif": exif}), (cmyk, {"progressive": True}), (gray, {"icc_profile": profile})],
        "MPO": [(rgb, frames)],
        "GIF": [(rgb, frames), (palette, {"transparency": 3})],
        "WEBP": [(rgb, {"exif": exif}), (rgba, {"lossless": True, **frames})],
        "TIFF": [
            *((rgb, {"exif": exif}), (rgb, {"compression": "tiff_lzw"}), (deep, {"compression": "tiff_deflate"})),
            *((bits, {"compression": "group4"}), (rgb, {"compression": "jpeg"}), (gray, frames)),
            (gray.convert("F"), {}),
        ],
        "BMP": [(rgb, {}), (palette, {}), (bits, {})],
        "DIB": [(rgb, {}), (palette, {})],
        "AVIF": [(rgb, {"speed": 10})],
        "JPEG2000": [(rgb, {}), (gray, {"no_jp2": True})],
        "PPM": [(rgb, {}), (gray, {}), (bits, {}), (deep, {}), (gray.convert("F"), {})],
        "ICO": [(rgba.resize((16, 16)), {}), (rgba.resize((16, 16)), {"bitmap_format": "bmp"})],
        "DDS": [(rgba, {}), (rgba.resize((16, 12)), {"pixel_format": "DXT5"})],
        "SGI": [(rgb, {}), (gray, {})],
        "QOI": [(rgb, {}), (rgba, {})],
        "PCX": [(rgb, {}), (palette, {}), (bits, {})],
        "XBM": [(bits, {})],
        "MSP": [(bits, {})],
        "IM": [(rgb, {}), (palette, {})],
        "TGA": [(rgb, {"compression": "tga_rle"}), (palette, {})],
    }
    Image.init()
    seeds = {name: [] for name in formats()} | {
        name: [encode(image, name, options) for image, options in forms[name]]
        for name in formats()
        if name in forms and name in Image.SAVE
    }
    square = encode(rgba.resize((32, 32)).quantize(4), "PNG")
    made = {
        "TIFF": [tiff_bytes((4, 4), [bytes(range(48))], (8, 8, 8), 2)],
        "PPM": [b"P3 2 1 255\n1 2 3 250 251 252\n", b"P2\n# gray\n2 2 9\n0 1 8 9\n", b"P1 2 2 0 1 1 0\n"],
        "PSD": [b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 5, 8, 3) + bytes(14) + bytes(range(60))],
        "CUR": [struct.pack("<3H4B2H2I", 0, 2, 1, 8, 8, 0, 0, 1, 1, 300, 22) + encode(rgb.resize((8, 16)), "DIB")],
        "DCX": [struct.pack("<3I", 0x3ADE68B1, 12, 0) + encode(rgb, "PCX")],
        "QOI": [b"qoif" + struct.pack(">2I2B", 2, 2, 3, 0) + b"\xfe\1\2\3\xc0\x55\xbf\0\x81\x88" + bytes(7) + b"\1"],
        "XPM": [b'/* XPM */\nstatic char *a[] = {\n"4 2 2 1",\n"a c #000000",\n"b c #ffffff",\n"abab",\n"baba"\n};\n'],
        "SUN": [struct.pack(">8I", 0x59A66A95, 4, 2, 24, 24, 1, 0, 0) + bytes(range(24))],
        "ICNS": [b"icns" + struct.pack(">I4sI", 16 + len(square), b"ic11", 8 + len(square)) + square],
        "FLI": [flic_bytes(4, 2)],
        "FITS": [fits_bytes(4, 2)],
    }
    return {name: [*wholes, *made.get(name, [])] for name, wholes in seeds.items()}


def encode(image: Image.Image, name: str, options: dict[str, Any] | None = None) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from a format that later versions of Pillow drop
        image.save(file, name, **(options or {}))
    return file.getvalue()


def flic_bytes(width: int, height: int) -> bytes:
    """Return an animation of one frame: a palette and uncompressed pixels."""
    palette = struct.pack("<IHHBB", 10 + 768, 4, 1, 0, 0) + bytes(range(256)) * 3
    pixels = struct.pack("<IH", 6 + width * height, 16) + bytes(range(width * height))
    frame = struct.pack("<IHH", 16 + len(palette) + len(pixels), 0xF1FA, 2) + bytes(8) + palette + pixels
    header = struct.pack("<IHHHHHHI", 128 + len(frame), 0xAF12, 1, width, height, 8, 3, 50)
    return header.ljust(128, b"\0") + frame


def fits_bytes(width: int, height: int) -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": "8", "NAXIS": "2", "NAXIS1": str(width), "NAXIS2": str(height)}
    head = "".join(f"{name:<8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    return head.ljust(2880).encode() + bytes(range(1, width * height + 1)).ljust(2880, b"\0")


def with_sums(content: bytes) -> bytes:
    """Return the content with correct checksums of its PNG chunks, so that more of it is read."""
    repaired, place = bytearray(content), 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 8 + length
        if end + 4 > len(content):
            break
        repaired[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return bytes(repaired)
