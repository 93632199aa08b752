"""Tests of the verdicts of experiments, against values computed by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from fractalops.experiments.outcome import Finding, differs, less, mean_and_error, more, reaches, sign_test, wins

NOT_SHOWN = "not shown at this size"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("gain", "error", "verdict"),
    [
        (0.0016, 0.0024, NOT_SHOWN),
        (-0.0016, 0.0024, NOT_SHOWN),
        (0.5, 0.25, NOT_SHOWN),  # exactly two standard errors
        (0.501, 0.25, "holds"),
        (-0.501, 0.25, "does not hold"),
        (0.1, 0.0, "holds"),
        (0.0, 0.0, NOT_SHOWN),
    ],
)
def test_a_difference_shows_nothing_within_two_standard_errors(gain: float, error: float, verdict: str) -> None:
    detail = f"1 against 2, a difference of {gain:.4f} +- {error:.4f}"
    assert differs("a beats b", 1, 2, gain, error) == Finding("a beats b", verdict, detail)
    assert str(differs("a beats b", 1, 2, gain, error)) == f"{verdict}: a beats b ({detail})"


def test_pairs_are_compared_by_their_differences() -> None:
    """The numbers differ much between pairs, and little within them."""
    small, large = [1.0, 10.0, 100.0, 1000.0], [2.0, 12.0, 101.0, 1002.0]
    # Differences of 1, 2, 1, 2: 1.5 on average, with a standard deviation of sqrt(1 / 3) and so an error of 0.2887.
    assert less("", small, large) == Finding("", "holds", "277.8 against 279.2, a difference of 1.5000 +- 0.2887")
    assert more("", large, small).verdict == "holds"
    assert less("", large, small).verdict == more("", small, large).verdict == "does not hold"
    assert less("", small, small).verdict == NOT_SHOWN
    assert less("", [1, 2], [1, 4]).verdict == NOT_SHOWN  # 1 +- 1
    with pytest.raises(ValueError, match="zip"):
        less("", [1, 2], [1])


def test_a_single_pair_shows_nothing() -> None:
    assert less("", [1.0], [2.0]) == Finding("", NOT_SHOWN, "1 against 2, a single pair")


def test_mean_and_error_are_those_of_the_sample() -> None:
    assert mean_and_error([1, 2, 3, 6]) == pytest.approx((3, math.sqrt(14 / 3 / 4)))
    mean, error = mean_and_error([5])
    assert mean == 5
    assert math.isnan(error)


@pytest.mark.parametrize(
    ("won", "lost", "probability"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (3, 3, 1),
        (7, 1, 18 / 256),
        (8, 1, 20 / 512),
    ],
)
def test_the_sign_test_is_exact(won: int, lost: int, probability: float) -> None:
    assert sign_test(won, lost) == pytest.approx(probability, rel=1e-12)


@pytest.mark.parametrize(
    ("won", "lost", "verdict"),
    [
        (1, 0, NOT_SHOWN),
        (5, 0, NOT_SHOWN),
        (6, 0, "holds"),
        (0, 6, "does not hold"),
        (7, 1, NOT_SHOWN),
        (8, 1, "holds"),
    ],
)
def test_counts_are_judged_as_strictly(won: int, lost: int, verdict: str) -> None:
    """The probability must be below 0.0455, which corresponds to two standard errors."""
    assert wins("", won, lost, "").verdict == verdict


def test_pairs_that_are_not_finite_are_judged_by_their_signs() -> None:
    finite = [0.5] * 6
    found = less("", finite, [math.inf] + [1.0] * 5)
    assert found == Finding("", "holds", "0.5 against inf: 6 for it, 0 against it, p = 0.031")
    # A large difference of one pair counts only by its sign; ties don't count.
    assert less("", finite, [math.inf] + [0.5] * 5).verdict == NOT_SHOWN
    assert less("", [math.inf] * 2, [math.inf] * 2).verdict == NOT_SHOWN
    assert less("", [math.nan] * 9, [1.0] * 9).verdict == NOT_SHOWN


@pytest.mark.parametrize(
    ("value", "least", "most", "verdict"),
    [
        (2.0, 2.0, math.inf, "holds"),
        (1.9, 2.0, math.inf, "does not hold"),
        (2.0, -math.inf, 2.0, "holds"),
        (2.1, -math.inf, 2.0, "does not hold"),
        (math.nan, -math.inf, math.inf, "does not hold"),
    ],
)
def test_goals_are_reached_or_not(value: float, least: float, most: float, verdict: str) -> None:
    assert reaches("", value, least=least, most=most) == Finding("", verdict, f"{value:.4g}, measured once")


@pytest.mark.parametrize(("page", "differences", "counts"), [("experiments.md", 27, 6), ("pictures.md", 3, 0)])
def test_recorded_findings_say_what_their_numbers_show(page: str, differences: int, counts: int) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^- (.*?): .* against .*, a difference of (\S+) \+- (\S+)\)$", text, re.MULTILINE)
    assert len(found) == differences
    for verdict, gain, error in found:
        assert verdict == differs("", 1, 2, float(gain), float(error)).verdict
    found = re.findall(r"^- (.*?): .*: (\d+) for it, (\d+) against it, p = (\S+)\)$", text, re.MULTILINE)
    assert len(found) == counts
    for verdict, won, lost, probability in found:
        assert verdict == wins("", int(won), int(lost), "").verdict
        assert float(probability) == pytest.approx(sign_test(int(won), int(lost)), rel=0.02)
    assert "does not hold at this size" not in text
