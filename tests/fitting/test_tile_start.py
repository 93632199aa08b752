"""Tests of `tile_start`: tiles cover what any target shows, in its colors. Tests of learning from this start.

"tiles" is the start of targets above 32 x 32 pixels.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

import fractalops
from fractalops import IFS, FitConfig
from fractalops.fitting.initialization import first_parameters
from fractalops.fitting.result import restore_system
from fractalops.placement import place
from tests.support.cases import seeded
from tests.support.learning import disc


def star(size: int) -> Tensor:
    """Return a white star (size, size) with five tips."""
    middle = size / 2 - 0.5
    down, across = torch.meshgrid(torch.arange(size) - middle, torch.arange(size) - middle, indexing="ij")
    step = math.pi / 5
    angle = (torch.atan2(across, -down).remainder(2 * step) - step).abs()  # from 0 at a notch to `step` at a tip
    x, y = torch.hypot(down, across) * angle.cos(), torch.hypot(down, across) * angle.sin()
    tip_x, tip_y, notch = 0.46 * size * math.cos(step), 0.46 * size * math.sin(step), 0.19 * size
    return ((tip_x - notch) * y >= tip_y * (x - notch)).float()


def ring(height: int, width: int) -> Tensor:
    """Return a white ring (height, width), an ellipse if the target is not square."""
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    radius = torch.hypot(down, across)
    return ((radius > 0.5) & (radius < 0.9)).float()


def photograph(height: int, width: int) -> Tensor:
    """Return a smooth gray picture (height, width) without black, with finer waves at its right."""
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return 0.25 + 0.3 * down + 0.2 * across + 0.1 * across * (40 * across.square()).sin()


def start_of(target: Tensor, config: FitConfig, seed: int = 0) -> IFS:
    """Return the system from which the learning of a target (H, W) or (3, H, W) starts."""
    with torch.no_grad():
        return restore_system(first_parameters(target[None], config, [seeded(seed)]), config)


def tiles(target: Tensor, **changes: Any) -> FitConfig:
    """Return the settings for a target, with a start of tiles."""
    settings: dict[str, Any] = {"blend": "mean", "initialization": "tiles", "color": target.dim() == 3} | changes
    return FitConfig(**settings).resolve(target.shape[-2:])


def hits(system: IFS, size: tuple[int, int], points: int = 40_000) -> Tensor:
    """Return the pixels (H, W) on which points of the system fall."""
    drawn = system.points(system.sample(1, points, generator=seeded(5))).flatten(0, 2)[None]  # (1, T, 2)
    pixels = place(system.viewport, drawn, size)(drawn)[0].round().long()  # (T, 2)
    inside = ((pixels >= 0) & (pixels < torch.tensor(size))).all(-1)
    counts = torch.zeros(size)
    counts[tuple(pixels[inside].mT)] = 1
    return counts.bool()


def grown(mask: Tensor, pixels: int) -> Tensor:
    """Return the mask (H, W), grown by so many pixels."""
    return max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0].bool()


SHAPES = {"star": star(64), "disc": disc(48, 15.0), "ring": ring(60, 60), "long ring": ring(40, 90)}


@pytest.mark.parametrize("parametrization", ["svd", "matrix"])
@pytest.mark.parametrize("target", SHAPES.values(), ids=SHAPES)
def test_tiles_cover_a_shape_and_little_else(target: Tensor, parametrization: Any) -> None:
    system = start_of(target, tiles(target, parametrization=parametrization, maps=40))
    assert system.parametrization == parametrization
    covered, lit = hits(system, (target.shape[0], target.shape[1])), target > 0
    assert (grown(covered, 1) & lit).sum() >= 0.98 * lit.sum()
    assert (covered & ~grown(lit, 2)).sum() <= 0.05 * covered.sum()


@pytest.mark.parametrize("size", [(64, 64), (50, 80)])
def test_tiles_cover_a_whole_photograph(size: tuple[int, int]) -> None:
    target = photograph(*size)
    covered = grown(hits(start_of(target, tiles(target, maps=60)), size), 1)
    assert covered.float().mean() >= 0.98


def test_the_start_shows_the_target() -> None:
    """Before the first step, the image is close to the target, in gray and in color."""
    gray = photograph(64, 50)
    for target in (gray, torch.stack([gray, 1 - gray, gray.flip(-1)])):
        config = tiles(target, maps=100)
        image = start_of(target, config)(
            (target.shape[-2], target.shape[-1]), sequences=1, points=10_000, generator=seeded(1)
        )[0, 0]
        error = (image.reshape(target.shape) - target).square().mean()
        assert error < 0.5 * target.var()
        random = fractalops.fit(target, dataclasses.replace(config, initialization="random", steps=0))
        assert random.minimum_mse > 4 * error


def test_tiles_are_smaller_where_the_details_are() -> None:
    target = photograph(64, 64)
    system = start_of(target, tiles(target, maps=100))
    left = (system.offset @ torch.tensor([0.0, 1.0]))[0] < 0  # the position of a tile is about its offset
    assert left.sum() < 45


AWKWARD = {
    "black": torch.zeros(40, 40),
    "white": torch.ones(40, 40),
    "nearly black": torch.full((40, 40), 0.02),
    "one pixel lit": torch.zeros(40, 40).index_put((torch.tensor(7), torch.tensor(30)), torch.tensor(1.0)),
    "one pixel": torch.ones(1, 1),
    "one row": torch.rand(1, 63, generator=seeded(0)),
    "one column": torch.rand(63, 1, generator=seeded(0)),
    "a line": torch.zeros(40, 41).index_fill(0, torch.tensor(20), 1.0),
    "two pixels": torch.tensor([[0.0, 1.0]]),
    "noise": torch.rand(3, 3, generator=seeded(0)),
}


@pytest.mark.parametrize("changes", [{}, {"parametrization": "matrix"}, {"singular_values": "clamp"}], ids=str)
@pytest.mark.parametrize("maps", [1, 10, 300])
@pytest.mark.parametrize("target", AWKWARD.values(), ids=AWKWARD)
def test_any_target_gives_maps_that_shrink(target: Tensor, maps: int, changes: dict[str, Any]) -> None:
    """There can be more maps than pixels."""
    for colored in (target, target.expand(3, -1, -1)):
        system = start_of(colored, tiles(colored, maps=maps, **changes))
        assert all(tensor.isfinite().all() for tensor in system.state_dict().values())
        matrix, offset = (tensor.detach() for tensor in system.maps())
        assert torch.linalg.matrix_norm(matrix, 2).max() < (1.6 if "parametrization" in changes else 1 + 1e-6)
        assert offset.abs().max() < 10


@pytest.mark.parametrize("target", AWKWARD.values(), ids=AWKWARD)
def test_any_target_is_learned(target: Tensor) -> None:
    result = fractalops.fit(target, tiles(target, maps=5, points=50, steps=3, split_every=1, evaluation_sequences=2))
    assert result.best_image.isfinite().all()
    assert result.losses.isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parametrization": "matrix"},
        {"singular_values": "clamp"},
        {"color": True},
        {"blend": "add"},
        {"maps": 300},
        {"background": 1.0},
    ],
    ids=str,
)
def test_a_start_does_not_depend_on_its_neighbors(changes: dict[str, Any]) -> None:
    shape = (3,) if changes.get("color") else ()
    images = torch.rand(4, *shape, 20, 35, generator=seeded(3))
    images[1] = 0
    images[2] = star(35)[:20]
    config = tiles(images[0], **({"maps": 9} | changes))
    together = first_parameters(images, config, [seeded(number) for number in range(4)])
    for number in range(4):
        alone = first_parameters(images[number : number + 1], config, [seeded(number)])
        for name, tensor in together.items():
            assert torch.equal(tensor[number : number + 1], alone[name])
    again = first_parameters(images, config, [seeded(number + 9) for number in range(4)])
    assert not torch.equal(again["offset"], together["offset"])


def test_colors_and_probabilities_are_those_of_the_tiles() -> None:
    """The target has halves of two colors. Most maps are on one of them."""
    target = torch.zeros(3, 40, 40)
    target[0, :, :20], target[2, :, 20:] = 0.9, 0.6
    system = start_of(target, tiles(target, maps=30))
    colors, (matrix, _) = system.colors(), system.maps()
    assert colors is not None
    assert system.logit is not None
    mixed = (colors[0, :, 0] > 0.0201) & (colors[0, :, 2] > 0.0201)  # tiles across the edge
    assert mixed.sum() < 15
    pure = colors[0][~mixed]
    expected = torch.where(pure[:, :1] > 0.5, torch.tensor([0.9, 0.02, 0.02]), torch.tensor([0.02, 0.02, 0.6]))
    torch.testing.assert_close(pure, expected, rtol=0, atol=1e-4)
    area = torch.linalg.det(matrix[0]).abs()
    torch.testing.assert_close(system.logit[0].softmax(-1), area / area.sum(), rtol=1e-3, atol=1e-6)


def test_the_background_is_not_covered() -> None:
    """A black shape on a white background is covered like a white one on black."""
    shape = star(64)
    black = start_of(1 - shape, tiles(shape, background=1.0, maps=40))
    covered = hits(black, (64, 64))
    assert (covered & ~grown(shape > 0, 2)).sum() <= 0.05 * covered.sum()


# Learning from the start


def old(config: FitConfig) -> FitConfig:
    """Return the configuration with the former settings of all sizes."""
    return dataclasses.replace(config, maps=10, points=300, blend="add", initialization="intensity")


@pytest.mark.parametrize("steps", [200, pytest.param("auto", marks=pytest.mark.slow)])
def test_a_star_is_learned_at_its_own_size(steps: Any) -> None:
    config = FitConfig(steps=steps)
    assert fractalops.fit(star(64), config).minimum_mse < 0.02
    assert fractalops.fit(star(64), old(config)).minimum_mse > 0.04
