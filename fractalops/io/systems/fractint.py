"""Fractint's .ifs files: named systems `name { rows }`, and in 3-D `name { (3D) rows }`.

Numbers are separated by spaces, tabs or commas. `;` starts a comment, and `comment { ... }` contains text. As in
Fractint, the file ends at a Ctrl-Z. Unlike in Fractint, each row must start on a new line. It may continue on the next
line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fractalops.io.notices import log_notices
from fractalops.io.systems.entries import (
    Entry,
    check_count,
    check_systems,
    error_at,
    held_names,
    read_text,
    split_lines,
)
from fractalops.io.systems.rows import COLUMNS, TOLERANCE, Row, parse_number, rows_of_system, system_of_rows
from fractalops.systems import System

_IN_SPACE = re.compile(r"\(\s*3d\s*\)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,']+")
_NOT_IN_NAMES = re.compile(r"[\s{}();,'\x00-\x1f\x7f\ufeff]+")
_MOST_MAPS = 64  # maps of a system that Fractint can read
_LONGEST_HEAD = 8  # lines before a brace that are not empty
_LETTERS = {7: "a b c d e f p", 13: "a to l and p"}


@dataclass
class _Block:
    """The text of a system in the file."""

    name: str
    line: int
    in_space: bool
    lines: list[tuple[int, str]] = field(default_factory=list)


def open_fractint(path: Path) -> list[Entry]:
    """Return the systems of an .ifs file. Raises `InputError` if its braces don't match."""
    blocks = [block for block in _blocks(path, read_text(path)) if block.name.lower() != "comment"]
    return [Entry(block.name, f"line {block.line}", partial(_read, path, block)) for block in blocks]


def _blocks(path: Path, text: str) -> list[_Block]:
    blocks = []
    block: _Block | None = None
    head: list[str] = []  # the text before the next brace, line by line
    head_line = 0
    for number, line in split_lines(path, text.partition("\x1a")[0]):
        rest = line.partition(";")[0]
        while rest.strip():
            if block is None:
                part, brace, rest = rest.partition("{")
                if not head:
                    head_line = number
                head.append(part)
                if len(head) == _LONGEST_HEAD:  # a large file of another format is refused early
                    _begin(path, " ".join(head), head_line)
                if not brace:
                    break
                block = _begin(path, " ".join(head), head_line)
                head = []
            part, brace, rest = rest.partition("}")
            if "{" in part and block.name.lower() != "comment":
                raise error_at(path, f"line {number}", f"a brace opens before the brace of {block.name!r} is closed")
            if block.name.lower() != "comment":
                block.lines.append((number, part))
                check_count(path, f"line {number}", len(block.lines) // max(COLUMNS))  # a line has a number or more
            if brace:
                blocks.append(block)
                check_systems(path, len(blocks))
                block = None
    if block is not None:
        raise error_at(path, f"line {block.line}", f"the brace of {block.name!r} is not closed")
    if head:
        raise error_at(path, f"line {head_line}", f"{_shown(' '.join(head))} is outside the braces of a system")
    return blocks


def _begin(path: Path, head: str, line: int) -> _Block:
    words = _IN_SPACE.sub(" ", head).split()
    if len(words) != 1:
        raise error_at(path, f"line {line}", f"the name of a system must be one word, got {_shown(head)}")
    return _Block(words[0], line, in_space=_IN_SPACE.search(head) is not None)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _read(path: Path, block: _Block) -> System:
    lines = block.lines
    in_space = block.in_space
    if lines and _IN_SPACE.search(lines[0][1]):
        in_space = True
        lines = [(lines[0][0], _IN_SPACE.sub(" ", lines[0][1])), *lines[1:]]
    width = 13 if in_space else 7
    rows: list[Row] = []
    pending: list[float] = []  # the numbers of a row that continues on the next line
    begin = 0  # the line at which that row starts
    for number, text in lines:
        where = f"line {number}"
        if not in_space and _IN_SPACE.search(text):
            raise error_at(path, where, "(3D) must be on the line of the opening brace")
        values = [parse_number(word, path, where) for word in _SEPARATORS.split(text) if word]
        if not values:
            continue
        if not pending:
            begin = number
        elif len(pending) + len(values) > width:
            raise _wrong_width(path, begin, width, len(pending))
        pending = [*pending, *values]
        if len(pending) > width and len(pending) % width != 0:
            raise _wrong_width(path, begin, width, len(pending))
        if len(pending) >= width:
            rows += [(begin, pending[first : first + width]) for first in range(0, len(pending), width)]
            pending = []
            check_count(path, where, len(rows))
    if pending:
        raise _wrong_width(path, begin, width, len(pending))
    if rows and rows[0][0] == block.line:
        log_notices(path, [f"line {block.line}: the numbers on the line of the name are read, but Fractint skips them"])
    return system_of_rows(
        path, _without_negative(path, rows), f"line {block.line}", f"the probabilities of {block.name!r}"
    )


def _without_negative(path: Path, rows: list[Row]) -> list[Row]:
    """Return rows with negative probabilities replaced by 0 if the others add up to 1, as Fractint reads such files."""
    if abs(sum(max(numbers[-1], 0.0) for _, numbers in rows) - 1) > TOLERANCE:
        return rows
    negative = [(line, numbers[-1]) for line, numbers in rows if numbers[-1] < 0]
    log_notices(
        path,
        [
            f"line {line}: the probability {value:g} is replaced by 0, as the others add up to 1"
            for line, value in negative
        ],
    )
    return [(line, [*numbers[:-1], max(numbers[-1], 0.0)]) for line, numbers in rows]


def _wrong_width(path: Path, line: int, width: int, got: int) -> Exception:
    hint = "; mark a 3-D system with (3D)" if width == 7 and got in COLUMNS else ""
    return error_at(path, f"line {line}", f"a row must have {width} numbers ({_LETTERS[width]}), got {got}{hint}")


def write_fractint(path: Path, systems: list[System]) -> list[str]:
    """Write an .ifs file; return notices."""
    names, notices = held_names(systems, _plain)
    parts = []
    for name, system in zip(names, systems, strict=True):
        if system.color is not None:
            notices.append("colors are left out: an .ifs file can't store them")
        if len(system) > _MOST_MAPS:
            notices.append(f"Fractint can read at most {_MOST_MAPS} maps of a system")
        rows = "\n".join(f"  {' '.join(row)}" for row in rows_of_system(system))
        parts.append(f"{name} {{{' (3D)' if system.dimensions == 3 else ''}\n{rows}\n}}\n")
    path.write_text("\n".join(parts), encoding="utf-8")
    return list(dict.fromkeys(notices))


def _plain(name: str) -> str:
    """Return a name of one word that is not "comment"."""
    name = _NOT_IN_NAMES.sub("_", name).encode("utf-8", "replace").decode()
    return f"{name}_" if name.lower() == "comment" else name
