"""Promises of the package about its speed and memory, and their check against the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .rows import Row, find
from .suites import BACKWARD, BESIDE, BOTH, COUNTED, FORWARD, LEARNED, PRETRAINED
from .timing import Spread

MEGABYTE = 10**6


@dataclass(frozen=True)
class Target:
    """A bound on a figure of a native CPU op, or on its ratio to another backend that was timed in the same rounds."""

    op: str
    direction: str
    case: str
    unit: str  # "ns a point", "s" or "MB"; with `against`: "times as fast as" or "times the time of"
    at_least: float | None = None
    at_most: float | None = None
    against: str = ""  # the other backend of a ratio
    threads: int | None = None  # None: any number

    @property
    def bound(self) -> str:
        """The bound, as text."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    @property
    def meaning(self) -> str:
        """The bounded quantity, as text."""
        return f"{self.unit} {self.against}".rstrip()

    def met_by(self, value: float) -> bool:
        """Return whether a value is within the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


FASTER, SLOWER = "times as fast as", "times the time of"
TARGETS = (
    Target("render", BOTH, "paper", FASTER, at_least=150, against="dense"),
    Target("render", BOTH, "paper", FASTER, at_least=25, against="separable"),
    Target("render", BOTH, "paper", FASTER, at_least=8, against="compiled"),
    Target("rbf_rasterize", FORWARD, "paper", "ns a point", at_most=40, threads=1),
    Target("rbf_rasterize", BACKWARD, "paper", "ns a point", at_most=40, threads=1),
    Target("render", BOTH, "high resolution", "MB", at_most=100),
    Target("step", "optimization step", "paper", SLOWER, at_most=1, against="ops alone"),
    Target("spreading", FORWARD, "spreading", FASTER, at_least=4, against="finufft"),
    Target("fit", "1 image", "paper", "s", at_most=2),
    Target("fit", LEARNED, "paper", "s", at_most=0.4),
    Target("fit", LEARNED + BESIDE, "paper", SLOWER, at_most=1.3, against="one thread"),
    Target("fit", "100 images", "paper", "s", at_most=100),
    Target("fit", "100 images, default settings", "paper", "s", at_most=15),
    *(Target("pretrain", each, "FractalDB", FASTER, at_least=50, against="python") for each in PRETRAINED),
    *(Target("pretrain", each, "FractalDB", FASTER, at_least=2, against="numba") for each in PRETRAINED),
    *(Target("rasterize_points", each, "pre-training", FASTER, at_least=1.5, against="numba") for each in COUNTED),
)


@dataclass(frozen=True)
class Promise:
    """A target and the result of a run."""

    target: Target
    where: str = ""  # device and threads; empty if the run didn't measure it
    found: Spread | None = None
    problem: str = ""
    wrong: bool = False  # the op or the other backend disagrees with the reference

    @property
    def state(self) -> str:
        """The state: "kept", "NOT kept", or "not measured" if there is no figure and nothing was wrong."""
        if self.found is None:
            return "NOT kept" if self.wrong else "not measured"
        return "kept" if self.target.met_by(self.found.median) else "NOT kept"


def promises(rows: Sequence[Row]) -> list[Promise]:
    """Return a promise for each target and number of threads in the rows. Targets without rows are last."""
    judged, silent = [], []
    for target in TARGETS:
        named = {"op": target.op, "direction": target.direction, "case": target.case, "device": "cpu"}
        native = [row for row in find(rows, backend="native", **named) if target.threads in (None, row.threads)]
        for row in native:
            judged.append(_judge(target, row, find(rows, backend=target.against, threads=row.threads, **named)))
        if not native:
            silent.append(Promise(target))
    return judged + silent


def _judge(target: Target, row: Row, others: list[Row]) -> Promise:
    if not target.against:
        return Promise(target, row.where, _own_figure(target.unit, row), row.problem, row.wrong)
    if not others:
        return Promise(target, row.where, problem=f"{target.against} was not measured")
    (other,) = others
    found = other.times.inverse() if other.times and target.unit == SLOWER else other.times
    return Promise(target, row.where, found, row.problem or other.problem, row.wrong or other.wrong)


def _own_figure(unit: str, row: Row) -> Spread | None:
    if unit == "MB":
        return Spread.of([row.peak_bytes / MEGABYTE]) if row.peak_bytes is not None else None
    if row.milliseconds is None:
        return None
    return row.milliseconds.scaled(1e-3 if unit == "s" else 1e6 / (row.sequences * row.points))
