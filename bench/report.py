"""One page of what a run of the benchmarks found: it can be sent to somebody, and needs nothing beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from fractalops.errors import MissingExtra
from fractalops.files import atomic_path

from .plots import curves, rooflines
from .promises import MEGABYTE, promises, unmeasured
from .rows import Change, Figures, Rates, Row, changes, describe
from .scaling import growths
from .summary import STATES
from .table import exponent_text, number, spread_text
from .timing import Spread

T = TypeVar("T")

TEMPLATE = Path(__file__).with_name("report.html")

# For a reader who meets them for the first time.
OPS = {
    "affine_chain": "The points of each sequence: map after map, each applied to the point before.",
    "rbf_rasterize": "Images of the points, each drawn as a Gaussian bump.",
    "render": "Both together: maps in, images out.",
    "rasterize_points": "Images of the points, each counted on its nearest pixel; there are no gradients.",
    "step": "One optimisation step of fit, and for scale what the two ops in it take by themselves.",
    "fit": "Fractals learned for images, from the first step to the last, by the published settings and the defaults.",
}
BACKENDS = {
    "native": "the kernels of this package",
    "reference": "its plain-PyTorch definition, a loop over the points; what every other is held to",
    "separable": "tensor operations only: a scan of the maps in log2(points) passes, and images as a product of two "
    "tables of exponentials",
    "compiled": "the separable one by torch.compile",
    "dense": "tensor operations only: a loop over the points, and the exponential of every point's distance from every "
    "pixel",
    "numba": "a plain loop over the points, compiled by numba",
    "ops alone": "chain and rasterizer, forward and backward, without the rest of an optimisation step",
}


def write(figures: Figures, path: str | Path, old: Figures | None = None) -> None:
    """The page as a file."""
    text = page(figures, old)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_extras() -> None:
    """Raise `MissingExtra` where the page couldn't be made: before the measuring, not after it."""
    for package in ("jinja2", "matplotlib"):
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtra("fractalops bench", package, "bench") from error


def page(figures: Figures, old: Figures | None = None) -> str:
    """The page; with what changed since `old`.

    Raises `MissingExtra` when jinja2 or matplotlib is not installed.
    """
    check_extras()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "spread": spread_text, "exponent": exponent_text}
    rows = figures.rows
    swept = [row for row in rows if row.suite == "scaling"]
    judged, silent = promises(rows), unmeasured(rows)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        figures=figures,
        promises=judged,
        silent=silent,
        states=STATES,
        tally=Counter([STATES[each.kept] for each in judged] + [STATES[None]] * len(silent)),
        tables=op_tables([row for row in rows if row.suite != "scaling"], figures.rates),
        swept=op_tables(swept, figures.rates),
        ops=OPS,
        backends={name: text for name, text in BACKENDS.items() if any(row.backend == name for row in rows)},
        curves=curves(figures.rows),
        rooflines=rooflines(figures),
        growths=growths(rows),
        comparison=Comparison.between(old, figures) if old else None,
        devices={row.device for row in rows},
        rounds=_rounds(rows),
        pinned=sorted({f"{row.where} on core{'s' * (row.threads > 1)} {row.pinned}" for row in rows if row.pinned}),
        json=figures.text().replace("<", r"\u003c"),  # no tag in it then ends the element that it stands in
    )
    return text.rstrip() + "\n"


@dataclass(frozen=True)
class Line:
    """A backend in a table: its figures, or why there are none."""

    backend: str
    cells: tuple[str, ...]
    problem: str


@dataclass(frozen=True)
class Group:
    """What was timed in turn."""

    title: str
    lines: list[Line]


@dataclass(frozen=True)
class CaseTable:
    case: str
    shape: str
    groups: list[Group]


@dataclass(frozen=True)
class OpTable:
    op: str
    columns: tuple[str, ...]
    cases: list[CaseTable]


def op_tables(rows: Sequence[Row], rates: Iterable[Rates]) -> list[OpTable]:
    """By op, case, direction and threads, each in the order in which they were measured."""
    columns = _columns(rates)
    found = []
    for op, of_op in _grouped(rows, lambda row: row.op):
        measured = [row for row in of_op if not row.problem]
        shown = {name: text for name, text in columns.items() if name == "ms" or any(map(text, measured))}
        cases = [
            CaseTable(
                case,
                shape(of_case[0]),
                [
                    Group(f"{direction}, {where}", [_line(row, shown.values()) for row in timed])
                    for (direction, where), timed in _grouped(of_case, lambda row: (row.direction, row.where))
                ],
            )
            for case, of_case in _grouped(of_op, lambda row: row.case)
        ]
        found.append(OpTable(op, tuple(shown), cases))
    return found


def shape(row: Row) -> str:
    """Of a row's case, for a reader."""
    parts = [f"{row.sequences:,} x {row.points:,} points", f"{row.maps} map{'s' * (row.maps > 1)}"]
    parts += [f"{row.side} x {row.side} pixels"] * (row.side > 0) + [f"radius {row.radius}"] * (row.radius > 0)
    return ", ".join(parts)


def _columns(rates: Iterable[Rates]) -> dict[str, Callable[[Row], str]]:
    """The figures of a row, by the heads of their columns; an empty text where there is none."""
    roofs = {(each.device, each.threads): each for each in rates}

    def share(row: Row) -> float | None:
        roof = roofs.get((row.device, row.threads))
        return roof.share(row) if roof else None

    return {
        "ms": lambda row: _text(row.milliseconds),
        "ns a point": lambda row: _text(row.nanoseconds_a_point),
        "images/s": lambda row: _text(row.images_per_second),
        "million points/s": lambda row: _text(row.points_per_second, 1e6),
        "GB/s": lambda row: _text(row.bytes_per_second, 1e9),
        "Gop/s": lambda row: _text(row.operations_per_second, 1e9),
        "% of the roofline": lambda row: _text(share(row), 0.01),
        "peak MB": lambda row: _text(row.peak_bytes, MEGABYTE),
        "native: times as fast": lambda row: _text(row.times),
    }


def _text(value: float | Spread | None, unit: float = 1.0) -> str:
    if value is None:
        return ""
    return spread_text(value) if isinstance(value, Spread) else number(value / unit)


def _line(row: Row, columns: Iterable[Callable[[Row], str]]) -> Line:
    problem = row.problem or ("" if row.milliseconds else "not measured")
    return Line(row.backend, () if problem else tuple(text(row) for text in columns), problem)


def _grouped(rows: Iterable[Row], key: Callable[[Row], T]) -> list[tuple[T, list[Row]]]:
    groups: dict[T, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


@dataclass(frozen=True)
class Comparison:
    """Of a run with an older one."""

    machine: dict[str, str]  # of the older
    shared: int  # measurements of which both have a figure
    slower: list[Change]  # the most first
    faster: list[Change]
    only_old: list[str]
    only_new: list[str]

    @classmethod
    def between(cls, old: Figures, new: Figures) -> Comparison:
        moved, alone = changes(old.rows, new.rows)
        now = {describe(row) for row in new.rows if row.milliseconds}
        return cls(
            old.machine,
            len(now) - sum(each in now for each in alone),
            [each for each in moved if each.factor > 1],
            [each for each in reversed(moved) if each.factor <= 1],
            [each for each in alone if each not in now],
            [each for each in alone if each in now],
        )


def _rounds(rows: Iterable[Row]) -> str:
    counts = sorted({row.rounds for row in rows} - {0})
    return " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]])))
