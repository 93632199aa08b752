"""Where kernels for GPUs run, by the `open_device` of the test file: on the CPU, or on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    return request.module.open_device(request.param)


@pytest.fixture
def emulated(request: pytest.FixtureRequest) -> Any:
    """For what only the emulation on the CPU can choose or see: the order of threads and blocks, and launches."""
    return request.module.open_device("cpu")


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Any:
    return request.module.open_device("gpu")
