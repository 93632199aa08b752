"""Shared parts of the tests of point files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractalops.errors import InputError
from fractalops.io.point_clouds import read_point_cloud


def assert_refused(path: Path, reason: str) -> None:
    """Assert that a cloud is refused with one line that names the file and contains the reason."""
    with pytest.raises(InputError) as caught:
        read_point_cloud(path)
    message = str(caught.value)
    assert message.startswith((f"cannot read {path}: ", f"cannot use {path}: "))
    assert reason in message
    assert "\n" not in message
