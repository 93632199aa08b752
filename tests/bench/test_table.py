"""Tests of figures as text."""

from __future__ import annotations

import pytest

from bench.suites import PAPER
from bench.table import exponent_text, number, shape_text, spread_text
from bench.timing import Spread
from tests.bench.rows import row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.5, "1.50"),
        (0.012345, "0.0123"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345.6, "12,300"),
        (-2, "-2.00"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_spreads_in_words() -> None:
    assert spread_text(Spread(1.4, 1.5, 1.6)) == "1.50 [1.40, 1.60]"
    assert spread_text(Spread(12, 12, 12)) == "12.0"
    assert [exponent_text(each) for each in (1.005, -1e-17, -0.5)] == ["1.00", "0.00", "-0.50"]


def test_shapes_in_words() -> None:
    assert shape_text(PAPER) == "50 x 300 points, 10 maps, 32 x 32 pixels, radius 4"
    assert shape_text(row(PAPER, maps=1, side=0, radius=0)) == "50 x 300 points, 1 map"
