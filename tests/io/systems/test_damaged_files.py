"""Tests of truncated and of too large files of every format. tests/fuzz/test_readers.py has other damaged files."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from tests.support.system_files import CSV, CSV_3D, FLAME, IFS, JSON, array_bytes, assert_equal, random_system


def contents(folder: Path) -> dict[str, list[bytes]]:
    """Return complete files by suffix."""
    for name, channels in (("a.safetensors", 3), ("b.safetensors", None), ("a.npy", None), ("a.flame", 3)):
        with collect_notices():
            write_systems(folder / name, random_system(3, channels=channels, name="a"))
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        ".ifs": [IFS.encode(), IFS.replace("\n", "\r\n").encode("latin-1"), IFS.encode("utf-16")],
        ".csv": [CSV.encode(), CSV_3D.encode("utf-8-sig")],
        ".flame": [FLAME.encode(), FLAME.split("?>")[1].encode("utf-16"), written["a.flame"]],
        ".json": [JSON.encode(), JSON.encode("utf-8-sig")],
        ".npy": [written["a.npy"]],
        ".npz": [array_bytes(a=np.ones((2, 2, 3)), **{"a.probabilities": np.ones(2), "b": np.ones((1, 3, 4))})],
        ".safetensors": [written["a.safetensors"], written["b.safetensors"]],
    }


def check(path: Path) -> bool:
    """Return whether a file was read. Check that it is otherwise refused, and that systems are written back equal."""
    with warnings.catch_warnings(), collect_notices() as notices:
        warnings.simplefilter("error")
        try:
            systems = read_systems(path)
        except InputError as error:
            message = str(error)
            assert message.startswith(f"cannot read {path}"), message
            assert len(message.splitlines()) == 1, message
            return False
        assert all(len(notice.splitlines()) == 1 for each in notices.values() for notice in each)
        assert systems
        for name, system in systems.items():
            assert name
            assert system.name == name
            assert len(system) >= 1
            for part in (system.matrix, system.offset, system.probabilities):
                assert part.isfinite().all()
        copy = path.with_name("copy.json")
        write_systems(copy, systems)
        for name, system in read_systems(copy).items():
            assert_equal(system, systems[name])
    return True


@pytest.mark.parametrize("suffix", [".ifs", ".csv", ".flame", ".json", ".npy", ".npz", ".safetensors"])
def test_every_beginning_of_a_file_is_read_or_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    content = contents(tmp_path / "whole")[suffix][0]
    path = tmp_path / f"beginning{suffix}"
    for length in range(0, len(content), max(1, len(content) // 100)):
        path.write_bytes(content[:length])
        if check(path):
            assert suffix in (".ifs", ".csv")  # complete systems before the end are read


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ifs", b"a {" + b"0 " * 2**20 + b"}", "line 1: it has more than 1048576 characters"),
        ("a.ifs", b"a {\n" + b"0 0 0 0 0 0 0\n" * (2**15 + 1) + b"}", "at most 32768 maps, got more"),
        ("a.ifs", b"a {" + b"0\n" * 500_000 + b"}", "line 425997: a system must have at most 32768 maps, got more"),
        ("a.csv", b"0,0,0,0,0,0,0\n" * (2**15 + 1), "line 32769: a system must have at most 32768 maps, got more"),
        ("a.flame", b"<flame>" + b"<xform/>" * (2**15 + 1), "at most 32768 maps, got more"),
        ("a.ifs", b"a{}" * (2**16 + 1), "it contains more than 65536 systems"),
        ("a.flame", b"<a>" + b"<flame/>" * (2**16 + 1), "it contains more than 65536 systems"),
        ("a.json", b" " * 2**24 + b"1", "a text of its size needs 1025 MiB of memory, but the limit is 1 GiB"),
    ],
)
def test_files_that_are_too_large(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_systems(tmp_path / name)


@pytest.mark.parametrize("number", ["1" * 10**6, "." + "1" * 10**6, "1e" + "1" * 10**6, "1." + "1" * 10**6])
def test_numbers_of_very_many_digits_are_refused_at_once(number: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"0,0,0,0,0,0,{number}x\n")
    begin = time.process_time()
    with pytest.raises(InputError, match=r"line 1: '[1.e]{40}\.\.\.' is not a number"):
        read_systems(path)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("end", ["", "{\n1 0 0 1 0 0 1}\n"])
def test_very_many_lines_outside_of_braces_are_refused_at_once(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ifs"
    path.write_text("1 2 3\n" * 200_000 + end)
    begin = time.process_time()
    with pytest.raises(InputError, match=r"line 1: .*'1 2 3 1 2 3 "):
        read_systems(path)
    assert time.process_time() - begin < 2


def test_many_systems_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.ifs").write_bytes(b"a {\n1 0 0 1 0 0 1}\n" * 1000)
    with collect_notices() as notices:
        systems = read_systems(tmp_path / "a.ifs")
    assert list(systems)[::999] == ["a", "a-1000"]
    assert notices[str(tmp_path / "a.ifs")][-1] == "991 more systems are renamed"
