"""Fixtures of the tests of the commands."""

from __future__ import annotations

import pytest


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw high-resolution pictures of only 64 pixels and 2000 points, to keep the tests fast."""
    for command in ("fit_pictures", "fit_points"):
        monkeypatch.setattr(f"fractalops.cli.{command}._DRAWING_SIDE", 64)
    monkeypatch.setattr("fractalops.cli.fit_points._DRAWING_POINTS", 2000)
    monkeypatch.setattr("fractalops.drawing.high_resolution._LEAST_POINTS", 2000)
