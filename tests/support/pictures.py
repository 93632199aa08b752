"""Picture files built byte by byte, so that the reader is tested against their formats and not against a library."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from torch import Tensor

from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices


def read_with_notices(path: Path, options: PictureOptions | None = None) -> tuple[Tensor, list[str]]:
    """Return the target, and the notices that are logged while it is read."""
    with collect_notices() as notices:
        target = read_image(path, options)
    assert notices.keys() <= {str(path)}
    return target, notices.get(str(path), [])


def tiff_bytes(
    size: tuple[int, int],
    planes: Sequence[bytes],
    bits: tuple[int, ...],
    photometric: int,
    tags: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Return a little-endian, uncompressed TIFF of one page.

    Its width and height are `size`. It has one strip, or one for each plane.
    """
    starts = [8 + sum(map(len, planes[:number])) for number in range(len(planes))]
    entries: dict[int, tuple[int, ...]] = {
        **{256: size[:1], 257: size[1:], 258: bits, 259: (1,), 262: (photometric,), 273: tuple(starts)},
        **{277: (len(bits),), 278: size[1:], 279: tuple(map(len, planes)), 284: (2 if len(planes) > 1 else 1,)},
        **(tags or {}),
    }
    content = b"".join(planes)
    table, behind = b"", b""
    place = 8 + len(content) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, behind = struct.pack("<I", place + len(behind)), behind + packed
        table += struct.pack("<HHI", tag, 4, len(values)) + packed
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(content))
        + content
        + struct.pack("<H", len(entries))
        + table
        + bytes(4)
        + behind
    )


class Frame(NamedTuple):
    """A frame of a GIF."""

    corner: tuple[int, int]  # left, top
    indices: numpy.ndarray  # (h, w), of the palette
    disposal: int  # 0 or 1: keep it; 2: clear its area; 3: restore the previous content
    transparent: int | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None  # its own 4 colors


def gif_bytes(size: tuple[int, int], palette: Sequence[tuple[int, int, int]], frames: Sequence[Frame]) -> bytes:
    """Return a GIF with a palette of 4 colors."""
    content = b"GIF89a" + struct.pack("<HHBBB", *size, 0x81, 0, 0) + bytes(sum(palette, ()))
    for frame in frames:
        key = frame.transparent
        content += b"!\xf9\x04" + struct.pack("<BHBB", frame.disposal << 2 | (key is not None), 10, key or 0, 0)
        height, width = frame.indices.shape
        own = frame.palette
        content += b"," + struct.pack("<HHHHB", *frame.corner, width, height, 0x81 if own else 0)
        content += bytes(sum(own, ())) if own else b""
        content += b"\2" + _lzw(frame.indices.reshape(-1).tolist()) + b"\0"
    return content + b";"


def _lzw(indices: list[int]) -> bytes:
    """Return 2-bit indices as 3-bit codes. The table is cleared before each pair, so that codes never grow."""
    codes = [code for number, index in enumerate(indices) for code in ([4] if number % 2 == 0 else []) + [index]] + [5]
    packed = sum(code << 3 * number for number, code in enumerate(codes)).to_bytes(-(-3 * len(codes) // 8), "little")
    blocks = [packed[start : start + 255] for start in range(0, len(packed), 255)]
    return b"".join(bytes([len(block)]) + block for block in blocks)


def icc_bytes(space: str, tags: dict[str, bytes], connection: str = "XYZ") -> bytes:
    """Return a profile, version 2.1: of a display for RGB or GRAY, of a printer for CMYK."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)))
    text = b"A test"
    tags = {
        "desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(79),
        "wtpt": white,
        "cprt": b"text\0\0\0\0none\0",
        **tags,
    }
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name.encode() + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s",
        start + len(content),
        b"",
        0x02100000,
        b"prtr" if space == "CMYK" else b"mntr",
        f"{space:<4}".encode(),
        f"{connection:<4}".encode(),
    )
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + white[8:]
    return header.ljust(128, b"\0") + table + content
