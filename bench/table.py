"""Figures as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .timing import Spread


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, or nothing where it would have no lines."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) if lines else ""


def number(value: float) -> str:
    """Return three significant digits, never as a power of ten."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(decimals, 0)}f}"


def exponent_text(exponent: float) -> str:
    """Return two decimals, never the minus of a zero."""
    return f"{round(exponent, 2) + 0.0:.2f}"


def spread_text(spread: Spread) -> str:
    """Return the median, and the 20th and 80th percentiles where they differ from it."""
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} [{number(spread.low)}, {number(spread.high)}]"


def shape_text(of: Any) -> str:
    """Return the sizes of a case, or of a row, in which those are 0 that it doesn't have."""
    parts = [f"{of.sequences:,} x {of.points:,} points", f"{of.maps} map{'s' * (of.maps > 1)}"]
    parts += [f"{of.side} x {of.side} pixels"] * (of.side > 0) + [f"radius {of.radius}"] * (of.radius > 0)
    return ", ".join(parts)
