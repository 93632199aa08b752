"""Devices for tests of GPU kernels: the CPU, and a GPU if there is one. The test file's `open_device` opens them."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    return request.module.open_device(request.param)


@pytest.fixture
def emulated(request: pytest.FixtureRequest) -> Any:
    """Return the emulation on the CPU, for tests that set the order of threads and blocks or inspect launches."""
    return request.module.open_device("cpu")


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Any:
    return request.module.open_device("gpu")
