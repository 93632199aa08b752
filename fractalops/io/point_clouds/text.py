"""Read points from text, one per line. A text that can be read in two ways is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy

from fractalops.errors import InputError
from fractalops.io.point_clouds.table import Cloud, PointList, first_three

_BLOCK = 2**20  # characters that are read together
_LONGEST = 2**16  # characters of a line
_SHOWN = 60  # characters of a line in a message

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE | re.ASCII)
_COMMENT = re.compile(r"(?:#|//).*")
_SEPARATOR = re.compile(r"[\s;,]+")
_GAP = re.compile(r"[^\s,][ \t]+[^\s,]")  # white space between two numbers, without a comma
_LOOSE = re.compile(r",[^\S\n]|[^\S\n],")  # commas next to white space, which can't be decimal
_TIGHT = re.compile(r"[^\s,],[^\s,]")
_EMPTY = re.compile(r"^[ \t]*[;,]|[;,][ \t]*[;,]|(?<=[^\s])\t *\t(?=[^\s])", re.MULTILINE)
_LAST = re.compile(r"[;,][ \t]*$", re.MULTILINE)  # a separator that nothing follows


def lines_of(path: Path, file: TextIO, number: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a text in parts, each with the number of its first line.

    `number` is the number of the first line of `file`. Raises `InputError` if the file is not a text, or has a line of
    more than `_LONGEST` characters.
    """
    rest = ""
    while block := file.read(_BLOCK):
        if "\0" in block:
            raise InputError(f"cannot read {path}: it is not a text file")
        *lines, rest = (rest + block).split("\n")
        if lines:
            yield number, lines
            number += len(lines)
        if len(rest) > _LONGEST:
            raise InputError(f"cannot read {path}: line {number} is longer than {_LONGEST} characters")
    if rest:
        yield number, [rest]


def parse_rows(
    path: Path, number: int, lines: Sequence[str], columns: int | None, shown: Sequence[str] | None = None
) -> numpy.ndarray:
    """Return the numbers (P, columns) of lines. Empty lines are left out.

    Args:
        path: the file, for messages.
        number: the number of the first line, for messages.
        lines: numbers separated by white space.
        columns: how many numbers each line must have; None means as many as the first line.
        shown: the lines as they are in the file, for messages.

    Raises:
        InputError: if a line has other content; the message names the first such line.
    """
    if not any(map(str.strip, lines)):
        return numpy.empty((0, columns or 0))
    rows = _parse(lines)
    if rows is not None and rows.shape[1] == (columns or rows.shape[1]):
        return rows
    for place, line in enumerate(lines):
        fields = line.split()
        columns = columns or len(fields)
        if fields and not (len(fields) == columns and all(map(_NUMBER.fullmatch, fields))):
            raise _error(path, number + place, (shown or lines)[place], f"{columns} numbers")
    raise InputError(f"cannot read {path}: lines {number} to {number + len(lines) - 1} are not all numbers")


def _parse(lines: Sequence[str], separator: str | None = None) -> numpy.ndarray | None:
    """Return the numbers of lines, or None if the lines are not numbers or differ in their number of columns.

    At least one line must not be empty.
    """
    try:
        return numpy.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
    except ValueError:
        return None


def _error(path: Path, number: int, line: str, expected: str) -> InputError:
    text = line.strip()
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return InputError(f"cannot read {path}: line {number} must be a point of {expected}, got {text!r}")


def read_text(path: Path) -> Cloud:
    """Return the points of a text."""
    text = _Text(path)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, lines in lines_of(path, file):
            text.add(number, lines)
    return text.cloud()


