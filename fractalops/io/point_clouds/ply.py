"""Read points from .ply files. plyfile reads the header. NumPy reads the numbers, as it is much faster."""

from __future__ import annotations

import io
import mmap
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy

from fractalops.errors import InputError
from fractalops.io.memory import check_memory
from fractalops.io.point_clouds.table import Cloud, PointList, check_points
from fractalops.io.point_clouds.text import lines_of, parse_rows

if TYPE_CHECKING:
    from plyfile import PlyElement

_LONGEST_HEADER = 2**20  # bytes
_AT_ONCE = 2**16  # rows
_ROW_BYTES = 512  # memory that plyfile needs for a row with lists, as measured
_SHOWN = 60  # characters of a word in a message
_AXES = ["x", "y", "z"]

_START = re.compile(rb"ply[ \t]*(\r\n|\n|\r)")
_BREAK = re.compile(rb"\r\n|\n|\r")


class _Element(NamedTuple):
    element: PlyElement
    rows: int

    @property
    def names(self) -> list[str]:
        """The names of the properties that are numbers, not lists."""
        return [each.name for each in self.element.properties if not _is_list(each)]

    @property
    def has_lists(self) -> bool:
        return len(self.names) < len(self.element.properties)


class _Header(NamedTuple):
    lines: list[str]
    """The lines of the header, without comments."""
    text: bool
    """Whether the numbers are text, not binary."""
    order: str
    """The byte order of a number, in NumPy's notation."""
    elements: list[_Element]
    vertex: int
    """The index of the element vertex."""
    end: int
    """The byte at which the numbers start."""
    end_line: int
    """The line at which the numbers start in a text."""

    @property
    def least(self) -> int:
        """The minimum number of bytes of the numbers. In a text, a number takes at least a digit and a space."""
        if self.text:
            return sum(count * 2 * len(element.properties) for element, count in self.elements) - 1
        return sum(
            count * sum(numpy.dtype(each.len_dtype if _is_list(each) else each.val_dtype).itemsize for each in parts)
            for parts, count in ((element.properties, count) for element, count in self.elements)
        )


def _is_list(each: object) -> bool:
    return hasattr(each, "len_dtype")


def read_ply(path: Path) -> Cloud:
    """Return the properties x, y and z of the vertices of a file."""
    with path.open("rb") as file:
        header = _read_header(path, file)
        vertex = header.elements[header.vertex]
        size = path.stat().st_size - header.end
        if header.least > size:
            raise InputError(f"cannot read {path}: its header declares at least {header.least} bytes, got {size}")
        check_points(path, vertex.rows)
        file.seek(header.end)
        if header.text and not vertex.has_lists:
            points = _read_lines(path, file, header)
        elif vertex.has_lists:
            points = _read_lists(path, file, header, size)
        else:
            points = _read_rows(path, file, header)
    return Cloud(points, [])


def _read_header(path: Path, file: BinaryIO) -> _Header:
    from plyfile import PlyData

    head = file.read(_LONGEST_HEADER)
    start = _START.match(head)
    if start is None:
        raise InputError(f"cannot read {path}: it is not a .ply file")
    # If lines end with \r, a \n after the header may be the first byte of a number.
    end = re.compile(rb"[\r\n]end_header[ \t]*" + (rb"\r" if start[1] == b"\r" else rb"\r?\n")).search(head)
    if end is None:
        raise InputError(f"cannot read {path}: its header has no end")
    lines, counts = [], []
    for line in _BREAK.split(head[: end.end()]):
        words = line.decode("ascii", errors="replace").split()
        if words[:1] in ([], ["comment"], ["obj_info"]):
            continue
        if words[0] == "element" and len(words) == 3:
            if re.fullmatch(r"\d{1,18}", words[2], re.ASCII) is None:
                name, got = (word[:_SHOWN] for word in words[1:])
                raise InputError(f"cannot read {path}: element {name!r} must have a number of rows, got {got!r}")
            counts.append(int(words[2]))
        lines.append(" ".join(words))
    # Parsed with 0 rows, so that plyfile reads no numbers: the size of the file is checked first.
    data = PlyData.read(io.BytesIO(_encode(lines, [0] * len(counts))), mmap=False)
    elements = [_Element(element, count) for element, count in zip(data.elements, counts, strict=True)]
    vertex = next((place for place, (element, _) in enumerate(elements) if element.name == "vertex"), None)
    if vertex is None:
        raise InputError(f"cannot read {path}: it must have an element vertex, got none")
    if not set(_AXES) <= set(elements[vertex].names):
        got = elements[vertex].names
        raise InputError(f"cannot read {path}: its vertices must have the properties x, y and z, got {got}")
    if any(count and not element.properties for element, count in elements):
        raise InputError(f"cannot read {path}: an element with rows must have properties, got none")
    end_line = 1 + len(_BREAK.findall(head[: end.end()]))
    return _Header(lines, data.text, data.byte_order, elements, vertex, end.end(), end_line)


