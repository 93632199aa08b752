"""Tests of points in texts: separators, decimal commas, counts and column names. Ambiguous numbers are refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy
import pytest

from fractalops.errors import InputError
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import read_point_cloud
from tests.support.point_clouds import assert_refused

TWO = [[1.5, 2.5, -3.5], [4, 5, 6]]
FOUR_COLUMNS = ["4 columns: the first three are used"]
UNCLEAR = "numbers in which all commas are separators or all are decimal"


@pytest.fixture(params=[".xyz", ".pts", ".asc", ".txt"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"cloud{request.param}"


@pytest.fixture
def xyz(tmp_path: Path) -> Path:
    return tmp_path / "cloud.xyz"


@pytest.mark.parametrize(
    "text",
    [
        "1.5 2.5 -3.5\n4 5 6",
        "  1.5   2.5\t-3.5  \n\n\n4 5 6\n\n",
        "1.5\t2.5\t-3.5\r\n4\t5\t6\r\n",
        "1.5 2.5 -3.5\r4 5 6\r",
        "1.5,2.5,-3.5\n4,5,6\n",
        "1.5, 2.5, -3.5\n4, 5, 6\n",
        " 1.5, 2.5,-3.5\n 4.0, 5.0, 6.0\n",
        "1.5;2.5;-3.5;\n4 ; 5 ; 6;\n",
        "1.5,2.5,-3.5,\n4,5,6,\n",
        "1,5 2,5 -3,5\n4 5 6\n",
        "1,5\t2,5\t-3,5\n4\t5\t6\n",
        "1,5;2,5;-3,5\n4;5;6\n",
        "+15e-1 2.5E0 -.35e+1\n4. 05 6\n",
        "15e-1,25e-1,-35e-1\n4,5,6\n",
        "# made for a test\n// 1 2 3\n1.5 2.5 -3.5 # here\n4 5 6 // 7 8 9\n",
        "2\n1.5 2.5 -3.5\n4 5 6\n",
        "# some\n2\nx y z\n1.5 2.5 -3.5\n4 5 6\n",
        "X;Y;Z\n2\n1,5;2,5;-3,5\n4;5;6\n",
        '"y","x","z"\n2.5,1.5,-3.5\n5,4,6\n',
        "easting northing height\n1.5 2.5 -3.5\n4 5 6\n",
        "\ufeff1.5 2.5 -3.5\n4 5 6\n",
    ],
)
def test_what_is_read_right(text: str, path: Path) -> None:
    path.write_bytes(text.encode())
    with collect_notices() as notices:
        assert read_point_cloud(path).tolist() == TWO
    assert notices == {}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 30])
@pytest.mark.parametrize(
    "text",
    ["// x\r\n\r\n2\r\n1,5;2,5;-3,5\r\n\r\n4;5;6", "x y z\n1.5, 2.5, -3.5\n4 5 6\n", "2\n1.5\t2.5\t-3.5\n4\t5\t6"],
)
def test_parts_of_any_size_give_the_same(text: str, block: int, xyz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.io.point_clouds.text._BLOCK", block)
    xyz.write_bytes(text.encode())
    assert read_point_cloud(xyz).tolist() == TWO


@pytest.mark.parametrize(
    ("text", "points", "notices"),
    [
        ("1 2 3 4\n5 6 7 8\n", [[1, 2, 3], [5, 6, 7]], FOUR_COLUMNS),
        ("//X;Y;Z;R\n1\n0.5;1;2;9\n", [[0.5, 1, 2]], FOUR_COLUMNS),
        ("id;x;y;z\n7;1;2;3\n", [[1, 2, 3]], ["4 columns: x, y, z are used"]),
        ("# id x y z\n7 1 2 3\n", [[1, 2, 3]], ["4 columns: x, y, z are used"]),
        ("# a cloud of mine\n1 2 3 4\n", [[1, 2, 3]], FOUR_COLUMNS),
        ("x,y,z,intensity\n1,2,3,4\n", [[1, 2, 3]], FOUR_COLUMNS),
        ("id x y\n7 1 2\n", [[1, 2]], ["3 columns: x, y are used"]),
        ("x y height\n1 2 3\n", [[1, 2, 3]], []),
        ("1 2\n3 4\n", [[1, 2], [3, 4]], []),
        ("1,5 2,5\n", [[1.5, 2.5]], []),
        ("1,2\n", [[1, 2]], []),
        ("1,2,3\n", [[1, 2, 3]], []),
        ("1,2,3,-4\n", [[1, 2, 3]], FOUR_COLUMNS),
        ("1,2,3,4\n1,2,3,0.5\n", [[1, 2, 3], [1, 2, 3]], FOUR_COLUMNS),
        ("1, 2, 3, 4\n", [[1, 2, 3]], FOUR_COLUMNS),
        ("388104,05 3949004,08 305,1\n", [[388104.05, 3949004.08, 305.1]], []),
        ("388104.0501 3949004.0792 305.1530\n", [[388104.0501, 3949004.0792, 305.153]], []),
    ],
)
def test_which_columns_are_coordinates(text: str, points: list[list[float]], notices: list[str], xyz: Path) -> None:
    xyz.write_text(text)
    with collect_notices() as collected:
        assert read_point_cloud(xyz).tolist() == points
    assert collected == ({str(xyz): notices} if notices else {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it must contain points, got none"),
        ("# nothing\n\n", "it must contain points, got none"),
        ("x y z\n", "it must contain points, got none"),
        ("1 2 3\nfour 5 6\n", "line 2 must be a point of 3 numbers, got 'four 5 6'"),
        ("# a\n\n1 2 3\n\n4 5\n", "line 5 must be a point of 3 numbers, got '4 5'"),
        ("1 2 3\n4 5 6 7\n", "line 2 must be a point of 3 numbers, got '4 5 6 7'"),
        ("1 2 3\nx y z\n", "line 2 must be a point of 3 numbers, got 'x y z'"),
        ("x y z\nx y z\n1 2 3", "line 2 must be a point of 3 numbers, got 'x y z'"),
        ("1\n2\n3\n", "line 2 must be a point of 2 or more numbers, got '2'"),
        ("1_0 2 3\n", "line 1 must be a point of 3 numbers, got '1_0 2 3'"),
        ("0x10 2 3\n", "line 1 must be a point of 3 numbers, got '0x10 2 3'"),
        ("ncols 4\nnrows 4\n", "line 1 must be a point of 2 numbers, got 'ncols 4'"),
        ("3\n1 2 3\n4 5 6\n", "line 1 declares 3 points, got 2"),
        ("1\n1 2 3\n4 5 6\n", "line 1 declares 1 points, got 2"),
        ("2\n1 2 3\n4 5 6\n2\n1 2 3\n4 5 6", "line 4 must be a point of 3 numbers, got '2'"),
        ("id;a;b;c\n7;1;2;3\n", "line 1 must name 4 columns, x, y and z among them, got 'id, a, b, c'"),
        ("x y height id\n1 2 3 4\n", "line 1 must name 4 columns, x, y and z among them"),
        ("1;;3\n", "line 1 must be a point of numbers without an empty field, got '1;;3'"),
        ("1 2 3\n;2;3;4\n", "line 2 must be a point of numbers without an empty field, got ';2;3;4'"),
        ("1\t\t3\t4\n", "line 1 must be a point of numbers without an empty field"),
        ("1.5, ,3\n", "line 1 must be a point of numbers without an empty field"),
        ("1,5,2,5,3,5\n", "commas between whole numbers may be decimal"),
        ("1,5,2,5,3,5, \n", "commas between whole numbers may be decimal"),
        ("1,5,2,5\n2,5,3,5\n", "commas between whole numbers may be decimal"),
        ("1,50,2,50,3,50,7\n", "commas between whole numbers may be decimal"),
        ("# a cloud of mine\n1,2,3,4\n", "commas between whole numbers may be decimal"),
        ("1,5, 2,5, 3,5\n", f"line 1 must be a point of {UNCLEAR}"),
        ("1, 5; 2, 5; 3, 5\n", f"line 1 must be a point of {UNCLEAR}"),
        ("1,5;2,5\n1, 5\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1,5 2,5 3,5\n1, 2, 3\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1 2 3\n1, 2 3\n", f"line 2 must be a point of {UNCLEAR}"),
        ("388,104.05 3,949,004.08 305.1\n", f"line 1 must be a point of {UNCLEAR}"),
        ("388,104.05, 394.0\n", f"line 1 must be a point of {UNCLEAR}"),
        ("388,104.05; 3,949,004.08; 305.1\n", f"line 1 must be a point of {UNCLEAR}"),
        ("1,234.5;2;3\n", f"line 1 must be a point of {UNCLEAR}"),
        ("1.234,5 2 3\n", f"line 1 must be a point of {UNCLEAR}"),
        ("1,5 2 3\n1.234 5 6\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1.5 2 3\n1,5 2 3\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1, 2, 3\n1,5 2\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1, 2, 3, 4\n1,5;2,5\n", f"line 2 must be a point of {UNCLEAR}"),
        ("1 2 3 4 5 6\n1,5 2,5 3,5\n", "line 2 must be a point of 6 numbers, got '1,5 2,5 3,5'"),
        ("1 2 3,4,5\n", "line 1 must be a point of 3 numbers, got '1 2 3,4,5'"),
        ("\x00 2 3\n", "it is not a text file"),
        (b"\xff\xfe1\x00 \x002\x00", "it is not a text file"),
        (b"1 2 3\xff\n", "line 1 must be a point of 3 numbers, got '1 2 3\ufffd'"),
        ("0 " * 40_000, "line 1 is longer than 65536 characters"),
        ("1 2 3\n" + "0" * 2**21, "line 2 is longer than 65536 characters"),
        ("1 2 3\n" + "4" * 99 + "x\n", f"line 2 must be a point of 3 numbers, got '{'4' * 60}...'"),
    ],
)
def test_what_is_refused_in_one_line(text: str | bytes, reason: str, xyz: Path) -> None:
    xyz.write_bytes(text.encode() if isinstance(text, str) else text)
    assert_refused(xyz, reason)


@pytest.mark.parametrize("first", ["1,5 2 3", "1;2,5;3"])
def test_the_meaning_of_commas_is_the_same_in_later_parts(
    first: str, xyz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractalops.io.point_clouds.text._BLOCK", 4)
    xyz.write_text(f"{first}\n4 5 6\n7 8 9.5\n")
    with pytest.raises(InputError, match=f"line 3 must be a point of {UNCLEAR}"):
        read_point_cloud(xyz)


def test_comments_need_no_utf_8(xyz: Path) -> None:
    xyz.write_bytes("# Höhe über Null\n1 2 3\n".encode("latin-1"))
    assert read_point_cloud(xyz).tolist() == [[1, 2, 3]]


def test_a_large_text_takes_the_memory_of_its_points(xyz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and words are not kept in memory."""
    monkeypatch.setattr("fractalops.io.point_clouds.text._BLOCK", 2**14)
    rows = 60_000
    xyz.write_text("0 0 0 0 0\n" * rows)
    tracemalloc.start()
    try:
        assert len(read_point_cloud(xyz)) == rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 24 * rows + 2**20


@pytest.mark.parametrize("separator", [" ", "   ", "\t", ",", ", ", " , ", ";", "; "])
@pytest.mark.parametrize("sign", [".", ","])
@pytest.mark.parametrize("digits", [0, 1, 3])
@pytest.mark.parametrize("columns", [2, 3, 4, 6])
def test_a_dialect_is_read_right_or_refused(separator: str, sign: str, digits: int, columns: int, xyz: Path) -> None:
    rows = numpy.random.default_rng(columns).uniform(0, 9000, (20, columns)).round(digits).tolist()
    xyz.write_text("".join(separator.join(f"{v:.{digits}f}" for v in row).replace(".", sign) + "\n" for row in rows))
    clear = "," not in separator or (sign == "." and digits) or (not digits and (columns < 4 or separator != ","))
    if clear:
        assert read_point_cloud(xyz).tolist() == [row[:3] for row in rows]
    else:
        with pytest.raises(InputError):
            read_point_cloud(xyz)
