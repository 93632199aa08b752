"""Figures as text."""

from __future__ import annotations

from collections.abc import Sequence

from bench.timing import Spread


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, its columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def figure(spread: Spread | None, unit: str) -> str:
    """The median with its percentiles, or a dash."""
    if spread is None:
        return "-"
    return f"{spread.median:.3g} [{spread.low:.3g}, {spread.high:.3g}] {unit}".rstrip()
