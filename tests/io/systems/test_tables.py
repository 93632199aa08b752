"""Tests of FractalDB's CSV files and of folders of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from tests.support.system_files import CSV, CSV_3D, FERN_ROWS, assert_equal, assert_refused, random_system, write


def test_a_file_is_a_system(tmp_path: Path) -> None:
    (system,) = read_systems(write(tmp_path, "00017.csv", CSV)).values()
    assert system.name == "00017"
    for number, (a, b, c, d, e, f, p) in enumerate(FERN_ROWS):
        assert system.matrix[number].tolist() == [[d, -c], [-b, a]]
        assert system.offset[number].tolist() == [-f, e]
        assert system.probabilities[number] == p
    (in_space,) = read_systems(write(tmp_path, "a.csv", CSV_3D)).values()
    assert in_space.matrix[1].tolist() == [[0.7, 0.5, -0.1], [0.2, 0.85, 0.1], [0.4, -0.3, 0.8]]
    assert in_space.offset[1].tolist() == [-2, 1, 1.6]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b/00010.csv", "b/00002.CSV", "a.csv", "c/d/e.csv"):
        write(tmp_path / "classes", name, CSV)
    write(tmp_path / "classes", "readme.txt", "nothing")
    assert list(read_systems(tmp_path / "classes")) == ["a", "b/00002", "b/00010", "c/d/e"]
    write(tmp_path / "classes", "b/00003.csv", "1,2,3\n")
    with pytest.raises(InputError, match=r"cannot read .*classes/b/00003.csv: line 1: a row must have 7 or 13 numbers"):
        read_systems(tmp_path / "classes")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: it contains no system"):
        read_systems(tmp_path / "empty")


def test_folders_are_written_and_read_back(tmp_path: Path) -> None:
    names = ["csv0/00001", "csv0/00002", "z"]
    systems = {name: random_system(3, dimensions=2 + n % 2, name=name, seed=n) for n, name in enumerate(names)}
    write_systems(tmp_path / "classes", systems)
    assert sorted(path.name for path in (tmp_path / "classes").rglob("*.csv")) == ["00001.csv", "00002.csv", "z.csv"]
    read = read_systems(tmp_path / "classes")
    assert list(read) == names
    for name in names:
        assert_equal(read[name], systems[name])


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\b", "c:a", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the name of a system must be a file name"):
        write_systems(tmp_path / "classes", random_system(name=name))
    assert list(tmp_path.rglob("*.csv")) == []


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_names_that_are_too_long_for_a_file_are_refused(letter: str, tmp_path: Path) -> None:
    longest = letter * (240 // len(letter.encode()))
    write_systems(tmp_path / "long", random_system(name=f"{longest}/{longest}"))
    assert list(read_systems(tmp_path / "long")) == [f"{longest}/{longest}"]
    with pytest.raises(InputError, match="the name of a system must have at most 240 bytes"):
        write_systems(tmp_path / "longer", random_system(name=f"x/{longest}a"))
    assert not (tmp_path / "longer").exists()


def test_a_file_holds_one_system(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot save .*a.csv: a .csv file must contain one system, got 2"):
        write_systems(tmp_path / "a.csv", [random_system(), random_system()])
    with collect_notices() as notices:
        write_systems(tmp_path / "a.csv", random_system(channels=3))
    assert list(notices.values()) == [["colors are left out: a .csv file can't store them"]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a system must have at least one map, got none"),
        ("\n# nothing\n", "a system must have at least one map, got none"),
        (CSV.replace(",", ";"), "line 1: a row must have 7 or 13 numbers separated by commas, got 1"),
        (CSV + "1,0,0,0,0,0\n", "line 5: a row must have 7 numbers separated by commas, got 6"),
        (CSV + CSV_3D, "line 5: a row must have 7 numbers separated by commas, got 13"),
        ("a,b,c,d,e,f,p\n" + CSV, "line 1: 'a' is not a number"),
        (CSV + "1,0,0,0,0,,0\n", "line 5: '' is not a number"),
        (CSV + "0,0,0,0,0,0,-0.1\n", "line 5: a probability must not be negative, got -0.1"),
        (CSV + "\n0,0,0,0,0,0,0.2\n", "line 6: the probabilities must add up to 1, got 1.2"),
        (CSV + "1e999,0,0,0,0,0,0\n", "line 5: the number 1e999 is too large"),
        ("\0", "it is not a text file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", text)
    assert_refused(path, reason, whole=True)


def test_remarks_empty_lines_and_spaces(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "# a remark\r\n\r\n .5, 0 ,0,.5,0,0,1 # one map\r\n")
    assert torch.equal(read_systems(path)["a"].matrix, torch.eye(2).double()[None] / 2)


def test_a_folder_of_very_many_files_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/b/c.csv", CSV)
    monkeypatch.setattr("fractalops.io.systems.tables._MOST_FILES", 2)
    with pytest.raises(InputError, match="a folder must contain at most 2 files"):
        read_systems(tmp_path)
