"""Tests of points at 1e30, at the dtype's limits, infinite or NaN: not drawn, no gradient, no effect on others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.ops.rasterize_orbit import rasterize_orbit
from fractalops.rendering import frame_of
from tests.support.case_tables import CHAIN, CHAIN_CASES
from tests.support.cases import MODES, ChainCase, CountCase, RasterCase, seeded
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
# At 2^31, 2^32 and 2^63, a pixel's index would overflow an integer type.
ENDS = ["largest", "least", math.inf, -math.inf, math.nan]
FAR = [1e30, -1e30, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), *ENDS]
far = pytest.mark.parametrize("value", FAR, ids=str)


def number(value: float | str, dtype: torch.dtype) -> float:
    return {"largest": torch.finfo(dtype).max, "least": torch.finfo(dtype).min}.get(value, value)  # type: ignore[call-overload]


RASTERS = [
    RasterCase("no weight", batch=2, points=63),
    RasterCase("weight", batch=2, points=63, channels=0),
    RasterCase("color", batch=2, points=300, channels=3),
    RasterCase("exact", batch=2, points=63, channels=2, cutoff=None),
    RasterCase("wide", batch=2, points=63, bandwidth=25.0),
]


@far
@dtypes
@pytest.mark.parametrize("case", RASTERS, ids=str)
def test_bumps(case: RasterCase, dtype: torch.dtype, value: float | str, backend: str) -> None:
    """Images and gradients are as without these points, which are far in x, in y or in both."""
    points, weight, bandwidth = case.inputs(dtype)
    for place, axes in enumerate(([0], [1], [0, 1])):
        points[:, 7 * place + 3, axes] = number(value, dtype)
    others = [place for place in range(case.points) if place not in (3, 10, 17)]
    kept = None if weight is None else weight[:, others]
    image, gradients = case.both(backend, (points, weight, bandwidth))
    expected, expected_gradients = case.both(backend, (points[:, others], kept, bandwidth))
    assert_matches(image, expected.double())
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        if found.dim() > 1:
            assert not found[:, [3, 10, 17]].any()
            found = found[:, others]
        assert_matches(found, wanted.double())


@far
@dtypes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sides", [None, (15, 15)], ids=str)
def test_counts(sides: Any, mode: str, dtype: torch.dtype, value: float | str, backend: str) -> None:
    case = CountCase("far", points=63, sides=sides, mode=mode)
    points, patch = case.inputs(dtype)
    for place, axes in enumerate(([0], [1], [0, 1])):
        points[:, 7 * place + 3, axes] = number(value, dtype)
    others = [place for place in range(case.points) if place not in (3, 10, 17)]
    assert_same_bits(case.on(backend)(points, patch), case.on(backend)(points[:, others], patch))


@dtypes
@pytest.mark.parametrize("case", [CHAIN, CHAIN_CASES[4], CHAIN_CASES[8]], ids=str)
def test_a_chain_from_afar(case: ChainCase, dtype: torch.dtype, backend: str) -> None:
    """All points and all gradients are in the range of the dtype."""
    matrix, offset, index, start = case.inputs(dtype)
    inputs = (matrix, offset, index, 1e30 * start)
    value, gradients = case.both(backend, inputs)
    expected, expected_gradients = case.expected(inputs)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@dtypes
@pytest.mark.parametrize("viewport", [(-5.0, -5.0, 5.0, 5.0), "fit", "stretch"], ids=str)
@pytest.mark.parametrize("far_offset", [1e30, 1e37])
def test_a_drawing_with_points_afar(far_offset: float, viewport: Any, dtype: torch.dtype, backend: str) -> None:
    """One map leads far away. A box around its points is so large that all other points are in one pixel."""
    matrix, offset, index, _ = ChainCase("maps", batch=2, points=63, maps=3).inputs(dtype)
    offset[2] = far_offset
    leaves = [each.requires_grad_() for each in (0.6 * matrix, offset)]
    image = fractalops.render(*leaves, index, 9, viewport=viewport)
    assert image.isfinite().all()
    assert image.any()
    for gradient in torch.autograd.grad(image.square().sum(), leaves):
        assert gradient.isfinite().all()
    if dtype == torch.float32:
        exact = fractalops.render(*(each.detach().double() for each in leaves), index, 9, viewport=viewport)
        if isinstance(viewport, str):
            assert_matches(image.detach(), exact, 1e-4)  # coordinates are rounded before they are scaled


@dtypes
@pytest.mark.parametrize("viewport", ["fit", "stretch"])
def test_a_box_leaves_out_what_it_cannot_hold(viewport: Any, dtype: torch.dtype, backend: str) -> None:
    """A box from the smallest to the largest number of the dtype would have infinite sides."""
    matrix = torch.zeros(4, 2, 2, dtype=dtype)
    offset = torch.tensor([[0.0, 0.0], [3.0, 2.0], [1.0, 1.0], [1.0, 1.0]], dtype=dtype)
    offset[2], offset[3] = torch.finfo(dtype).max, torch.finfo(dtype).min
    image = fractalops.render(matrix, offset, torch.tensor([[0, 1, 2, 3]]), 9, viewport=viewport)
    assert_same_bits(image, fractalops.render(matrix, offset, torch.tensor([[0, 1]]), 9, viewport=viewport))


@dtypes
@pytest.mark.parametrize("scale", [1e18, 1e20, 1e30, 1e37])
def test_a_cloud_of_any_scale_looks_the_same(scale: float, dtype: torch.dtype, backend: str) -> None:
    cloud = torch.rand(2, 60, 3, generator=seeded(0), dtype=torch.float64) - 0.5
    expected = fractalops.render_points(cloud, 9, azimuth=30, elevation=20)
    points = (scale * cloud).to(dtype).requires_grad_()
    image = fractalops.render_points(points, 9, azimuth=30, elevation=20)
    assert_matches(image.detach(), expected, 10 * TOLERANCES[dtype])
    (gradient,) = torch.autograd.grad(image.square().sum(), points)
    assert gradient.isfinite().all()


@far
@dtypes
def test_a_cloud_with_points_afar(dtype: torch.dtype, value: float | str, backend: str) -> None:
    points = torch.rand(2, 60, 3, generator=seeded(0), dtype=torch.float64).to(dtype)
    frame = frame_of(points)
    points[:, 7, 1] = number(value, dtype)
    points.requires_grad_()
    image = fractalops.render_points(points, 9, frame=frame, azimuth=30)
    (gradient,) = torch.autograd.grad(image.square().sum(), points)
    assert gradient.isfinite().all()
    assert not gradient[:, 7].any()
    others = [place for place in range(60) if place != 7]
    expected = fractalops.render_points(points[:, others], 9, frame=frame, azimuth=30)
    assert_matches(image.detach(), expected.detach().double())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("value", [1e30, -1e30, 1.7e308, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["matrix", "offset"])
def test_orbits(where: str, value: float, masked: bool, native: str) -> None:
    """Both backends draw the same image by the generator's rules, and it does not change the other images."""
    inputs: dict[str, Tensor] = {
        "matrix": 0.5 * torch.rand(3, 4, 2, 2, generator=seeded(0), dtype=torch.float64),
        "offset": torch.rand(3, 4, 2, generator=seeded(1), dtype=torch.float64),
        "probabilities": torch.full((3, 4), 0.25, dtype=torch.float64),
        "uniform": torch.rand(3, 299, generator=seeded(2), dtype=torch.float64),
    }
    mask = torch.randint(1, 512, (3, 300), generator=seeded(3), dtype=torch.int16) if masked else None

    def draw(backend: Any) -> Tensor:
        return rasterize_orbit(**inputs, size=(20, 30), padding=6, mask=mask, backend=backend)

    healthy = draw(native)
    inputs[where][1, 2].view(-1)[0] = value
    images = draw(native)
    assert_same_bits(images, draw("reference"))
    assert_same_bits(images[[0, 2]], healthy[[0, 2]])
