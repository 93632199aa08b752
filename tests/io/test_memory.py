"""Tests of the memory limit for reading files, and of files whose headers claim more than they contain."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from fractalops.data.targets import open_targets
from fractalops.errors import InputError
from fractalops.io import read_systems
from fractalops.io.files import read_json
from fractalops.io.memory import VARIABLE, check_memory, limited_memory, memory_limit, parse_size
from tests.support.command_line import refusal, run

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "size"), [("17", 17), ("17bytes", 17), ("3KiB", 3072), ("300 MiB", 300 * MIB), ("4GiB", 2**32)]
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_size(text) == size
    monkeypatch.setenv(VARIABLE, text)
    assert memory_limit() == size


@pytest.mark.parametrize("text", ["0", "-1", "4GB", "1.5GiB", "much", "GiB", "٣"])
def test_what_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError) as raised:
        memory_limit()
    assert str(raised.value) == f"{VARIABLE} must be a size such as 300MiB or 4GiB, got {text!r}"


@pytest.mark.parametrize("needed", [2**30 + 1, 2**31, 10 * 2**30, 2**34 + 1, 3 * 2**40 + 5])
def test_the_limit_that_an_error_names_suffices(needed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    check_memory("a", 2**30)
    with pytest.raises(InputError) as raised:
        check_memory("a", needed, "its text")
    message = str(raised.value)
    assert message.startswith("cannot read a: its text needs ")
    with limited_memory(parse_size(message.partition(f"{VARIABLE}=")[2].partition(" ")[0])):
        check_memory("a", needed)
    assert memory_limit() == 2**30


# Functions that write files for which reading takes more than 8 MiB


def header(descr: str, shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    fields: dict[str, Any] = {"descr": descr, "fortran_order": False, "shape": shape}
    numpy.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def sparse(path: Path, begin: bytes, size: int) -> None:
    path.write_bytes(begin)
    with path.open("r+b") as file:
        file.truncate(len(begin) + size)


def archive(path: Path, **members: tuple[bytes, int]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, (begin, size) in members.items():
            file.writestr(f"{name}.npy", begin + bytes(size))


def tensors(path: Path, size: int, metadata: dict[str, str], **shapes: tuple[int, ...]) -> None:
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + numpy.prod(shape).item()
        entries[name.replace("_", ".")] = {"dtype": "U8", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    sparse(path, len(text).to_bytes(8, "little") + text, size)


OWN = {"format": "fractalops.systems.1", "names": '["a"]'}
SYSTEMS = (10 * MIB // 48, 2, 2, 3)
HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a.csv": (lambda path: sparse(path, b"", MIB), "a text of its size needs 64 MiB of memory"),
    "a.ifs": (lambda path: sparse(path, b"", MIB), "a text of its size needs 64 MiB of memory"),
    "a.json": (lambda path: sparse(path, b"", MIB), "a text of its size needs 64 MiB of memory"),
    "a.flame": (lambda path: sparse(path, b"", MIB), "a text of its size needs 64 MiB of memory"),
    "long.npy": (
        lambda path: sparse(path, b"\x93NUMPY\2\0" + struct.pack("<I", 2**28), 2**28),
        "at most 10000 bytes, got 268435456",
    ),
    "lying.npy": (lambda path: path.write_bytes(header("<f4", SYSTEMS)), r"needs 10485744 bytes, got 0\)$"),
    "many.npy": (
        lambda path: sparse(path, header("<f4", SYSTEMS), 10 * MIB),
        r"storing 218453 systems needs \d+ MiB of memory",
    ),
    "a.npz": (
        lambda path: archive(path, a=(header("<f4", SYSTEMS), 10 * MIB)),
        "unpacking a needs 11 MiB of memory",
    ),
    "array.npz": (lambda path: sparse(path, header("<f4", SYSTEMS), 10 * MIB), r"\(it is not an archive\)$"),
    "lying.npz": (lambda path: archive(path, a=(header("<f4", SYSTEMS), 9)), r"needs 10485744 bytes, got 9\)$"),
    "own.safetensors": (
        lambda path: tensors(path, 8 * MIB, OWN, a=(8 * MIB,)),
        "it needs 17 MiB of memory",
    ),
    "foreign.safetensors": (
        lambda path: tensors(path, 8 * MIB, {"format": "pt"}, a=(8 * MIB,)),
        "its format must be fractalops",
    ),
    "header.safetensors": (
        lambda path: sparse(path, MIB.to_bytes(8, "little"), MIB),
        "its header needs 16 MiB of memory",
    ),
}


IMAGES = header("|u1", (5, 8, 8)), 5 * 64
TARGETS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "long.npy": HOSTILE["long.npy"],
    "large.npy": (
        lambda path: sparse(path, header("|u1", (1, 3000, 3000)), 3000**2),
        "decoding 3000 x 3000 pixels needs 35 MiB of memory",
    ),
    "wide.npy": (
        lambda path: sparse(path, header("|u1", (1, 1, 10**6 + 1)), 10**6 + 1),
        "each side must be at most 1000000 pixels",
    ),
    "large.npz": (
        lambda path: archive(path, a=(header("|u1", (10, 1024, 1024)), 10 * MIB)),
        "unpacking a needs 11 MiB of memory",
    ),
    "labels.npz": (
        lambda path: archive(path, images=IMAGES, labels=(header("<U50", (30_000,)), 30_000 * 200)),
        r"labels must have shape \(5,\), got \(30000,\)$",
    ),
    "labels.safetensors": (
        lambda path: tensors(path, 4 * MIB, {}, images=(2 * MIB, 1, 1), labels=(2 * MIB,)),
        "reading its labels needs 16 MiB of memory",
    ),
    "header.safetensors": HOSTILE["header.safetensors"],
}


READERS: dict[str, tuple[Callable[[Path], Any], dict[str, tuple[Callable[[Path], Any], str]]]] = {
    "systems": (read_systems, HOSTILE),
    "targets": (open_targets, TARGETS),
    "manifests": (read_json, {"run.json": (lambda path: sparse(path, b"{", MIB), "it needs 41 MiB of memory")}),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, files) in READERS.items() for name in files])
def test_a_file_is_refused_before_it_is_read(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, files = READERS[kind]
    write, reason = files[name]
    write(tmp_path / name)
    monkeypatch.setenv(VARIABLE, "8MiB")
    refused_unread(read, tmp_path / name, reason)


def refused_unread(read: Callable[[Path], Any], path: Path, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason) as raised:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert str(raised.value).startswith(f"cannot read {path}: ")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ifs", b"0 0 0 0 0 0 0\n" * 30_000, "line 1: the name of a system must be one word, got '0 0 0"),
        ("a.flame", b"<a>" * 200_000, "line 1: its elements are nested more than 64 deep"),
        ("a.flame", b"<flame>" + b"<a>" * 200_000, "line 1: its elements are nested more than 64 deep"),
        ("a.csv", b"0\n" * 300_000, "line 1: a row must have 7 or 13 numbers"),
    ],
)
def test_texts_are_refused_at_the_first_wrong_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason):
            read_systems(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(content)
    finally:
        tracemalloc.stop()


def test_a_comment_of_many_lines_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a.ifs").write_bytes(b"comment {" + b"0\n" * 500_000 + b"}\na {\n0 0 0 0 0 0 1\n}\n")
    assert list(read_systems(tmp_path / "a.ifs")) == ["a"]


def test_the_option_raises_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"format": "fractalops.systems.1", "systems": [{"name": "a", "matrix": [[[0.5, 0.0], [0.0, 0.5]]], '
        '"offset": [[0.0, 0.0]], "probabilities": [1.0]}]}'
    )
    takes = f"cannot read {path}: a text of its size needs {64 * path.stat().st_size} bytes of memory"
    convert = ("convert", str(path), str(tmp_path / "a.csv"), "--memory-limit")
    message = refusal(capsys, *convert, "1000")
    enough = message.partition("(--memory-limit ")[2].removesuffix(" raises it)")
    assert takes in message
    assert run(*convert, enough) == 0
    assert "must be a size such as 300MiB or 4GiB, got 'x'" in refusal(capsys, *convert, "x")
