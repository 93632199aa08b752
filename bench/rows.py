"""The results of a run, with a row for each measurement, and comparisons of two runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from fractalops.errors import InputError
from fractalops.io.files import atomic_path, check_file

from .timing import Spread

FORMAT = 2
LEAST_ROUNDS = 3  # fewest rounds with a meaningful spread

# The values that identify a measurement, also on different days.
Key: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Row:
    """The measurement of one op in one direction, on one case, by one backend."""

    # the contest
    op: str
    direction: str
    backend: str
    suite: str
    case: str
    sequences: int
    points: int  # points of a sequence
    maps: int
    side: int  # side of an image, pixels
    radius: int  # radius of a point's window, pixels
    images: int  # images that a call draws or learns
    dtype: str
    # the device
    device: str  # "cpu" or "cuda"
    threads: int  # 0 on a GPU
    pinned: str  # cores to which the threads were pinned; empty if that was not possible
    # the least work of a call
    bytes: int = 0
    operations: int = 0
    # the results
    milliseconds: Spread | None = None
    rounds: int = 0
    times: Spread | None = None  # its time divided by that of the native op, by round
    peak_bytes: int | None = None  # without the inputs
    problem: str = ""  # reason why there is no figure
    wrong: bool = False  # True if the backend disagrees with the reference or failed
    # hardware, versions and date
    device_name: str = ""
    driver: str = ""
    cuda: str = ""
    torch: str = ""
    triton: str = ""
    python: str = ""
    fractalops: str = ""
    date: str = ""

    def __str__(self) -> str:
        threads = f", {self.where}" if self.threads else ""
        return f"{self.op}, {self.direction}, {self.case}, {self.backend}, {self.device_name}{threads}"

    @property
    def key(self) -> Key:
        """The identity of the measurement."""
        shape = (self.sequences, self.points, self.maps, self.side, self.radius)
        return self.op, self.direction, self.backend, self.case, *shape, self.device, self.threads, self.device_name

    @property
    def where(self) -> str:
        """The device and the number of threads, as text."""
        return where(self.device, self.threads)

    @property
    def nanoseconds_a_point(self) -> float | None:
        """The time of a point in nanoseconds."""
        return 1e9 / self.points_per_second if self.points_per_second else None

    @property
    def points_per_second(self) -> float | None:
        """The rate of points. None for `fit`, which draws the points again in every step."""
        return self._rate(self.sequences * self.points) if self.op != "fit" else None

    @property
    def images_per_second(self) -> float | None:
        """The rate of images."""
        return self._rate(self.images)

    @property
    def bytes_per_second(self) -> float | None:
        """The rate of the least memory traffic."""
        return self._rate(self.bytes)

    @property
    def operations_per_second(self) -> float | None:
        """The rate of the least operations."""
        return self._rate(self.operations)

    def _rate(self, count: int) -> float | None:
        return count / (self.milliseconds.median / 1e3) if count and self.milliseconds else None


@dataclass(frozen=True)
class Rates:
    """The measured limits of a device, which are its roofline."""

    device: str
    threads: int
    bytes_per_second: float | None  # bytes read and written by a copy
    operations_per_second: float | None  # float32 operations; a multiply-add is two

    @property
    def where(self) -> str:
        """The device and the number of threads, as text."""
        return where(self.device, self.threads)

    def share(self, row: Row) -> float | None:
        """Return the share of the roofline that a row reaches: the least time by these rates, divided by its time.

        The share can be above 1 if the data stays in a cache, which is faster than a copy.
        """
        parts = ((row.bytes, self.bytes_per_second), (row.operations, self.operations_per_second))
        least = [work / rate for work, rate in parts if work and rate]
        return max(least) / (row.milliseconds.median / 1e3) if least and row.milliseconds else None


def where(device: str, threads: int) -> str:
    """Return the device and the number of threads as text."""
    return f"{threads} thread{'s' * (threads > 1)}" if device == "cpu" else "GPU"


def find(rows: Iterable[Row], **fields: object) -> list[Row]:
    """Return the rows whose fields have these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


# The fields that differ between the backends of a contest.
OF_BACKEND = ("backend", "milliseconds", "rounds", "times", "peak_bytes", "problem", "wrong")
DEFAULTS = [next(field.default for field in fields(Row) if field.name == name) for name in OF_BACKEND]


