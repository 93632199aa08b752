"""Damaged files: valid files with bytes flipped, cut off, inserted, repeated or moved, and with changed numbers."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (-1, 0, 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64)
_OTHER_NUMBERS = ("1e400", "-1e400", "nan", "inf", "-inf", "1e308", "1e-400", "-0", "0x1F", "1_0", "1,5", "9" * 400)
_TEXT = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_KINDS = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", ">f", "<d", ">d")
_FLOATS = (0.0, -1.0, 1e30, float("inf"), float("nan"))

# Bytes that have a special meaning in some format.
_TOKENS = [
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x1a", b"\r", b"\n", b"\r\n", b"\x0b", b"\xc2\x85"),
    *(b"\xe2\x80\xa8", "٣".encode(), "½".encode(), b"\xed\xa0\x80", b"\\ud800", "é".encode("latin-1")),
    *(b"{", b"}", b"[", b"]", b"(", b")", b";", b"#", b'"', b"'", b",", b":", b"null", b"true", b"{}", b"[" * 3000),
    *(b"<", b">", b"/>", b"&lt;", b"&#0;", b"&x;", b"<!--", b"<![CDATA[", b"<!DOCTYPE a>", b'encoding="utf-7"?>'),
    *(b"\x93NUMPY", b"PK\3\4", b"(3D)", b"comment {", b"../../x", b"|O", b"<U9", b"property list uchar int a\n"),
]

_Mutation = Callable[[bytes, Sequence[bytes], Random], bytes]


def mutate(wholes: Sequence[bytes], random: Random) -> bytes:
    """Return one of several files of a format with one to five mutations."""
    content = random.choice(wholes)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        content = random.choice(_MUTATIONS)(content, wholes, random)
    return content


def _part(content: bytes, random: Random) -> tuple[int, int]:
    """Return two positions, mostly close together. Half of the first ones are near the beginning, where headers are."""
    reach = len(content) if random.random() < 0.5 else min(len(content), 96)
    first = random.randint(0, reach)
    last = random.randint(first, len(content))
    return first, last if random.random() < 0.3 else min(last, first + random.randint(0, 12))


def _flip(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 20)) if content else 0):
        first, _ = _part(content, random)
        changed[min(first, len(content) - 1)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    return content[: _part(content, random)[random.randrange(2)]]


def _insert(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    first, _ = _part(content, random)
    return content[:first] + random.choice(_TOKENS) + content[first + random.choice((0, 0, 1, 4)) :]


def _overwrite(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    first, last = _part(content, random)
    return content[:first] + random.randbytes(min(last - first, 20)) + content[last:]


def _remove(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    first, last = _part(content, random)
    return content[:first] + content[last:]


def _repeat(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    first, last = _part(content, random)
    return content[:last] + content[first:last] * random.choice((1, 1, 2, 50)) + content[last:]


def _move(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    first, last = _part(content, random)
    left = content[:first] + content[last:]
    place = random.randint(0, len(left))
    return left[:place] + content[first:last] + left[place:]


def _renumber_text(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    found = list(_TEXT.finditer(content))
    if not found:
        return _renumber(content, wholes, random)
    match = random.choice(found)
    number = str(random.choice(NUMBERS)) if random.random() < 0.6 else random.choice(_OTHER_NUMBERS)
    return content[: match.start()] + number.encode() + content[match.end() :]


def _renumber(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    """Overwrite bytes with a binary number."""
    kind = random.choice(_KINDS)
    if kind[-1] in "fd":
        packed = struct.pack(kind, random.choice(_FLOATS))
    else:
        packed = struct.pack(kind, random.choice(NUMBERS) % 2 ** (8 * struct.calcsize(kind)))
    first, _ = _part(content, random)
    return content[:first] + packed + content[first + len(packed) :]


def _splice(content: bytes, wholes: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(wholes)
    return content[: _part(content, random)[0]] + other[_part(other, random)[0] :]


_MUTATIONS: tuple[_Mutation, ...] = (
    *(_flip, _flip, _truncate, _insert, _overwrite, _remove, _repeat, _move),
    *(_renumber_text, _renumber_text, _renumber, _renumber, _splice),
)
