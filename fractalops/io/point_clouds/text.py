"""Points in text, one a line. Numbers are read right or refused: what can be read in two ways is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy

from fractalops.errors import InputError
from fractalops.io.point_clouds.table import Cloud, PointList, first_three

_BLOCK = 2**20  # characters that are held at once
_LONGEST = 2**16  # of a line
_SHOWN = 60  # of a line in a message

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE | re.ASCII)
_COMMENT = re.compile(r"(?:#|//).*")
_SEPARATOR = re.compile(r"[\s;,]+")
_GAP = re.compile(r"[^\s,][ \t]+[^\s,]")  # white space between two numbers, without a comma
_LOOSE = re.compile(r",[^\S\n]|[^\S\n],")  # of which none is decimal
_TIGHT = re.compile(r"[^\s,],[^\s,]")
_EMPTY = re.compile(r"^[ \t]*[;,]|[;,][ \t]*[;,]|(?<=[^\s])\t *\t(?=[^\s])", re.MULTILINE)
_LAST = re.compile(r"[;,][ \t]*$", re.MULTILINE)  # a separator that nothing follows


def lines_of(path: Path, file: TextIO, number: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a text in parts, each with the number of its first; `number` is that of the file's.

    Raises `InputError` where it is no text, or has a line of more than `_LONGEST` characters.
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
    """Return the numbers (P, columns) of lines, of which empty ones are left out.

    Args:
        path: of the file, for messages.
        number: of the first line, for messages.
        lines: numbers separated by white space.
        columns: how many each line has; None takes those of the first.
        shown: the lines as the file has them.

    Raises:
        InputError: for the first line that is not so.
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
    """Return the numbers of lines, of which one at least isn't empty; None where they are not numbers, as many each."""
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
    """A text that is read some lines at a time: what comes before its points says which columns are theirs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = PointList(path)
        self.promised: tuple[int, int] | None = None  # how many points, and the line that says so
        self.names: list[str] = []  # of the columns, by a line of names or the last comment before the points
        self.named = 0  # the line of names that is no comment
        self.columns = 0  # known from the first point on
        self.chosen: list[int] = []
        self.comma = ""  # what commas stand for: " " between numbers, "." in them, "" while there is none
        self.dotted = False  # whether there are decimal points
        self.certain = False  # whether anything shows that commas can't be decimal
        self.notices: list[str] = []

    def add(self, number: int, lines: list[str]) -> None:
        """Read lines, the first of which has a number."""
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
        rows = _parse(text.split("\n"), separator)  # most texts have one separator, in the same way on each line
        if rows is None or rows.shape[1] != (self.columns or rows.shape[1]):
            text = self._spaced(number, text, bare)
            rows = parse_rows(self.path, number, text.split("\n"), self.columns or None, bare)
        if not self.columns:
            self._choose(number, rows.shape[1], bare)
        self.certain = self.certain or "e" in text.lower() or bool((rows[:, 1::2] < 0).any())
        self.points.add(rows[:, self.chosen])

    def _begin(self, number: int, lines: list[str]) -> int:
        """Return how many lines come before the points: comments, a line of names, the number of points."""
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            bare = _COMMENT.sub("", line).strip()
            fields = _SEPARATOR.split(bare.strip(";,"))
            if not bare:
                self.names = self.names if self.named else _names(line.strip().lstrip("#/"))
            elif len(fields) == 1 and fields[0].isdecimal() and self.promised is None:
                self.promised = int(fields[0]), number + place
            elif not self.named and not any(map(_NUMBER.fullmatch, fields)):
                self.names, self.named = _names(bare), number + place
            else:
                return place
        return len(lines)

    def _without_commas(self, number: int, text: str, lines: list[str]) -> str:
        """Return text in which decimal commas are points; commas between numbers stay."""
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
        """Return text with spaces for separators. A line without commas may have them beside ones with commas."""
        for place, line in enumerate(lines) if self.comma == " " else ():
            if "," in line and (";" in line or _GAP.search(line) is not None):
                raise self._unclear(number + place, line)
        text = _LAST.sub("", text)
        if (empty := _EMPTY.search(text)) is not None:
            place = text.count("\n", 0, empty.start())
            raise _error(self.path, number + place, lines[place], "numbers without a gap")
        return text.replace(";", " ").replace(",", " ")

    def _unclear(self, number: int, line: str) -> InputError:
        expected = "numbers whose commas all separate or are all decimal (as in 1.5, 2.5, 3.5 or 1,5; 2,5; 3,5)"
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
        """Return the points. Raises `InputError` where they are not those that were promised."""
        if self.promised is not None and len(self.points) != self.promised[0]:
            count, number = self.promised
            raise InputError(f"cannot read {self.path}: line {number} promises {count} points, got {len(self.points)}")
        if self.comma == " " and self.columns > 3 and not (self.certain or self.dotted):
            raise InputError(
                f"cannot read {self.path}: commas between whole numbers may be decimal (1,5 for 1.5); if they "
                "separate, put a space behind each, or a line of names before the points"
            )
        return Cloud(self.points.points(), self.notices)


def _names(line: str) -> list[str]:
    """Return the names of columns, in small letters."""
    separator = next((each for each in ";,\t" if each in line), None)
    return [name.strip(" \t\"'").lower() for name in line.strip().split(separator)]


def _first(sign: str, lines: list[str]) -> int:
    """Return the place of the first line that has a sign, 0 where none has."""
    return next((place for place, line in enumerate(lines) if sign in line), 0)


def _meaning(line: str) -> str:
    """Return what the commas of a line stand for: " " between numbers, "." in them, "" where that isn't clear."""
    if ";" in line:
        return "."
    line = line.strip().rstrip(",")
    gap, loose, tight = (pattern.search(line) is not None for pattern in (_GAP, _LOOSE, _TIGHT))
    if gap:
        return "" if loose or "." in line else "."  # 388,104.05 3,949,004.08 would be five numbers
    if loose and tight:  # 1.50, 2.50,13.50 are three numbers; 1,5, 2,5 are two or four
        return " " if all("." in field for field in line.split(",")) else ""
    return " "
