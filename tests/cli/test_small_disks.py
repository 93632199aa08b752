"""Tests of commands on a full disk: one line of error, no broken file, and success once there is space."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_runs import (
    KINDS,
    Kind,
    check_whole,
    comparable,
    rerun_options,
    run_command,
    write_inputs,
    written,
)

_PAGE = 4096  # bytes; a tmpfs allocates whole pages
_FULL = ("no space left on device", "file too large", "disk quota exceeded")


def check(kind: Kind, inputs: Path, output: Path, whole: Path, most: int | None, make_room: Callable[[], None]) -> None:
    """Check a command while there is no space, then again after `make_room`."""
    ending = run_command(kind, inputs, output, most=most)
    assert ending.code == 2, ending.error
    *before, line = ending.error.splitlines()
    assert all("the learned systems are saved" in other for other in before), ending.error
    assert line.startswith(f"fractalops {kind.arguments[0]}: ")
    assert any(reason in line.lower() for reason in _FULL), line
    for path in written(output).values():
        check_whole(path)
    make_room()
    again = run_command(kind, inputs, output, *rerun_options(output, kind))
    assert (again.code, again.error) == (0, "")
    assert comparable(output) == comparable(whole)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def wholes(inputs: Path) -> dict[str, Path]:
    """Return the cache of complete outputs by command, which `whole` fills."""
    return {}


@pytest.fixture
def whole(name: str, inputs: Path, wholes: dict[str, Path]) -> Path:
    if name not in wholes:
        folder = inputs / f"whole {len(wholes)}"
        folder.mkdir()
        output = folder / KINDS[name].output
        assert run_command(KINDS[name], inputs, output)[:2] == (0, "")
        wholes[name] = output
    return wholes[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_files_that_can_not_grow(name: str, inputs: Path, whole: Path, tmp_path: Path) -> None:
    """The process limits the size of its files, which needs no privileges."""
    largest = max(path.stat().st_size for path in written(whole).values())
    output = tmp_path / KINDS[name].output
    check(KINDS[name], inputs, output, whole, largest // 2, lambda: None)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount an in-memory file system of `size` bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if done.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk(name: str, share: float, inputs: Path, whole: Path, tmp_path: Path) -> None:
    pages = sum(-(-path.stat().st_size // _PAGE) for path in written(whole).values())
    disk = tmp_path / "disk"
    with small_disk(disk, _PAGE * (1 + int(share * pages))):
        (disk / "something").write_bytes(bytes(_PAGE))

        def make_room() -> None:
            subprocess.run(["mount", "-o", f"remount,size={2**26}", str(disk)], check=True)

        check(KINDS[name], inputs, disk / KINDS[name].output, whole, None, make_room)
