"""Shared parts of the readers of systems: text, systems by name, and errors with their place in a file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fractalops.errors import InputError
from fractalops.io.files import as_text, check_file, one_line, reading
from fractalops.io.memory import check_memory, memory_limit
from fractalops.io.notices import log_notices
from fractalops.systems import System
from fractalops.systems.system import to_tensor

MOST_SYSTEMS = 2**16
"""Systems in such a file."""

_TEXT_COPIES = 64  # of its own size that a text takes at most while it is read, as measured
_LONGEST_LINE = 2**20  # characters
_MOST_NOTICES = 8  # of names that come twice

_MOST_MAPS = 2**15  # in a system: what the index of a chain can hold


class Entry(NamedTuple):
    """A system in a file, which is not looked at before it is asked for."""

    name: str
    """Its name there, or "" for none."""
    where: str
    """Its place, "line 3", or "" where there are no lines."""
    read: Callable[[], System]
    """Return the system, in this package's axes. Raises `InputError`."""


def error_at(path: Path, where: str, reason: str) -> InputError:
    """Return the error that a file can't be read, for what is wrong at some place in it."""
    return InputError(told(f"cannot read {path}", where, reason))


def told(*parts: str) -> str:
    """Return the parts of a message but for empty ones, with colons between them."""
    return ": ".join(filter(None, parts))


def read_text(path: Path) -> str:
    """Return a file's text, with line breaks as they are.

    It is UTF-8, UTF-16 with a byte order mark, or else Latin-1. Raises `InputError` for other files and large ones.
    """
    content = read_bytes(path)
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise InputError(f"cannot read {path}: it is not a text file")
    return text


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises `InputError` for more than `most_text`."""
    check_file(path)
    with reading(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        check_memory(path, _TEXT_COPIES * size, "text of its size")
        return file.read(size)


def most_text() -> int:
    """Return how many bytes a text file may have, of the numbers in which there may be so many objects."""
    return memory_limit() // _TEXT_COPIES


def split_lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers, whichever system wrote it.

    (`str.splitlines` also splits at rarer characters.) Raises `InputError` for one of more than a million characters.
    """
    for number, whole in enumerate(io.StringIO(text, newline=None), 1):
        line = whole.removesuffix("\n")
        if len(line) > _LONGEST_LINE:
            raise error_at(path, f"line {number}", f"it has more than {_LONGEST_LINE} characters")
        yield number, line


def name_entries(path: Path, entries: Sequence[Entry], *, strict: bool = False) -> dict[str, Callable[[], System]]:
    """Return what reads each system, by unique names in the order of the file.

    A system without a name has its number in the file for one, or the file's name where it is alone. One whose name is
    taken gets another one, which is logged as a notice, or is refused if `strict`. Raises `InputError`.
    """
    if not entries:
        raise InputError(f"cannot read {path}: it holds no system")
    named: dict[str, Callable[[], System]] = {}
    taken = {entry.name for entry in entries}
    tried: dict[str, int] = {}
    notices = []
    for number, entry in enumerate(entries):
        name = entry.name or (str(number) if len(entries) > 1 else as_text(path.stem) or "0")
        if name in named:
            if strict:
                raise error_at(path, entry.where, f"the name {name!r} is taken by a system before it")
            name = free_name(name, taken, tried)
            notice = f"the name {entry.name!r} is taken by a system before it: this one is read as {name!r}"
            notices.append(told(entry.where, notice))
        taken.add(name)
        named[name] = entry.read
    if len(notices) > _MOST_NOTICES:
        notices[_MOST_NOTICES:] = [f"{len(notices) - _MOST_NOTICES} more names come twice"]
    log_notices(path, notices)
    return named


def free_name(name: str, taken: set[str], tried: dict[str, int]) -> str:
    """Return a name like `name` that is not taken: with "-2", "-3" ... at its end.

    `tried` keeps the last number of each name from call to call.
    """
    number = tried.get(name, 1) + 1
    while f"{name}-{number}" in taken:
        number += 1
    tried[name] = number
    return f"{name}-{number}"


def held_names(systems: Sequence[System], change: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """Return the names of systems as a format holds them, each of which is unique, and notices of what changed.

    `change` makes a name that the format can hold.
    """
    taken = {system.name for system in systems}
    tried: dict[str, int] = {}
    names, notices = [], []
    for system in systems:
        name = change(system.name)
        if name != system.name:
            name = name if name not in taken else free_name(name, taken, tried)
            taken.add(name)
            notices.append(f"the system {system.name!r} is called {name!r} there")
        names.append(name)
    return names, notices


def check_systems(path: Path, systems: int) -> None:
    """Raise `InputError` for a text file of too many systems."""
    if systems > MOST_SYSTEMS:
        raise InputError(f"cannot read {path}: it holds more than {MOST_SYSTEMS} systems")


def check_count(path: Path, where: str, maps: int) -> None:
    """Raise `InputError` for a system of more maps than an index can number."""
    if maps > _MOST_MAPS:
        raise error_at(path, where, f"a system must have at most {_MOST_MAPS} maps, got more")


def build_system(path: Path, where: str, matrix: Any, offset: Any, probabilities: Any, color: Any = None) -> System:
    """Return a system of arrays. Raises `InputError` where they make none, and for what files don't hold."""
    parts = {"matrix": matrix, "offset": offset, "probabilities": probabilities, "color": color}
    check_count(path, where, len(offset))
    try:
        for name, values in parts.items():
            if values is not None and not bool(to_tensor("System", name, values).isfinite().all()):
                raise error_at(path, where, f"the numbers of {name} must be finite")
        return System(matrix, offset, probabilities, color)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise error_at(path, where, one_line(error).removeprefix("System: ")) from error
