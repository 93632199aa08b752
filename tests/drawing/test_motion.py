"""Tests of animations of one system, and of morphs between two."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from fractalops.drawing.canvas import Zoom
from fractalops.drawing.high_resolution import Picture, draw
from fractalops.drawing.morphing import Morph, frame_viewport, match, morph_frames
from fractalops.drawing.motion import build_frames, interesting_point, orbit_frames, zoom_frames
from fractalops.drawing.page import page_parameters
from fractalops.ops.fixed_point import fixed_point
from fractalops.ops.svd_matrix import svd_matrix
from fractalops.systems import System, random_systems
from tests.drawing.test_canvas import fern, picture, triangle
from tests.support.cases import seeded


def random_maps(maps: int, seed: int, channels: int = 0) -> System:
    drawn = random_systems(1, maps, generator=seeded(seed), dtype=torch.float64)
    factors = torch.cat((torch.stack((drawn.theta, drawn.phi), -1), drawn.singular_values, drawn.reflection), -1)
    probabilities = torch.rand(maps, generator=seeded(seed), dtype=torch.float64) + 0.1
    colors = torch.rand(maps, channels, generator=seeded(seed), dtype=torch.float64) if channels else None
    return System(svd_matrix(factors[0], "clamp"), drawn.offset[0], probabilities / probabilities.sum(), colors)


def test_a_flight_goes_from_the_whole_to_its_end() -> None:
    end = Zoom(0.3, 0.45, 20.0)
    drawn = picture((24, 32), 40_000, viewport="fit", zoom=end)
    frames = list(zoom_frames(fern(), drawn, 5, seed=1))
    assert torch.equal(frames[-1], draw(fern(), drawn, seeded(1)))
    whole = draw(fern(), replace(drawn, zoom=Zoom(0.5, 0.5, 1)), seeded(1))
    assert torch.equal(frames[0], whole)
    assert len(list(zoom_frames(fern(), drawn, 1, seed=1))) == 1
    assert len(list(zoom_frames(fern(), replace(drawn, zoom=Zoom(0.3, 0.45, 1)), 3, seed=1))) == 3


@pytest.mark.parametrize("maps", [fern(), triangle()], ids=["color", "gray"])
@pytest.mark.parametrize("points", [1, 7, 3000])
def test_points_are_added_until_all_are_there(maps: System, points: int) -> None:
    drawn = picture((96, 63), points, viewport="fit")
    frames = list(build_frames(maps, drawn, 6, seed=2))
    assert len(frames) == 6
    torch.testing.assert_close(frames[-1], draw(maps, drawn, seeded(2)), rtol=1e-3, atol=1e-4)
    lit = [int((frame > 0).any(0).sum()) for frame in frames]
    assert lit == sorted(lit)
    assert points < 100 or lit[0] < lit[-1] / 3


@pytest.mark.parametrize("zoom", [None, Zoom(0.2, 0.3, 4)])
def test_an_orbit_is_a_loop_around_the_system(zoom: Zoom | None) -> None:
    drawn = picture((24, 32), 3000, viewport="fit", zoom=zoom)
    frames = list(orbit_frames(triangle(), drawn, 8, seed=3))
    still = draw(triangle(), drawn, seeded(3))
    for number in (0, 4):  # the rotation is 0 in both
        assert (frames[number] - still).abs().mean() < 0.01
    assert (frames[2] - still).abs().mean() > 0.02
    assert (frames[2] - frames[6]).abs().mean() > 0.02
    assert (frames[1] - frames[3]).abs().max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_an_interesting_point_is_a_fixed_point_in_the_picture(seed: int) -> None:
    maps = random_maps(5, seed)
    x, y = interesting_point(maps, picture((30, 50), 100, viewport=(-4, -2, 4, 3)))
    # Pixel centers span the viewport.
    point = torch.tensor([-4 + (y * 30 - 0.5) / 29 * 8, -2 + (x * 50 - 0.5) / 49 * 5], dtype=torch.float64)
    still = fixed_point(maps.matrix, maps.offset)
    assert (still - point).norm(dim=1).min() < 1e-9
    far = interesting_point(maps, picture((30, 50), 100, viewport=(90, 90, 91, 91)))
    assert far == (0.5, 0.5)


# From one system to another


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize(("first", "last"), [(1, 1), (3, 3), (5, 2), (2, 63)])
def test_a_morph_has_both_ends(first: int, last: int, channels: int) -> None:
    ends = random_maps(first, 1, channels), random_maps(last, 2, channels)
    morph = Morph(*ends)
    for end, time in zip(ends, (0.0, 1.0), strict=True):
        maps = morph.at(time)
        assert len(maps.matrix) == max(first, last)
        drawn = maps.probabilities > 0
        order = [int((maps.offset[drawn] - offset).norm(dim=1).argmin()) for offset in end.offset]
        for name in ("matrix", "offset", "probabilities", "color"):
            part, wanted = getattr(maps, name), getattr(end, name)
            if wanted is not None:
                torch.testing.assert_close(part[drawn][order], wanted)
    middle = morph.at(0.5)
    torch.testing.assert_close(middle.probabilities.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert (torch.linalg.matrix_norm(middle.matrix, 2) <= 1 + 1e-9).all()


def test_a_morph_turns_the_short_way_and_shrinks_to_reflect() -> None:
    def one(theta: float, sign: float) -> System:
        svd = torch.tensor([[theta, 0.0, 0.8, 0.5, 1.0, sign]], dtype=torch.float64)
        return System(svd_matrix(svd, "clamp"), torch.zeros(1, 2).double(), torch.ones(1).double(), None)

    turned = Morph(one(math.radians(170), 1), one(math.radians(-170), 1)).at(0.5)
    torch.testing.assert_close(turned.matrix, one(math.pi, 1).matrix)
    reflected = [Morph(one(0.3, 1), one(0.3, -1)).at(time / 10).matrix[0] for time in range(11)]
    determinants = torch.stack([torch.linalg.det(matrix) for matrix in reflected])
    torch.testing.assert_close(determinants, torch.linspace(0.4, -0.4, 11).double())
    steps = torch.stack(reflected).diff(dim=0).norm(dim=(1, 2))
    assert steps.max() < 0.2  # no jump


def test_a_system_without_colors_does_not_turn_into_one_with_colors() -> None:
    with pytest.raises(ValueError, match=r"^Morph: both systems or neither must have colors"):
        Morph(fern(), triangle())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (6, 6), (7, 3), (3, 7)])
@pytest.mark.parametrize("seed", range(5))
def test_matches_are_one_to_one_and_the_best(rows: int, columns: int, seed: int) -> None:
    cost = torch.rand(rows, columns, generator=seeded(seed))
    column = match(cost)
    matched = column[column >= 0]
    assert len(matched) == len(set(matched.tolist())) == min(rows, columns)
    total = float(cost[column >= 0, matched].sum())
    assert total == pytest.approx(least_cost(cost))


def least_cost(cost: torch.Tensor) -> float:
    """Return the least cost of all matchings, by trying each."""
    if len(cost) > cost.shape[1]:
        cost = cost.t()
    if len(cost) == 0:
        return 0.0
    rest = [torch.cat((cost[1:, :n], cost[1:, n + 1 :]), 1) for n in range(cost.shape[1])]
    return min(float(cost[0, n]) + least_cost(part) for n, part in enumerate(rest))


def test_the_frames_of_a_morph_are_a_loop() -> None:
    start = Picture(size=(20, 30), points=2000, viewport=(-3.0, -3.0, 3.0, 3.0))
    frames = list(morph_frames(random_maps(3, 1), random_maps(4, 2), start, replace(start, viewport="fit"), 6, 5))
    assert len(frames) == 6
    assert frames[0].shape == (1, 20, 30)
    torch.testing.assert_close(frames[1], frames[5], rtol=0, atol=1e-6)
    assert (frames[0] - frames[3]).abs().mean() > 0.02


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (40, 40), (80, 60)], ids=str)
def test_the_last_picture_of_a_morph_keeps_its_proportions(size: tuple[int, int]) -> None:
    viewport = (-1.0, 0.0, 2.0, 1.5)
    low, high = frame_viewport(viewport, size, (50, 41)).view(2, 2)
    own_low, own_high = torch.tensor(viewport, dtype=torch.float64).view(2, 2)
    torch.testing.assert_close(low + high, own_low + own_high)
    assert (low <= own_low + 1e-6).all()
    assert (high - low - own_high + own_low).abs().min() < 1e-6
    pixels = torch.tensor([49.0, 40.0]) / (high - low)  # per unit
    own_pixels = torch.tensor([size[0] - 1.0, size[1] - 1.0]) / (own_high - own_low)
    torch.testing.assert_close(pixels[0] / pixels[1], own_pixels[0] / own_pixels[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1)], ids=str)
def test_animations_of_few_pixels(size: tuple[int, int]) -> None:
    for viewport in ("fit", (0.0, 0.0, 1.0, 1.0)):
        drawn = Picture(size=size, points=50, viewport=viewport)  # type: ignore[arg-type]
        for frames in (
            orbit_frames(triangle(), drawn, 2, 0),
            build_frames(triangle(), drawn, 2, 0),
            morph_frames(triangle(), triangle(), drawn, replace(drawn, size=(7, 9)), 2, 0),
        ):
            assert [frame.shape for frame in frames] == [(1, *size)] * 2
        assert all(0 <= part <= 1 for part in interesting_point(triangle(), drawn))


@pytest.mark.parametrize("name", ["orbit", "deep zoom", "morph", "interesting point", "page"])
def test_probabilities_of_another_sum_are_scaled(name: str) -> None:
    def drawn(factor: float) -> Any:
        maps = replace(fern(), probabilities=factor * fern().probabilities)
        still = picture((16, 24), 1000, viewport="fit")
        if name == "orbit":
            return list(orbit_frames(maps, still, 3, seed=0))
        if name == "deep zoom":
            return draw(maps, replace(still, zoom=Zoom(*interesting_point(maps, still), 300.0)), seeded(1))
        if name == "morph":
            return list(morph_frames(maps, fern(), still, still, 3, seed=0))
        if name == "page":
            return torch.tensor(page_parameters(maps, size=(16, 16))["probabilities"])
        return interesting_point(maps, still)

    torch.testing.assert_close(drawn(4.0), drawn(1.0), rtol=0, atol=0)  # a power of 2, which loses no bit
