"""Tests of pictures of point clouds and of solids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractalops.drawing import point_clouds
from fractalops.drawing.point_clouds import draw_point_clouds, draw_solid, turntable
from fractalops.errors import InputError
from fractalops.rendering import project
from fractalops.sampling import AttractorSample, sample_attractor
from fractalops.systems import CLASSICS, System
from tests.support.cases import seeded


def test_a_sheet_of_views_and_a_turntable() -> None:
    clouds = [torch.randn(300, 3, generator=seeded(0)), torch.randn(200, 3, generator=seeded(1))]
    sheet = draw_point_clouds(clouds, side=32, azimuths=(0, 90, 180))
    assert sheet.shape == (2 * 36 + 4, 3 * 36 + 4)
    assert 0 <= sheet.min() <= sheet.max() == 1
    frames = turntable(clouds, frames=4, side=32, elevation=0)
    assert [frame.shape for frame in frames] == [(40, 76)] * 4
    # Half a turn without elevation mirrors the outline.
    lit, mirrored = frames[0][4:36, 4:36] > 0.02, frames[2][4:36, 4:36].flip(1) > 0.02
    assert (lit == mirrored).float().mean() > 0.97
    assert (draw_point_clouds([torch.zeros(1, 3)], side=8, azimuths=(0,)) > 0.5).any()
    flat = torch.randn(30, 2, generator=seeded(0), dtype=torch.float64)
    assert draw_point_clouds([flat], side=16, azimuths=(0,)).isfinite().all()


# Solids


def solid(system: System, side: int = 40, points: int = 2000, **options: float) -> Tensor:
    """Return the picture (side, side) of a system in space."""
    return torch.cat(list(draw_solid(system, side, points, generator=seeded(0), **options)))  # type: ignore[arg-type]


def box(*sides: float, shift: float = 0.0) -> System:
    """Return a system whose attractor is a solid box."""
    corners = torch.cartesian_prod(*3 * [torch.tensor([-0.5, 0.5], dtype=torch.float64)])  # (8, 3)
    matrix = torch.eye(3, dtype=torch.float64).expand(8, 3, 3) / 2
    return System(matrix, (corners + shift) / 2 * torch.tensor(sides, dtype=torch.float64), torch.ones(8))


def test_the_memory_of_a_solid_does_not_grow_with_its_points(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def counted(matrix: Tensor, offset: Tensor, shares: Tensor, points: int, **options: object) -> AttractorSample:
        drawn.append(points)
        return sample_attractor(matrix, offset, shares, points, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("fractalops.systems.system.sample_attractor", counted)
    assert point_clouds._POINTS_AT_ONCE == 2**20
    monkeypatch.setattr(point_clouds, "_POINTS_AT_ONCE", 1000)
    solid(CLASSICS["menger"].system, points=1001)
    assert drawn == [1000, *8 * [1000], 8]
    with pytest.raises(InputError, match="at most 8192 pixels per side, got 8193"):
        solid(CLASSICS["menger"].system, 8193)


@pytest.mark.parametrize("side", [1, 3, 40])
def test_the_bands_of_a_solid_leave_no_seams(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = solid(CLASSICS["menger"].system, side)
    assert whole.shape == (side, side)
    assert whole.max() > 0.2
    monkeypatch.setattr(point_clouds, "_BAND_VALUES", 1)
    bands = list(draw_solid(CLASSICS["menger"].system, side, 2000, generator=seeded(0)))
    assert [band.shape for band in bands] == side * [(1, side)]
    torch.testing.assert_close(torch.cat(bands), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (35.0, 25.0), (200.0, -40.0)])
@pytest.mark.parametrize("sides", [(1, 1, 1), (1, 2, 6), (5, 1, 1)])
def test_a_solid_fills_the_picture(sides: tuple[float, ...], azimuth: float, elevation: float) -> None:
    """The outline of the box's corners spans the longer side up to the margin, and is centered."""
    image = solid(box(*sides, shift=30.0), 100, 50_000, margin=0.1, azimuth=azimuth, elevation=elevation)
    corners = torch.cartesian_prod(*(torch.tensor([-side / 2, side / 2]) for side in sides))  # (8, 3)
    extent = project(corners, azimuth, elevation).plane.amax(0)  # (2,)
    expected = extent / extent.amax() * 40  # pixels from the middle
    for axis in (0, 1):
        lit = image.gt(0.1).any(1 - axis).nonzero()
        assert abs(int(lit.min()) - (50 - float(expected[axis]))) <= 2
        assert abs(int(lit.max()) + 1 - (50 + float(expected[axis]))) <= 2


def test_what_lies_behind_is_hidden() -> None:
    """A small square in front of a large one is brighter than its surroundings. Both face the viewer."""
    corners = torch.cartesian_prod(*2 * [torch.tensor([-0.5, 0.5])])  # (4, 2)
    matrix = torch.zeros(8, 3, 3)
    matrix[:4, 1:, 1:] = torch.eye(2) / 2
    matrix[4:, 1:, 1:] = torch.eye(2) / 5
    offset = torch.cat((torch.cat((-torch.ones(4, 1), corners), 1), torch.cat((torch.ones(4, 1), 0.4 * corners), 1)))
    image = solid(System(matrix, offset, torch.ones(8)), 60, 40_000, azimuth=0, elevation=0)
    assert image[30, 30] > 1.2 * image[6, 30] > 0.2


@pytest.mark.parametrize("size", [1e-30, 1e38, 1e45, 1e100])
def test_solids_of_any_size_look_alike(size: float) -> None:
    system = CLASSICS["menger"].system
    scaled = System(system.matrix.double(), system.offset.double() * size, system.probabilities)
    torch.testing.assert_close(solid(scaled), solid(system), rtol=0, atol=0.05)
