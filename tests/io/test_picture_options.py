"""Tests of the options for reading a picture as a target: invalid values, and sizes after scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractalops.io import PictureOptions
from fractalops.io.images import read_image


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"size": 32.0}, TypeError, "size must be a whole number, got 32.0"),
        ({"size": None}, TypeError, "size must be a whole number, got None"),
        ({"fit_to": -1}, ValueError, "fit_to must be at least 1, got -1"),
        ({"fit_to": True}, TypeError, "fit_to must be a whole number, got True"),
        ({"background": "blue"}, ValueError, "background must be one of black, white, got 'blue'"),
        ({"threshold": float("nan")}, ValueError, "threshold must lie in [0, 1) or be None, got nan"),
        ({"threshold": 1.0}, ValueError, "threshold must lie in [0, 1) or be None, got 1.0"),
        ({"threshold": "0.5"}, TypeError, "threshold must be a number or None, got str"),
        ({"invert": 1}, TypeError, "invert must be True or False, got 1"),
        ({"stretch": None}, TypeError, "stretch must be True or False, got None"),
        ({"frame": 0}, ValueError, "frame must be at least 1, got 0"),
        ({"frame": 1.5}, TypeError, "frame must be a whole number, got 1.5"),
        ({"color": "red"}, TypeError, "color must be True or False, got 'red'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        PictureOptions(**options)
    assert str(raised.value) == f"PictureOptions: {message}"


def test_options_travel_as_one_object(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="read_image: options must be PictureOptions, got dict"):
        read_image(tmp_path / "any.png", {"size": 3})  # type: ignore[arg-type]


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    size=st.integers(1, 600),
    fit_to=st.integers(1, 600) | st.none(),
)
def test_how_far_pictures_are_scaled(height: int, width: int, size: int, fit_to: int | None) -> None:
    new_height, new_width = PictureOptions(size=size, fit_to=fit_to).scaled(height, width)
    assert max(new_height, new_width) == (fit_to or min(size, max(height, width)))
    assert min(new_height, new_width) >= 1
    assert (new_height >= new_width) == (height >= width) or new_height == new_width
    if fit_to is None:
        assert new_height <= height
        assert new_width <= width
