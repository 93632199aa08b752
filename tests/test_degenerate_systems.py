"""Tests that systems whose points coincide are drawn as a dot, and that overflow causes a warning."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import IFS
from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.placement import fit_to_frame
from fractalops.rendering import frame_of
from tests.support.cases import seeded
from tests.support.learning import disc

SIZE = (33, 21)
EXPLODES = "points that are NaN or infinite are not drawn: the maps expand on average, or aren't finite"


def about(point: tuple[float, float], dtype: torch.dtype, ratio: float = 0.8) -> tuple[Tensor, Tensor]:
    """Return three rotations (3, 2, 2), (3, 2) about one point, scaled by a ratio. The attractor is the point."""
    angle = torch.tensor([0.3, 1.7, 4.0], dtype=torch.float64)
    rows = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(3, 2, 2)
    matrix, center = ratio * rows, torch.tensor(point, dtype=torch.float64)
    return matrix.to(dtype), (center - matrix @ center).to(dtype)


def index(points: int = 2000) -> Tensor:
    return torch.randint(3, (2, points), generator=seeded(0))


def assert_dot(image: Tensor) -> None:
    """Check that the image (H, W) is dark except for the bump of a point in its middle."""
    row, column = (side // 2 for side in image.shape[-2:])
    lit = (image > 0.01 * image.amax()).nonzero()  # (L, 2)
    assert bool(image[row, column] > 0)
    assert bool(((lit - torch.tensor([row, column])).abs() <= 3).all())


POINTS = [(0.3, 0.7), (1e3, -2e3), (0.0, 5.0), (1e-20, 3e-20), (0.0, 0.0), (-7e7, 1.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("viewport", ["fit", "stretch"])
def test_points_that_coincide_are_a_dot_in_the_middle(
    viewport: Any, point: tuple[float, float], dtype: torch.dtype
) -> None:
    matrix, offset = about(point, dtype)
    points = fractalops.affine_chain(matrix, offset, index(), torch.tensor(point, dtype=dtype))
    if point not in ((0.0, 0.0), (1e-20, 3e-20)):
        assert points.unique(dim=1).shape[1] > 1  # they differ by rounding
    start = torch.tensor(point, dtype=dtype)
    for image in fractalops.render(matrix, offset, index(), SIZE, viewport=viewport, start=start):
        assert_dot(image)
    for image in IFS.from_maps(matrix, offset, viewport=viewport)(SIZE, points=2000, generator=seeded(1))[0]:
        assert_dot(image)
    assert_dot(draw_high_resolution(IFS.from_maps(matrix, offset), SIZE, points=5000, viewport=viewport)[0])


@pytest.mark.parametrize("point", POINTS)
def test_clouds_that_coincide_are_a_dot(point: tuple[float, float]) -> None:
    """Seen from the side, the second axis is along columns and the third along rows."""
    matrix, offset = about(point, torch.float32)
    points = fractalops.affine_chain(matrix, offset, index()[:1], torch.tensor(point))
    assert_dot(fractalops.render_points(points, SIZE)[0])
    assert frame_of(points).radius >= 1


def test_a_line_that_differs_by_rounding_alone_across_is_drawn_as_one() -> None:
    along = torch.linspace(-1, 1, 200)
    across = 3 + 3e-7 * torch.randn(200, generator=seeded(2))
    points = torch.stack((along, across), 1)[None]  # (1, 200, 2)
    for keep_proportions in (False, True):
        pixels = fit_to_frame(points, SIZE, keep_proportions=keep_proportions)(points)
        assert (pixels[..., 1] - 10).abs().max() < 1e-3
        assert float(pixels[..., 0].max() - pixels[..., 0].min()) == pytest.approx(32, abs=1e-3)


@pytest.mark.parametrize(("dtype", "extent"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_points_that_are_small_but_no_rounding_fill_the_frame(dtype: torch.dtype, extent: float) -> None:
    points = 1 + extent * torch.rand(1, 500, 2, generator=seeded(3), dtype=torch.float64)
    pixels = fit_to_frame(points.to(dtype), SIZE, keep_proportions=False)(points.to(dtype))
    assert (pixels.amax(1) - pixels.amin(1) - torch.tensor([32, 20])).abs().max() < 1e-2


# Overflow


def exploding() -> tuple[Tensor, Tensor]:
    matrix, offset = about((0.5, 0.5), torch.float32, ratio=1.8)
    return matrix, offset + 0.1


def test_rendering_warns_of_an_explosion_where_gradients_are_off() -> None:
    matrix, offset = exploding()
    with torch.no_grad(), pytest.warns(UserWarning, match=f"^render: {EXPLODES}$") as caught:
        fractalops.render(matrix, offset, index(), SIZE)
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    with torch.no_grad(), pytest.warns(UserWarning, match=f"^render: {EXPLODES}$"):
        IFS.from_maps(matrix, offset, viewport=(0, 0, 1, 1))(SIZE, points=2000)


def test_a_training_step_checks_no_points() -> None:
    matrix, offset = exploding()
    drawn = index()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fractalops.render(matrix.requires_grad_(), offset, index(), SIZE).sum()
        mapped = torch.vmap(lambda each: fractalops.render(matrix.detach(), each, drawn, SIZE))
        with torch.no_grad():
            mapped(offset[None])
            fractalops.render(*about((0.5, 0.5), torch.float32), index(), SIZE)  # no explosion


@pytest.mark.parametrize("viewport", ["fit", (0.0, 0.0, 1.0, 1.0)])
def test_drawing_warns_of_an_explosion(viewport: Any) -> None:
    with pytest.warns(UserWarning, match=f"^draw: {EXPLODES}$"):
        draw_high_resolution(IFS.from_maps(*exploding()), (8, 8), points=200_000, viewport=viewport)


def test_a_result_that_explodes_says_so_when_it_is_drawn() -> None:
    config = fractalops.FitConfig(maps=3, points=30, sequences=2, steps=1, parametrization="matrix", blend="add")
    result = fractalops.fit(disc(16), config)
    with torch.no_grad():
        result.system.matrix.mul_(math.inf)
    with pytest.warns(UserWarning, match=f"^draw: {EXPLODES}$"):
        result.draw(16)
