"""What an experiment finds: a table, and which of the paper's statements its numbers bear out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Cell = str | float | int
Row = dict[str, Cell]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper, judged by the measured numbers."""

    claim: str
    holds: bool
    detail: str
    """The numbers that it was judged by."""

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'does not hold at this size'}: {self.claim} ({self.detail})"


@dataclass(frozen=True)
class Outcome:
    """The table of an experiment, its rows with the same columns, and its findings."""

    rows: Sequence[Row]
    findings: Sequence[Finding] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    """What a reader must know beside the numbers."""

    def table(self) -> str:
        """The rows in Markdown, with columns of equal width; NaN is an empty cell."""
        lines = [list(self.rows[0]), *([_shown(cell) for cell in row.values()] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        lines.insert(1, ["-" * width for width in widths])
        padded = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(f"| {line} |" for line in padded)

    def __str__(self) -> str:
        return "\n".join([self.table(), "", *map(str, self.findings), *self.notes])


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.4g}"
    return str(cell)


def less(claim: str, smaller: float, larger: float) -> Finding:
    """The finding that one number is smaller than another; one that is not finite decides nothing in its favor."""
    return Finding(claim, smaller < larger, f"{smaller:.4g} against {larger:.4g}")