class _Text:
    """A text that is read in parts. The lines before its points determine the columns of the coordinates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = PointList(path)
        self.declared: tuple[int, int] | None = None  # the number of points, and the line that declares it
        self.names: list[str] = []  # of the columns, from a line of names or the last comment before the points
        self.named = 0  # the number of the line of names, 0 if the names come from a comment or there are none
        self.columns = 0  # the number of columns, 0 before the first point
        self.chosen: list[int] = []  # the columns of the coordinates
        self.comma = ""  # " " if commas separate numbers, "." if they are decimal, "" before the first comma
        self.dotted = False  # whether there are decimal points
        self.certain = False  # whether it is certain that commas are not decimal
        self.notices: list[str] = []

    def add(self, number: int, lines: list[str]) -> None:
        """Read lines; `number` is that of the first one."""
        if not self.columns:
            begin = self._begin(number, lines)
            number, lines = number + begin, lines[begin:]
        text = _COMMENT.sub("", "\n".join(lines))
        if not text.strip():
            return
        bare = text.split("\n")
        self.dotted = self.dotted or "." in text
        if "," in text or self.comma == ".":
            text = self._without_commas(number, text, bare)
        separator = next((sign for sign in ";,\t" if sign in text), None)
        rows = _parse(text.split("\n"), separator)  # fast; most texts have one separator on all lines
        if rows is None or rows.shape[1] != (self.columns or rows.shape[1]):
            text = self._spaced(number, text, bare)
            rows = parse_rows(self.path, number, text.split("\n"), self.columns or None, bare)
        if not self.columns:
            self._choose(number, rows.shape[1], bare)
        self.certain = self.certain or "e" in text.lower() or bool((rows[:, 1::2] < 0).any())
        self.points.add(rows[:, self.chosen])

    def _begin(self, number: int, lines: list[str]) -> int:
        """Return how many lines are before the points: comments, a line of names, and the number of points."""
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            bare = _COMMENT.sub("", line).strip()
            fields = _SEPARATOR.split(bare.strip(";,"))
            if not bare:
                self.names = self.names if self.named else _names(line.strip().lstrip("#/"))
            elif len(fields) == 1 and fields[0].isdecimal() and self.declared is None:
                self.declared = int(fields[0]), number + place
            elif not self.named and not any(map(_NUMBER.fullmatch, fields)):
                self.names, self.named = _names(bare), number + place
            else:
                return place
        return len(lines)

    def _without_commas(self, number: int, text: str, lines: list[str]) -> str:
        """Return the text with decimal commas replaced by points. Commas between numbers are kept."""
        if not self.comma:
            place = _first(",", lines)
            line = lines[place]
            self.comma = _meaning(line)
            self.certain = self.certain or _LOOSE.search(line.strip().rstrip(",")) is not None
            if not self.comma:
                raise self._unclear(number + place, line)
        if self.comma == ".":
            if self.dotted:
                place = max(_first(sign, lines) for sign in ".,")
                raise self._unclear(number + place, lines[place])
            if (loose := _LOOSE.search(text)) is not None:
                place = text.count("\n", 0, loose.start())
                raise self._unclear(number + place, lines[place])
            return text.replace(",", ".")
        return text

    def _spaced(self, number: int, text: str, lines: list[str]) -> str:
        """Return the text with all separators replaced by spaces.

        In a text with commas between numbers, lines without commas may be separated by spaces.
        """
        for place, line in enumerate(lines) if self.comma == " " else ():
            if "," in line and (";" in line or _GAP.search(line) is not None):
                raise self._unclear(number + place, line)
        text = _LAST.sub("", text)
        if (empty := _EMPTY.search(text)) is not None:
            place = text.count("\n", 0, empty.start())
            raise _error(self.path, number + place, lines[place], "numbers without an empty field")
        return text.replace(";", " ").replace(",", " ")

    def _unclear(self, number: int, line: str) -> InputError:
        expected = "numbers in which all commas are separators or all are decimal (1.5, 2.5, 3.5 or 1,5; 2,5; 3,5)"
        return _error(self.path, number, line, expected)

    def _choose(self, number: int, columns: int, lines: list[str]) -> None:
        """Decide which columns are the coordinates."""
        if columns < 2:
            place = next(place for place, line in enumerate(lines) if line.strip())
            raise _error(self.path, number + place, lines[place], "2 or more numbers")
        self.columns = columns
        self.chosen = list(range(min(columns, 3)))
        known = len(self.names) == columns and (self.named or {"x", "y"} <= set(self.names))
        names = self.names if known else []
        self.certain = self.certain or bool(names)
        axes = [names.index(axis) for axis in "xyz" if axis in names]
        if len(axes) == 3 or (len(axes) == 2 and columns <= 3 and "z" not in names and axes != [0, 1]):
            self.chosen = axes
        elif self.named and columns > 3:
            raise InputError(
                f"cannot read {self.path}: line {self.named} must name {columns} columns, x, y and z among them, "
                f"got {', '.join(self.names)[:_SHOWN]!r}"
            )
        if self.chosen == [0, 1, 2]:
            self.notices = first_three(columns)
        elif columns > len(self.chosen):
            self.notices = [f"{columns} columns: {', '.join(names[place] for place in self.chosen)} are used"]

    def cloud(self) -> Cloud:
        """Return the points. Raises `InputError` if their number is not the declared one, or commas are ambiguous."""
        if self.declared is not None and len(self.points) != self.declared[0]:
            count, number = self.declared
            raise InputError(f"cannot read {self.path}: line {number} declares {count} points, got {len(self.points)}")
        if self.comma == " " and self.columns > 3 and not (self.certain or self.dotted):
            raise InputError(
                f"cannot read {self.path}: commas between whole numbers may be decimal commas (1,5 for 1.5); if they "
                "are separators, add a space after each, or a line of column names before the points"
            )
        return Cloud(self.points.points(), self.notices)


def _names(line: str) -> list[str]:
    """Return the names of columns in lower case."""
    separator = next((each for each in ";,\t" if each in line), None)
    return [name.strip(" \t\"'").lower() for name in line.strip().split(separator)]


def _first(sign: str, lines: list[str]) -> int:
    """Return the index of the first line that contains `sign`, or 0 if none does."""
    return next((place for place, line in enumerate(lines) if sign in line), 0)


def _meaning(line: str) -> str:
    """Return the meaning of the commas of a line: " " for separators, "." for decimal commas, "" if it is unclear."""
    if ";" in line:
        return "."
    line = line.strip().rstrip(",")
    gap, loose, tight = (pattern.search(line) is not None for pattern in (_GAP, _LOOSE, _TIGHT))
    if gap:
        return "" if loose or "." in line else "."  # 388,104.05 3,949,004.08: thousands separators
    if loose and tight:  # 1.50, 2.50,13.50 are three numbers; 1,5, 2,5 are two or four
        return " " if all("." in field for field in line.split(",")) else ""
    return " "