def _encode(lines: list[str], counts: list[int]) -> bytes:
    """Return a header whose elements have the given numbers of rows."""
    left = iter(counts)
    lines = [re.sub(r"^(element \S+) \d+$", lambda found: f"{found[1]} {next(left)}", line) for line in lines]
    return "".join(f"{line}\n" for line in lines).encode("ascii", errors="replace")


def _read_lines(path: Path, file: BinaryIO, header: _Header) -> numpy.ndarray:
    """Return the points (P, 3) of a text. They keep all digits of the text, also if the header declares float32."""
    vertex = header.elements[header.vertex]
    begin = sum(count for _, count in header.elements[: header.vertex])  # row of the first vertex, without empty rows
    end, total = begin + vertex.rows, sum(count for _, count in header.elements)
    axes = [vertex.names.index(axis) for axis in _AXES]
    points, rows = PointList(path), 0
    with io.TextIOWrapper(file, "ascii", errors="replace") as text:
        for number, lines in lines_of(path, text, header.end_line):
            full = [place for place, line in enumerate(lines) if line.strip()]
            first, last = max(begin - rows, 0), min(end - rows, len(full))
            if first < last:
                part = slice(full[first], full[last - 1] + 1)
                points.add(parse_rows(path, number + part.start, lines[part], len(vertex.names))[:, axes])
            rows += len(full)
    if rows != total:
        raise InputError(f"cannot read {path}: its header declares {total} rows, got {rows}")
    return points.points()


def _read_rows(path: Path, file: BinaryIO, header: _Header) -> numpy.ndarray:
    """Return the points (P, 3) of a binary file whose vertices have no lists."""
    vertex = header.elements[header.vertex]
    dtype = vertex.element.dtype(header.order)
    begin = end = header.end
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for each in header.elements:
            begin = end if each is vertex else begin
            end = _end_of(content, end, each, header.order)
        size = len(content)
        if end > size or not _is_ending(content[end : end + 3], content[header.end : header.end + 1]):
            declared, got = end - header.end, size - header.end
            raise InputError(f"cannot read {path}: its header declares {declared} bytes, got {got}")
    file.seek(begin)
    points = numpy.empty((vertex.rows, 3))
    for first in range(0, vertex.rows, _AT_ONCE):
        rows = numpy.fromfile(file, dtype, min(_AT_ONCE, vertex.rows - first))
        for axis, name in enumerate(_AXES):
            points[first : first + len(rows), axis] = rows[name]
    return points


def _is_ending(rest: bytes, first: bytes) -> bool:
    """Return whether `rest`, the bytes after the last number of a binary file, is empty or a line break.

    `first` is the first byte of the numbers. If it and `rest` are line breaks, the result is False, as an extra line
    break before the numbers would shift all of them by a byte.
    """
    return rest == b"" or (rest in (b"\n", b"\r\n", b"\r") and first not in (b"\n", b"\r"))


def _end_of(content: mmap.mmap, place: int, element: _Element, order: str) -> int:
    """Return the byte at which an element ends that starts at the byte `place` of a binary file.

    Raises `ValueError` if a list has a negative length, and `struct.error` if the file is too short.
    """
    if not element.has_lists:
        return place + int(element.element.dtype().itemsize) * element.rows
    parts = [
        (
            struct.Struct(order + numpy.dtype(each.len_dtype).char) if _is_list(each) else None,
            numpy.dtype(each.val_dtype),
        )
        for each in element.element.properties
    ]
    sizes = [(length, dtype.itemsize) for length, dtype in parts]
    for _ in range(element.rows):
        for length, size in sizes:
            if length is not None:
                (count,) = length.unpack_from(content, place)
                if count < 0:
                    raise ValueError(f"the length of a list must not be negative, got {count}")
                place += length.size + int(count) * size
            else:
                place += size
    return place


def _read_lists(path: Path, file: BinaryIO, header: _Header, size: int) -> numpy.ndarray:
    """Return the points (P, 3) of a file whose vertices have lists, with plyfile."""
    from plyfile import PlyData

    counts = [count for _, count in header.elements]
    check_memory(path, size + _ROW_BYTES * sum(counts), "reading vertices with lists")
    lines, body = header.lines, file.read()
    if header.text:
        # The numbers of a text keep all their digits, also if the header declares float32.
        lines = [re.sub(r"^property (?!list )\S+", "property double", line) for line in lines]
        rows = [line for line in _BREAK.split(body) if line.strip()]
        if len(rows) != sum(counts):
            raise InputError(f"cannot read {path}: its header declares {sum(counts)} rows, got {len(rows)}")
        body = b"\n".join(rows)
    content = io.BytesIO(_encode(lines, counts) + body)
    vertices = PlyData.read(content, mmap=False)["vertex"]
    if not header.text and not _is_ending(rest := content.read(), body[:1]):
        raise InputError(f"cannot read {path}: its header declares {size - len(rest)} bytes, got {size}")
    return numpy.stack([vertices[axis].astype(numpy.float64) for axis in _AXES], 1)
