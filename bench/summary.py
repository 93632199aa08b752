"""What the terminal shows of a run."""

from __future__ import annotations

from collections.abc import Sequence

from .promises import promises, unmeasured
from .rows import Figures, Row, changes, describe
from .scaling import growths
from .table import aligned, exponent_text, number, spread_text

STATES = {True: "kept", False: "NOT kept", None: "not measured"}

Lines = list[tuple[str, ...]]


def summary(figures: Figures, old: Figures | None = None) -> str:
    """Every contest but the sweeps, how a render grows with their sizes, the promises, and what moved since `old`."""
    rows = figures.rows
    parts = [
        _titled("medians, and in brackets the 20th and 80th percentiles", _rows(rows)),
        _titled("how a native render, differentiated, grows: the exponent that was found (expected)", _growths(rows)),
        _titled("promises", _promises(rows)),
        _titled("beyond the spread since the older figures", _changes(old.rows, rows) if old else []),
    ]
    return "\n\n".join(part for part in parts if part)


def _titled(title: str, lines: Lines) -> str:
    """Nothing where there is only the head of a table."""
    return "\n".join([title, *aligned(lines)]) if len(lines) > 1 else ""


def _rows(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("op", "direction", "case", "on", "backend", "ms", "ns a point", "native: times as fast")]
    for row in rows:
        if row.suite == "scaling":
            continue
        cells = ("-", "", row.problem or "not measured")
        if row.milliseconds:
            point = row.nanoseconds_a_point
            cells = (
                spread_text(row.milliseconds),
                number(point) if point else "",
                spread_text(row.times) if row.times else "",
            )
        lines.append((row.op, row.direction, row.case, row.where, row.backend, *cells))
    return lines


def _growths(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("with", "on", "time", "memory")]
    for each in growths(rows):
        time = f"{exponent_text(each.time)} ({exponent_text(each.expected_time)})"
        memory = "-"
        if each.memory is not None:
            memory = f"{exponent_text(each.memory)} ({exponent_text(each.expected_memory)})"
        lines.append((each.variable, each.where, time, memory))
    return lines


def _changes(old: Sequence[Row], new: Sequence[Row]) -> Lines:
    moved, alone = changes(old, new)
    lines: Lines = [("what", "x the time")]
    lines += [(describe(each.new), number(each.factor)) for each in moved]
    return [*lines, (f"figures that only one of the two has: {len(alone)}", "")]


def _promises(rows: Sequence[Row]) -> Lines:
    lines: Lines = [("op", "direction", "case", "on", "figure", "bound", "found", "")]
    for each in promises(rows):
        row, target = each.row, each.target
        found = spread_text(each.found) if each.found else each.problem
        what = (row.op, row.direction, row.case, row.where)
        lines.append((*what, target.meaning, target.bound, found, STATES[each.kept]))
    for target in unmeasured(rows) if len(lines) > 1 else []:
        what = (target.op, target.direction, target.case, "")
        lines.append((*what, target.meaning, target.bound, "", STATES[None]))
    return lines
