"""The outcome of an experiment: a table, and statements with the verdicts of its numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Cell = str | float | int
Row = dict[str, Cell]
Verdict = Literal["holds", "does not hold", "not shown at this size"]

_ERRORS = 2.0  # a difference of more standard errors is significant
_CHANCE = math.erfc(_ERRORS / math.sqrt(2))  # 0.0455, the two-sided probability of that for a normal variable


@dataclass(frozen=True)
class Finding:
    """A statement, and the verdict of the measured numbers.

    Attributes:
        claim: the statement.
        verdict: the verdict. A comparison is "not shown at this size" if the difference is within two standard errors
            of 0.
        detail: the numbers from which the verdict was computed.
    """

    claim: str
    verdict: Verdict
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.claim} ({self.detail})"


@dataclass(frozen=True)
class Outcome:
    """The results of an experiment.

    Attributes:
        rows: the rows of a table, each a dict of cells by column. All rows have the same columns.
        findings: what the numbers show.
        notes: sentences about the numbers.
    """

    rows: Sequence[Row]
    findings: Sequence[Finding] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the rows as a Markdown table with aligned columns. NaN is an empty cell."""
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


def less(claim: str, lower: Sequence[float], higher: Sequence[float]) -> Finding:
    """Return the finding that the mean of `lower` is less than that of `higher`. Both are (S,) and paired.

    The verdict follows from the differences of the pairs. If one is not finite, it follows from their signs.
    """
    return _paired(claim, lower, higher, [other - one for one, other in zip(lower, higher, strict=True)])


def more(claim: str, higher: Sequence[float], lower: Sequence[float]) -> Finding:
    """Return the finding that the mean of `higher` is greater than that of `lower`, see `less`."""
    return _paired(claim, higher, lower, [one - other for one, other in zip(higher, lower, strict=True)])


def reaches(claim: str, value: float, *, least: float = -math.inf, most: float = math.inf) -> Finding:
    """Return the finding that a number is within bounds. It is measured once, so its error is not known."""
    return Finding(claim, "holds" if least <= value <= most else "does not hold", f"{value:.4g}, measured once")


def differs(claim: str, one: float, other: float, gain: float, error: float) -> Finding:
    """Return the finding that `gain`, the mean difference of pairs, is positive.

    Args:
        claim: the statement.
        one: the mean that the claim calls better.
        other: the mean with which it is compared.
        gain: the amount by which `one` is better.
        error: the standard error of `gain`, or NaN if there is only one pair, which shows nothing.
    """
    detail = f"{one:.4g} against {other:.4g}"
    if math.isnan(error):
        return Finding(claim, "not shown at this size", f"{detail}, a single pair")
    return Finding(
        claim, _verdict(gain, abs(gain) > _ERRORS * error), f"{detail}, a difference of {gain:.4f} +- {error:.4f}"
    )


def wins(claim: str, won: int, lost: int, detail: str) -> Finding:
    """Return the finding that more pairs are won than lost, by the exact sign test.

    For pairs of zeros and ones this is McNemar's exact test.

    Args:
        claim: the statement.
        won: the number of pairs that support it.
        lost: the number of pairs that contradict it. Ties are in neither number.
        detail: a description of the counts.
    """
    probability = sign_test(won, lost)
    found = f"{detail}: {won} for it, {lost} against it, p = {probability:.2g}"
    return Finding(claim, _verdict(won - lost, probability < _CHANCE), found)


def sign_test(won: int, lost: int) -> float:
    """Return the two-sided p-value of the sign test: the probability that fair coins are at least as uneven."""
    pairs = won + lost
    tail = sum(math.comb(pairs, heads) for heads in range(max(won, lost), pairs + 1))
    return min(1.0, 2 * tail / (1 << pairs))


def mean_and_error(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the mean of numbers (S,) and its standard error, NaN for a single number."""
    error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return statistics.fmean(numbers), error


def _paired(claim: str, ones: Sequence[float], others: Sequence[float], gains: Sequence[float]) -> Finding:
    one, other = statistics.fmean(ones), statistics.fmean(others)
    if all(map(math.isfinite, gains)):
        return differs(claim, one, other, *mean_and_error(gains))
    detail = f"{one:.4g} against {other:.4g}"
    return wins(claim, sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains), detail)


def _verdict(gain: float, beyond_chance: bool) -> Verdict:
    if not beyond_chance:
        return "not shown at this size"
    return "holds" if gain > 0 else "does not hold"
