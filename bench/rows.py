"""A measurement as a row, which can be read alone: what, where, when, by which versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from fractalops.errors import InputError
from fractalops.io.files import atomic_path

from .timing import Spread, ratios

FORMAT = 1
LEAST_ROUNDS = 3  # of which a spread can be told

# What makes two rows the same measurement, on whatever machine and day.
Key: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Row:
    """One op in one direction, on one case, by one backend."""

    # what was run
    op: str
    direction: str
    backend: str
    suite: str
    case: str
    sequences: int
    points: int  # of a sequence
    maps: int
    side: int  # of an image, pixels
    radius: int  # of a point's window, pixels
    images: int  # that a call makes, or learns
    dtype: str
    # where it ran
    device: str  # "cpu" or "cuda"
    threads: int  # 0 on a GPU
    pinned: str  # the cores that the threads were kept on, if they could be
    # how long it took: the rounds of those that were timed in turn belong together
    milliseconds: tuple[float, ...] = ()
    # what a call does at least, and what it took beside its inputs
    bytes: int = 0
    operations: int = 0
    peak_bytes: int | None = None
    problem: str = ""  # why there is no figure
    wrong: bool = False  # the reason is that it disagrees with the reference, or failed
    # who, when and by what
    device_name: str = ""
    driver: str = ""
    cuda: str = ""
    torch: str = ""
    triton: str = ""
    python: str = ""
    fractalops: str = ""
    date: str = ""

    @property
    def key(self) -> Key:
        shape = (self.sequences, self.points, self.maps, self.side, self.radius)
        return self.op, self.direction, self.backend, self.case, *shape, self.device, self.threads

    @property
    def contest(self) -> tuple[str, str, str]:
        """What the rows that are compared with one another have in common."""
        return self.op, self.direction, self.case

    @property
    def where(self) -> str:
        return where(self.device, self.threads)

    @property
    def spread(self) -> Spread | None:
        """Milliseconds: the median and the 20th and 80th percentiles."""
        return Spread.of(self.milliseconds) if self.milliseconds else None

    @property
    def nanoseconds_a_point(self) -> float | None:
        return 1e9 / self.points_per_second if self.points_per_second else None

    @property
    def points_per_second(self) -> float | None:
        """None of `fit`, a call of which draws the points anew in every step."""
        return self._rate(lambda seconds: self.sequences * self.points / seconds) if self.op != "fit" else None

    @property
    def images_per_second(self) -> float | None:
        return self._rate(lambda seconds: self.images / seconds) if self.images else None

    @property
    def bytes_per_second(self) -> float | None:
        return self._rate(lambda seconds: self.bytes / seconds) if self.bytes else None

    @property
    def operations_per_second(self) -> float | None:
        return self._rate(lambda seconds: self.operations / seconds) if self.operations else None

    def _rate(self, of_seconds: Callable[[float], float]) -> float | None:
        return of_seconds(self.spread.median / 1e3) if self.spread else None

    def times_as_fast_as(self, other: Row) -> Spread | None:
        """How many times as long the other took, round by round where both were timed in turn."""
        if not self.milliseconds or not other.milliseconds:
            return None
        if len(self.milliseconds) == len(other.milliseconds):
            return ratios(other.milliseconds, self.milliseconds)
        return Spread.of([each / Spread.of(self.milliseconds).median for each in other.milliseconds])

    def to_json(self) -> dict[str, Any]:
        """All fields, and what follows from them."""
        derived = ("points_per_second", "images_per_second", "bytes_per_second", "operations_per_second")
        spread = self.spread
        percentiles = [spread.low, spread.median, spread.high] if spread else None
        return asdict(self) | {"milliseconds_20_50_80": percentiles} | {name: getattr(self, name) for name in derived}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        known = {field.name: values[field.name] for field in fields(cls)}
        return replace(cls(**known), milliseconds=tuple(values["milliseconds"]))


@dataclass(frozen=True)
class Rates:
    """What a device can do at most, measured on the spot: a roofline."""

    device: str
    threads: int
    bytes_per_second: float | None  # of a copy, read and written
    operations_per_second: float | None  # float32, of multiply-adds, two each

    @property
    def where(self) -> str:
        return where(self.device, self.threads)

    def share(self, row: Row) -> float | None:
        """Of the roof that a row reaches: the least time by these rates over its time, 1 being all of it.

        More where the data stays in a cache, which is faster than a copy.
        """
        parts = ((row.bytes, self.bytes_per_second), (row.operations, self.operations_per_second))
        least = [work / rate for work, rate in parts if work and rate]
        return max(least) / (row.spread.median / 1e3) if least and row.spread else None


@dataclass(frozen=True)
class Figures:
    """What one run of the benchmarks found."""

    rows: tuple[Row, ...]
    rates: tuple[Rates, ...]
    machine: dict[str, str]

    def text(self) -> str:
        document = {
            "format": FORMAT,
            "machine": self.machine,
            "rates": [asdict(each) for each in self.rates],
            "rows": [row.to_json() for row in self.rows],
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    def save(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(self.text(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Figures:
        """Raises `InputError` where the file is not of this form."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise InputError(f"cannot read {path}: it is of format {document['format']}, not {FORMAT}")
            return cls(
                tuple(Row.from_json(row) for row in document["rows"]),
                tuple(Rates(**rates) for rates in document["rates"]),
                document["machine"],
            )
        except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read {path}: it holds no figures of fractalops bench") from error


def find(rows: Iterable[Row], **fields: object) -> list[Row]:
    """The rows with these fields."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


def where(device: str, threads: int) -> str:
    """For a reader."""
    return f"{threads} thread{'s' * (threads > 1)}" if device == "cpu" else "GPU"


def native_beside(row: Row, rows: Iterable[Row]) -> Row | None:
    """The native row that another backend's was timed in turn with."""
    if row.backend == "native":
        return None
    op, direction, case = row.contest
    same = {"op": op, "direction": direction, "case": case, "device": row.device, "threads": row.threads}
    return next(iter(find(rows, backend="native", **same)), None)


@dataclass(frozen=True)
class Change:
    """A row that moved beyond both spreads."""

    old: Row
    new: Row
    factor: float  # of the medians, new / old


def changes(old: Sequence[Row], new: Sequence[Row]) -> tuple[list[Change], list[str]]:
    """What moved beyond the spread; and the measurements, in words, of which only one of the two has a figure.

    Rows of another processor or GPU, or shape, are no measure of a change: they count as missing. So few rounds that
    they have no spread tell of none either.
    """
    before = {(row.key, row.device_name): row for row in old if row.spread}
    after = {(row.key, row.device_name): row for row in new if row.spread}
    found = []
    both = [key for key in after if key in before]  # in order, which a set would lose
    for key in both:
        was, now = before[key].spread, after[key].spread
        rounds = min(len(before[key].milliseconds), len(after[key].milliseconds))
        if was and now and rounds >= LEAST_ROUNDS and (now.low > was.high or now.high < was.low):
            found.append(Change(before[key], after[key], now.median / was.median))
    alone = [describe(row) for key, row in {**before, **after}.items() if key not in both]
    return sorted(found, key=lambda change: -change.factor), sorted(alone)


def describe(row: Row) -> str:
    threads = f", {row.where}" if row.threads else ""
    return f"{row.op}, {row.direction}, {row.case}, {row.backend}, {row.device_name}{threads}"
