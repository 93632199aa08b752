"""Shared parts of the readers of systems: text, unique names, and errors with their position in a file."""

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
"""The maximum number of systems in a text file."""

_TEXT_COPIES = 64  # memory that reading a text needs at most, as a multiple of its size, as measured
_LONGEST_LINE = 2**20  # characters
_MOST_NOTICES = 8  # notices of duplicated names

_MOST_MAPS = 2**15  # maps of a system: the limit of the index of a chain


class Entry(NamedTuple):
    """A system in a file. It is read only when `read` is called."""

    name: str
    """Its name in the file, or "" if it has none."""
    where: str
    """Its position in the file, such as "line 3", or "" if the file has no lines."""
    read: Callable[[], System]
    """Return the system in this package's axes. Raises `InputError` if the system can't be read."""


def error_at(path: Path, where: str, reason: str) -> InputError:
    """Return the error for a file that can't be read; `where` is the position of the fault in the file."""
    return InputError(join_parts(f"cannot read {path}", where, reason))


def join_parts(*parts: str) -> str:
    """Return the parts of a message joined by colons, without empty parts."""
    return ": ".join(filter(None, parts))


def read_text(path: Path) -> str:
    """Return the text of a file, with unchanged line breaks.

    The encoding is UTF-16 if there is a byte order mark, otherwise UTF-8 if the content is valid UTF-8, otherwise
    Latin-1. Raises `InputError` if the file is not a text or is too large.
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
    """Return the content of a file. Raises `InputError` if it is larger than `most_text`."""
    check_file(path)
    with reading(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        check_memory(path, _TEXT_COPIES * size, "a text of its size")
        return file.read(size)


def most_text() -> int:
    """Return the maximum size of a text file in bytes. Reading a text needs many times its size, see `_TEXT_COPIES`."""
    return memory_limit() // _TEXT_COPIES


def split_lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers. All kinds of line breaks are accepted.

    (`str.splitlines` also splits at other characters.) Raises `InputError` if a line has more than 2^20 characters.
    """
    for number, whole in enumerate(io.StringIO(text, newline=None), 1):
        line = whole.removesuffix("\n")
        if len(line) > _LONGEST_LINE:
            raise error_at(path, f"line {number}", f"it has more than {_LONGEST_LINE} characters")
        yield number, line


def name_entries(path: Path, entries: Sequence[Entry], *, strict: bool = False) -> dict[str, Callable[[], System]]:
    """Return the functions that read the systems, by unique names in the order of the file.

    The name of a system without a name is its number in the file, or the file's name if the file has one system. If
    two systems have the same name, the later one is renamed, and a notice is logged; if `strict`, `InputError` is
    raised. Raises `InputError` if there is no system.
    """
    if not entries:
        raise InputError(f"cannot read {path}: it contains no system")
    named: dict[str, Callable[[], System]] = {}
    taken = {entry.name for entry in entries}
    tried: dict[str, int] = {}
    notices = []
    for number, entry in enumerate(entries):
        name = entry.name or (str(number) if len(entries) > 1 else as_text(path.stem) or "0")
        if name in named:
            if strict:
                raise error_at(path, entry.where, f"the name {name!r} is used by an earlier system")
            name = free_name(name, taken, tried)
            notice = f"the name {entry.name!r} is used by an earlier system: this one is renamed to {name!r}"
            notices.append(join_parts(entry.where, notice))
        taken.add(name)
        named[name] = entry.read
    if len(notices) > _MOST_NOTICES:
        notices[_MOST_NOTICES:] = [f"{len(notices) - _MOST_NOTICES} more systems are renamed"]
    log_notices(path, notices)
    return named


def free_name(name: str, taken: set[str], tried: dict[str, int]) -> str:
    """Return a name that is not in `taken`: `name` followed by "-2", "-3" ...

    `tried` stores the last number of each name between calls.
    """
    number = tried.get(name, 1) + 1
    while f"{name}-{number}" in taken:
        number += 1
    tried[name] = number
    return f"{name}-{number}"


def held_names(systems: Sequence[System], change: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """Return unique names of systems that a format can store, and notices about changed names.

    `change` converts a name to one that the format can store.
    """
    taken = {system.name for system in systems}
    tried: dict[str, int] = {}
    names, notices = [], []
    for system in systems:
        name = change(system.name)
        if name != system.name:
            name = name if name not in taken else free_name(name, taken, tried)
            taken.add(name)
            notices.append(f"the system {system.name!r} is renamed to {name!r} in the file")
        names.append(name)
    return names, notices


def check_systems(path: Path, systems: int) -> None:
    """Raise `InputError` if a text file contains too many systems."""
    if systems > MOST_SYSTEMS:
        raise InputError(f"cannot read {path}: it contains more than {MOST_SYSTEMS} systems")


def check_count(path: Path, where: str, maps: int) -> None:
    """Raise `InputError` if a system has too many maps."""
    if maps > _MOST_MAPS:
        raise error_at(path, where, f"a system must have at most {_MOST_MAPS} maps, got more")


def build_system(path: Path, where: str, matrix: Any, offset: Any, probabilities: Any, color: Any = None) -> System:
    """Return the system of the given arrays.

    Raises `InputError` if they are not valid, are not finite, or have too many maps.
    """
    parts = {"matrix": matrix, "offset": offset, "probabilities": probabilities, "color": color}
    check_count(path, where, len(offset))
    try:
        for name, values in parts.items():
            if values is not None and not bool(to_tensor("System", name, values).isfinite().all()):
                raise error_at(path, where, f"{name} must be finite, got NaN or infinite values")
        return System(matrix, offset, probabilities, color)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise error_at(path, where, one_line(error).removeprefix("System: ")) from error
