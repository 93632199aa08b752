"""Tests of points in .ply files: all encodings, types and orders of elements, and errors for damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy
import pytest
import torch

from fractalops.errors import InputError
from fractalops.io.memory import VARIABLE
from fractalops.io.point_clouds import read_point_cloud
from tests.support.point_clouds import assert_refused

FORMS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    **{"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"},
    **{"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I"},
    **{"float32": "f", "float64": "d"},
}
CAMERA = ["element camera 2", "property float f"], [[("float", 0.5)], [("float", 7)]]
FACE = (
    ["element face 2", "property list uchar int vertex_indices"],
    [
        [("uchar", 3), ("int", 0), ("int", 1), ("int", 1)],
        [("uchar", 0)],
    ],
)
POINTS = [[1, 2, 3], [100, 50, 25]]

Element = tuple[list[str], list[list[tuple[str, float]]]]


def vertices(kind: str, points: list[list[float]] = POINTS, list_first: bool = False) -> Element:
    """Return an element with other properties before, between and after x, y and z."""
    between = ["property uchar red", f"property {kind} z", f"property {kind} x", "comment between", "property float q"]
    head = [f"element vertex {len(points)}", *between, f"property {kind} y", "property double t"]
    rows = [[("uchar", 255), (kind, z), (kind, x), ("float", 0.25), (kind, y), ("double", -1e-9)] for x, y, z in points]
    if list_first:
        head.insert(1, "property list uchar short near")
        rows = [[("uchar", place), *(("short", 9) for _ in range(place)), *row] for place, row in enumerate(rows)]
    return head, rows


def ply(form: str, *elements: Element, newline: str = "\n", blank: str = "") -> bytes:
    """Return a file. In a text, `blank` lines follow the header and each row."""
    head = ["ply", f"format {form} 1.0", "comment made for a test", "obj_info of no use"]
    lines = newline.join([*head, *(line for head, _ in elements for line in head), "end_header", ""])
    rows = [row for _, rows in elements for row in rows]
    if form == "ascii":
        text = [" ".join(f"{value:.17g}" for _, value in row) + newline + blank for row in rows]
        return (lines + blank + "".join(text)).encode()
    return lines.encode() + b"".join(
        struct.pack(FORMS[form] + TYPES[kind], value) for row in rows for kind, value in row
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cloud.ply"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_type(form: str, kind: str, newline: str, path: Path) -> None:
    path.write_bytes(ply(form, vertices(kind), newline=newline))
    read = read_point_cloud(path)
    assert read.tolist() == POINTS
    assert read.dtype == torch.float64


@pytest.mark.parametrize("list_first", [False, True])
@pytest.mark.parametrize("elements", ["v", "cv", "vf", "cvf", "fv", "fcvf"])
@pytest.mark.parametrize("form", FORMS)
def test_other_elements_before_and_behind(form: str, elements: str, list_first: bool, path: Path) -> None:
    again = [line.replace("face", "strip") for line in FACE[0]], FACE[1]
    known = {"c": CAMERA, "v": vertices("float", list_first=list_first), "f": FACE}
    parts = [known[each] for each in elements[:-1]] + [again if elements == "fcvf" else known[elements[-1]]]
    path.write_bytes(ply(form, *parts))
    assert read_point_cloud(path).tolist() == POINTS


@pytest.mark.parametrize("list_first", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["\n", "\r\n", "  \n\n"])
def test_blank_lines_lose_no_point(blank: str, newline: str, list_first: bool, path: Path) -> None:
    path.write_bytes(ply("ascii", CAMERA, vertices("float", list_first=list_first), FACE, newline=newline, blank=blank))
    assert read_point_cloud(path).tolist() == POINTS


@pytest.mark.parametrize("list_first", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_coordinates_keep_their_digits(form: str, list_first: bool, path: Path) -> None:
    """Numbers of a text may have more digits than the type that its header names."""
    points = [[388104.0501, 3949004.0792, 305.1531], [1 / 3, -1e-300, 1e300]]
    kind = "float" if form == "ascii" else "double"
    path.write_bytes(ply(form, vertices(kind, points, list_first=list_first)))
    assert read_point_cloud(path).tolist() == points


def test_many_points_are_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.io.point_clouds.ply._AT_ONCE", 7)
    monkeypatch.setattr("fractalops.io.point_clouds.text._BLOCK", 50)
    points = numpy.random.default_rng(0).normal(size=(100, 3)).round(6).tolist()
    for form in FORMS:
        path.write_bytes(ply(form, CAMERA, vertices("double", points), FACE))
        assert read_point_cloud(path).tolist() == points


TEXT = ply("ascii", CAMERA, vertices("float"), FACE).decode()
TOO_MANY = "its header declares"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 2 3", "it is not a .ply file"),
        ("plywood\n", "it is not a .ply file"),
        ("ply\nformat ascii 1.0\n", "its header has no end"),
        ("ply\nend_header\n", "the file is damaged (line 2: expected one of {format"),
        (TEXT.replace("ascii", "ebcdic"), "don't understand format 'ebcdic'"),
        (TEXT.replace("1.0", "2.0"), "expected version '1.0'"),
        (TEXT.replace("element vertex", "element corner"), "it must have an element vertex, got none"),
        (TEXT.replace("vertex 2", "vertex two"), "element 'vertex' must have a number of rows, got 'two'"),
        (TEXT.replace("vertex 2", "vertex -1"), "element 'vertex' must have a number of rows, got '-1'"),
        (TEXT.replace("camera 2", "camera -1"), "element 'camera' must have a number of rows, got '-1'"),
        (TEXT.replace("vertex 2", "vertex 1e3"), "element 'vertex' must have a number of rows, got '1e3'"),
        (TEXT.replace("vertex 2", "vertex"), 'expected "element {name} {count}"'),
        (TEXT.replace("vertex 2", "vertex 0").replace("255 ", "# "), f"{TOO_MANY} 4 rows, got 6"),
        (TEXT.replace("vertex 2", "vertex 1"), f"{TOO_MANY} 5 rows, got 6"),
        (TEXT.replace("vertex 2", "vertex 3"), "line 22 must be a point of 6 numbers, got '3 0 1 1'"),
        (TEXT.replace("vertex 2", "vertex 9"), f"{TOO_MANY} at least 115 bytes, got 98"),
        (TEXT.replace("vertex 2", f"vertex {10**15}"), f"{TOO_MANY} at least 12000000000000007 bytes, got 98"),
        (TEXT.replace("camera 2", f"camera {10**15}"), f"{TOO_MANY} at least 2000000000000027 bytes, got 98"),
        (TEXT.replace("face 2", "face 3"), f"{TOO_MANY} 7 rows, got 6"),
        (TEXT.replace("property float f\n", ""), "an element with rows must have properties, got none"),
        (TEXT.replace("float y", "float v"), "its vertices must have the properties x, y and z, got ['red', 'z', 'x'"),
        (TEXT.replace("float y", "list uchar float y"), "its vertices must have the properties x, y and z, got ['red'"),
        (TEXT.replace("float y", "quad y"), "field type 'quad' not in"),
        (TEXT.replace("float y", "float x"), "two properties with same name"),
        (TEXT.replace("element face", "element vertex"), "two elements with same name"),
        (TEXT.replace(" 0.25 ", " one ", 1), "line 20 must be a point of 6 numbers, got '255 3 1 one 2 -1.0000000"),
        (TEXT.replace(" 0.25 ", " 0,25 ", 1), "line 20 must be a point of 6 numbers"),
        (TEXT.replace(" 0.25 ", " ", 1), "line 20 must be a point of 6 numbers"),
        (
            TEXT.replace(" 3 1 ", " nan 1 "),
            "points must be finite, got 1 of 2 with NaN or infinite coordinates (number 1",
        ),
        (ply("ascii", vertices("float", [])), "it must contain points, got none"),
        (ply("ascii", vertices("float", list_first=True)).replace(b" 25 ", b" x "), "row 1: property 'z': malformed"),
        (ply("ascii", vertices("float", list_first=True)) + b"1\n", "its header declares 2 rows, got 3"),
    ],
)
def test_wrong_files_are_refused_in_one_line(content: str | bytes, reason: str, path: Path) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert_refused(path, reason)


@pytest.mark.parametrize("elements", [["v"], ["c", "v"], ["v", "c"], ["v", "f"], ["f", "v", "c"]])
@pytest.mark.parametrize("list_first", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_files_that_are_cut_off(form: str, list_first: bool, elements: list[str], path: Path) -> None:
    known = {"c": CAMERA, "v": vertices("double", list_first=list_first), "f": FACE}
    content = ply(form, *(known[each] for each in elements))
    whole = len(content.rstrip(b"\n")) if form == "ascii" else len(content)
    last = content.rindex(b" ") + 1 if form == "ascii" else whole - 1  # a shortened number is still a number
    last = content.rindex(b"\n", 0, whole) if content.rindex(b"\n", 0, whole) > last else last
    for cut in (last, last - 8, last - 40, content.index(b"end_header") + 11):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"^cannot read "):
            read_point_cloud(path)


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("head", ["vertex 2", "camera 2"])
def test_a_binary_file_of_fewer_or_more_rows_than_promised(head: str, form: str, path: Path) -> None:
    content = ply(form, CAMERA, vertices("double"))
    for count in (-1, 10**6, 10**17, "1" * 5000):
        path.write_bytes(content.replace(head.encode(), f"{head[:-1]}{count}".encode()))
        with pytest.raises(InputError, match=r"^cannot read "):
            read_point_cloud(path)
    path.write_bytes(content.replace(b"vertex 2", b"vertex 1"))
    with pytest.raises(InputError, match=r"its header declares 45 bytes, got 82$"):
        read_point_cloud(path)
    path.write_bytes(content + b"\n")  # some programs end files like this
    assert read_point_cloud(path).tolist() == POINTS


@pytest.mark.parametrize("list_first", [False, True])
def test_a_line_break_before_the_first_number_of_a_binary_file_is_refused(list_first: bool, path: Path) -> None:
    content = ply("binary_little_endian", vertices("float", list_first=list_first))
    for behind in (b"", b"\n", b"\r\n"):
        path.write_bytes(content + behind)
        assert read_point_cloud(path).tolist() == POINTS
    for behind in (b"\0", b"\n\n", b"end"):
        path.write_bytes(content + behind)
        with pytest.raises(InputError, match=r"its header declares \d+ bytes, got \d+$"):
            read_point_cloud(path)
    for first in (b"\n", b"\r\n"):
        # Also if the last byte of the numbers is a line break.
        for last in (b"", b"\n"):
            head, _, rows = content.partition(b"end_header\n")
            path.write_bytes(head + b"end_header\n" + first + rows[: len(rows) - len(last)] + last)
            with pytest.raises(InputError, match=r"^cannot read "):
                read_point_cloud(path)


def test_lists_take_bounded_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(ply("binary_little_endian", FACE, vertices("float")))
    monkeypatch.setenv(VARIABLE, "1000")
    assert read_point_cloud(path).tolist() == POINTS
    path.write_bytes(ply("binary_little_endian", FACE, vertices("float", list_first=True)))
    with pytest.raises(InputError, match=r"reading vertices with lists needs \d+ bytes of memory, but the "):
        read_point_cloud(path)
