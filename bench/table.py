"""Format figures as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .timing import Spread


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, or an empty string if it has no lines."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) if lines else ""


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(decimals, 0)}f}"


def exponent_text(exponent: float) -> str:
    """Return an exponent with two decimals, and zero without a minus sign."""
    return f"{round(exponent, 2) + 0.0:.2f}"


def spread_text(spread: Spread) -> str:
    """Return the median, followed by the 20th and 80th percentiles unless they are equal."""
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} [{number(spread.low)}, {number(spread.high)}]"


def shape_text(of: Any) -> str:
    """Return the sizes of a case or of a row. A row has 0 for sizes that don't apply."""
    parts = [f"{of.sequences:,} x {of.points:,} points", f"{of.maps} map{'s' * (of.maps > 1)}"]
    parts += [f"{of.side} x {of.side} pixels"] * (of.side > 0) + [f"radius {of.radius}"] * (of.radius > 0)
    return ", ".join(parts)
