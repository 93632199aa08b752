"""Tests of Fractint's .ifs files: systems, and errors with line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from fractalops.io.systems import open_systems
from fractalops.systems import System
from tests.support.system_files import FERN_ROWS, IFS, assert_equal, assert_refused, random_system, write


def test_the_systems_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ifs", IFS)
    with collect_notices() as notices:
        systems = read_systems(path)
    assert list(systems) == ["fern", "Halves", "stem"]
    assert [system.name for system in systems.values()] == ["fern", "Halves", "stem"]
    assert [len(system) for system in systems.values()] == [4, 2, 2]
    assert [system.dimensions for system in systems.values()] == [2, 2, 3]
    assert systems["fern"].matrix.dtype == torch.float64
    for number, (a, b, c, d, e, f, p) in enumerate(FERN_ROWS):
        # With (row, column) = (-y, x): row' = d row - c column - f, column' = -b row + a column + e.
        assert systems["fern"].matrix[number].tolist() == [[d, -c], [-b, a]]
        assert systems["fern"].offset[number].tolist() == [-f, e]
        assert systems["fern"].probabilities[number] == p
    assert systems["Halves"].offset.tolist() == [[0, 0], [1, 1]]
    # With (first, second, third) = (z, x, y).
    assert systems["stem"].matrix[1].tolist() == [[0.7, 0.5, -0.1], [0.2, 0.85, 0.1], [0.4, -0.3, 0.8]]
    assert systems["stem"].offset[1].tolist() == [-2, 1, 1.6]
    assert notices == {str(path): ["line 8: the numbers on the line of the name are read, but Fractint skips them"]}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_line_breaks(newline: str, encoding: str, tmp_path: Path) -> None:
    text = IFS.replace("a comment", "Lindenmayer-Büsche, 1 µm").replace("\n", newline)
    bad = text + f"bad {{{newline}1 2 3{newline}}}{newline}"
    expected = read_systems(write(tmp_path, "a.ifs", IFS))
    systems = read_systems(write(tmp_path, "b.ifs", text.encode(encoding)))
    assert list(systems) == list(expected)
    for name, system in systems.items():
        assert_equal(system, expected[name])
    with pytest.raises(InputError, match=r"line 18: a row must have 7 numbers"):
        read_systems(write(tmp_path, "b.ifs", bad.encode(encoding)))


HALF = ".5 0 0 .5 0 0 .5\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it contains no system"),
        ("; nothing\n", "it contains no system"),
        ("a {\n.5 0 0 .5 0 0 1\n", "line 1: the brace of 'a' is not closed"),
        ("a {\n" + HALF + "b {\n" + HALF + "}", "line 3: a brace opens before the brace of 'a' is closed"),
        ("\n{\n" + HALF + "}", "line 2: the name of a system must be one word, got ''"),
        ("my fern {\n" + HALF + "}", "line 1: the name of a system must be one word, got 'my fern'"),
        ("a {\n" + HALF + HALF + "}\nb", "line 5: 'b' is outside the braces of a system"),
        ("a {\n}", "line 1: a system must have at least one map"),
        ("a {\n" + HALF + ".5 0 0 .5 0 .5\n}", "line 3: a row must have 7 numbers (a b c d e f p), got 6"),
        ("a {\n" + HALF + ".5 0 0 .5 0 .5\n" + HALF + "}", "line 3: a row must have 7 numbers (a b c d e f p), got 6"),
        ("a {\n.5 0 0 .5 0 0\n.5 0 0 .5 0 0 .5 .5\n}", "line 2: a row must have 7 numbers (a b c d e f p), got 6"),
        (
            "a {\n0 0 0 0 .18 0 0 0 0 0 0 0 1\n}",
            "line 2: a row must have 7 numbers (a b c d e f p), got 13; mark ",
        ),
        ("a (3d) {\n" + HALF + "}", "line 2: a row must have 13 numbers (a to l and p), got 7"),
        ("a {\n" + HALF + ".5 0 0 .5 0 0 -.5\n}", "line 3: a probability must not be negative, got -0.5"),
        ("a {\n" + HALF + "}", "line 1: the probabilities of 'a' must add up to 1, got 0.5"),
        ("\na {\n" + HALF * 3 + "}", "line 2: the probabilities of 'a' must add up to 1, got 1.5"),
        ("a {\n.5 0 0 .5 0 0 0\n}", "line 1: the probabilities of 'a' must add up to 1, got 0"),
        ("a {\n(3D)\n0 0 0 0 .18 0 0 0 0 0 0 0 1\n}", "line 2: (3D) must be on the line of the opening brace"),
        ("a {\n" + HALF * 2 + ".5 0 0 .5 0 0 1\n.5 0 0 .5 0 0 -1\n}", "line 5: a probability must not be negative"),
        ("a {\n.5 0 0 .5 0 nan 1\n}", "line 2: 'nan' is not a number"),
        ("a {\n.5 0 0 .5 0 inf 1\n}", "line 2: 'inf' is not a number"),
        ("a {\n.5 0 0 .5 0 1_0 1\n}", "line 2: '1_0' is not a number"),
        ("a {\n.5 0 0 .5 0 1,5x 1\n}", "line 2: '5x' is not a number"),
        ("a {\n.5 0 0 .5 0 1e400 1\n}", "line 2: the number 1e400 is too large"),
        ("a {\n.5 0 0 .5 0 \0 1\n}", "it is not a text file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.ifs", text)
    assert_refused(path, reason)


@pytest.mark.parametrize(
    ("last", "notice"), [(".4995", None), (".4988", "add up to 0.9988"), (".491", "0.991"), (".51", "1.01")]
)
def test_probabilities_that_nearly_add_up(last: str, notice: str | None, tmp_path: Path) -> None:
    path = write(tmp_path, "a.ifs", "a {\n" + HALF + f".5 0 0 .5 1 0 {last}\n}}")
    with collect_notices() as notices:
        assert read_systems(path)["a"].probabilities.tolist() == [0.5, float(last)]
    assert len(notices) == (notice is not None)
    assert notice is None or (notice in notices[str(path)][0] and notices[str(path)][0].startswith("line 1: "))


def test_a_negative_probability_is_0_where_the_others_add_up(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ifs", "a {\n" + HALF + ".5 0 0 .5 1 0 -0.1428571\n" + HALF + "}")
    with collect_notices() as notices:
        assert read_systems(path)["a"].probabilities.tolist() == [0.5, 0, 0.5]
    assert notices[str(path)] == ["line 3: the probability -0.142857 is replaced by 0, as the others add up to 1"]


def test_a_name_that_comes_twice_is_changed(tmp_path: Path) -> None:
    text = "".join(f"{name} {{\n.5 0 0 .5 {place} 0 1\n}}\n" for place, name in enumerate(["a", "a-2", "a", "A", "a"]))
    path = write(tmp_path, "a.ifs", text)
    with collect_notices() as notices:
        systems = read_systems(path)
    assert {name: float(system.offset[0, 1]) for name, system in systems.items()} == {
        "a": 0, "a-2": 1, "a-3": 2, "A": 3, "a-4": 4,
    }  # fmt: skip
    assert notices[str(path)] == [
        "line 7: the name 'a' is used by an earlier system: this one is renamed to 'a-3'",
        "line 13: the name 'a' is used by an earlier system: this one is renamed to 'a-4'",
    ]


def test_one_system_is_read_beside_a_wrong_one(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ifs", IFS + "bad {\n 1 2 3\n}\n")
    readers = open_systems(path)
    assert list(readers) == ["fern", "Halves", "stem", "bad"]
    assert len(readers["fern"]()) == 4
    with pytest.raises(InputError, match=r"line 18: a row must have 7 numbers"):
        readers["bad"]()


def test_a_file_of_dos_ends_at_its_mark(tmp_path: Path) -> None:
    assert list(read_systems(write(tmp_path, "a.ifs", IFS + "\x1a} rest {"))) == ["fern", "Halves", "stem"]


def test_names_that_fractint_can_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.ifs"
    systems = [random_system(2, name=name, seed=n) for n, name in enumerate(["a b", "a_b", "comment", "ü{3D}"])]
    with collect_notices() as notices:
        write_systems(path, systems)
    read = read_systems(path)
    assert list(read) == ["a_b-2", "a_b", "comment_", "ü_3D_"]
    assert len(notices[str(path)]) == 3
    for system, expected in zip(read.values(), systems, strict=True):
        assert_equal(system, expected)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    with collect_notices() as notices:
        write_systems(tmp_path / "a.ifs", random_system(65, channels=3))
    assert notices[str(tmp_path / "a.ifs")] == [
        "colors are left out: an .ifs file can't store them",
        "Fractint can read at most 64 maps of a system",
    ]
    weights = System(torch.eye(2).expand(2, 2, 2) / 2, torch.eye(2), torch.tensor([1.0, 3.0]))
    write_systems(tmp_path / "b.ifs", weights)
    assert read_systems(tmp_path / "b.ifs")["b"].probabilities.tolist() == [0.25, 0.75]