@dataclass(frozen=True)
class Figures:
    """The results of one benchmark run."""

    rows: tuple[Row, ...]
    rates: tuple[Rates, ...]
    machine: dict[str, str]

    def text(self) -> str:
        """Return the figures as JSON with one line per contest: its shape, then the figures of each backend.

        The names of these values come before the lines, and so do the values that are the same in all rows.
        """
        rows = [_plain(row) for row in self.rows]
        shared = [name for name in (rows[0] if rows else {}) if name not in OF_BACKEND]
        common = {name: rows[0][name] for name in shared if all(row[name] == rows[0][name] for row in rows)}
        names = [name for name in shared if name not in common]
        head = {
            "format": FORMAT,
            "machine": self.machine,
            "rates": [asdict(each) for each in self.rates],
            "common": common,
            "contest": names,
            "backend": OF_BACKEND,
        }
        lines = [
            json.dumps([contest, *map(_trimmed, group)], allow_nan=False, separators=(",", ":"))
            for contest, group in groupby(rows, lambda row: [row[name] for name in names])
        ]
        return json.dumps(head, indent=1, allow_nan=False)[:-2] + ',\n "rows": [\n' + ",\n".join(lines) + "\n]}\n"

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        with atomic_path(path, durable=True) as temporary:
            temporary.write_text(self.text(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Figures:
        """Read a file. Raises `InputError` if it doesn't have this format."""
        check_file(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise InputError(f"cannot read {path}: its format is {document['format']}, not {FORMAT}")
            rows = (
                document["common"]
                | dict(zip(document["contest"], contest, strict=True))
                | dict(zip(document["backend"], figures, strict=False))
                for contest, *backends in document["rows"]
                for figures in backends
            )
            rates = tuple(Rates(**each) for each in document["rates"])
            return cls(tuple(map(_row, rows)), rates, document["machine"])
        except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read {path}: it contains no figures of fractalops bench") from error


def _plain(row: Row) -> dict[str, Any]:
    """Return the fields as JSON values. A spread becomes three numbers with six digits."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    spreads = {name: value for name, value in values.items() if isinstance(value, Spread)}
    return values | {name: [float(f"{each:.6g}") for each in astuple(value)] for name, value in spreads.items()}


def _trimmed(row: dict[str, Any]) -> list[Any]:
    """Return the values of `OF_BACKEND` up to the last one that is not a default."""
    values = [row[name] for name in OF_BACKEND]
    while values[-1] == DEFAULTS[len(values) - 1]:
        values.pop()
    return values


def _row(values: dict[str, Any]) -> Row:
    spreads = {name: Spread(*values[name]) for name in ("milliseconds", "times") if values.get(name)}
    return Row(**(values | spreads))


@dataclass(frozen=True)
class Change:
    """A change of a row that is larger than both spreads."""

    old: Row
    new: Row
    factor: float  # ratio of the medians, new / old


@dataclass(frozen=True)
class Comparison:
    """A comparison of two runs."""

    moved: list[Change]  # largest slowdown first
    shared: int  # measurements with a figure in both runs
    only_old: list[str]  # as text
    only_new: list[str]


def compare(old: Sequence[Row], new: Sequence[Row]) -> Comparison:
    """Return the changes from one run to another that are larger than both spreads.

    Rows of different processors, GPUs or shapes are not compared, but are listed as rows of one run. Rows with fewer
    than `LEAST_ROUNDS` rounds, which have no spread, are never a change.
    """
    before, after = ({row.key: row for row in rows if row.milliseconds} for rows in (old, new))
    both = [(before[key], row) for key, row in after.items() if key in before]
    moved = []
    for was, now in both:
        a, b = was.milliseconds, now.milliseconds
        if a and b and min(was.rounds, now.rounds) >= LEAST_ROUNDS and (b.low > a.high or b.high < a.low):
            moved.append(Change(was, now, b.median / a.median))
    return Comparison(
        sorted(moved, key=lambda change: -change.factor),
        len(both),
        sorted(str(row) for key, row in before.items() if key not in after),
        sorted(str(row) for key, row in after.items() if key not in before),
    )
