"""`rasterize_points` on one thread, 100,000 points an image of 256 x 256: the op and numba's loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import fractalops
from bench.point_counting import IMAGES, SIZE, Counter, by_native, by_numba, clouds


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("make", [by_native, by_numba])
@pytest.mark.parametrize("mode", ["binary", "density"])
@pytest.mark.parametrize("stamped", [False, True], ids=["points", "3 x 3 patches"])
def bench_rasterize_points(
    benchmark: BenchmarkFixture, make: Callable[[int], Counter], mode: str, stamped: bool
) -> None:
    try:
        count = make(SIZE)
    except fractalops.MissingExtra as error:
        pytest.skip(str(error))
    points = clouds()
    patch = fractalops.random_patches(IMAGES, generator=torch.Generator().manual_seed(0)) if stamped else None
    expected = fractalops.rasterize_points(points, SIZE, mode=mode, patch=patch, backend="reference")
    assert torch.equal(count(points, patch, mode), expected)
    benchmark.group = f"rasterize_points, {mode}, {'3 x 3 patches' if stamped else 'points'}, {IMAGES} images"
    benchmark(count, points, patch, mode)
