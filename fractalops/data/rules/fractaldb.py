"""The rules of FractalDB (Kataoka et al. 2020, "Pre-training without Natural Images"), as published."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from fractalops.data.class_search import search_classes
from fractalops.data.classes import parts, stacked
from fractalops.data.generators import seed_of
from fractalops.data.rules.settings import Defaults, PublishedRendering, Settings
from fractalops.ifs import IFS
from fractalops.ops.draw_masks import draw_masks
from fractalops.ops.rasterize_orbit import COLORS, LARGEST_SIDE, MOST_POINTS, rasterize_orbit
from fractalops.systems import System
from fractalops.systems.axes import to_right_and_up
from fractalops.systems.stacking import Stack
from fractalops.systems.system import shares_of

RENDERINGS = get_args(PublishedRendering)
PADDING = 6  # pixels on each side
FLIPS = 4  # unchanged, upside down, mirrored, both
_STREAM = 100  # seed of the random numbers that all images use
_GRAY = 127  # value of a lit pixel in gray images
_AT_ONCE = 8  # pictures that are drawn together
_EXACT = 1e-9  # largest deviation from 1 of the sum of a published class's probabilities


class FractalDBRules:
    """The published generator: instances are factor rows x patches x flips, in this order.

    Instance `i` of a class is flip `i % 4` of picture `i // 4`. The picture's factor row is `picture // copies`, where
    `copies` is the number of pictures of each row, which differ in their patches.
    """

    renderings = RENDERINGS
    backgrounds = ("black",)
    defaults = Defaults(rendering="patch_gray", points=200_000, perturbation=0.4, density=0.2, maps=(2, 7))

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        check_published(settings)
        if isinstance(systems, int):
            systems = search_classes(systems, rate=settings.density, maps=settings.maps, seed=settings.seed)
        self.stack = with_sum_of_one(stacked(systems, torch.float64))
        self._published = in_published_axes(self.stack)
        self._settings = settings
        self._factors = published_factors(settings.perturbation)  # (R, 6)
        of_patches = settings.rendering.startswith("patch")
        least = len(self._factors) * FLIPS
        self.instances = settings.instances or (10 * least if of_patches else least)
        if self.instances % least or not (of_patches or self.instances == least):
            wanted = f"a multiple of {least}" if of_patches else f"{least} if the rendering has no patches"
            raise ValueError(f"FractalDataset: instances must be {wanted}, got {self.instances}")

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W), uint8. Each picture is drawn once and flipped for all items that need it."""
        numbers = sorted({item // FLIPS for item in items})
        pictures = dict(zip(numbers, self._draw_pictures(numbers), strict=True))
        return [flipped(pictures[item // FLIPS], item % FLIPS) for item in items]

    def _draw_pictures(self, numbers: Sequence[int]) -> Tensor:
        """Draw the pictures (B, C, H, W) with the given indices among all pictures of the data set."""
        pictures = self.instances // FLIPS  # pictures per class
        copies = pictures // len(self._factors)  # pictures per factor row, each with its own patches
        systems = self._published.pick([number // pictures for number in numbers])
        rows = [number % pictures // copies for number in numbers]
        return draw_pictures(multiplied(systems, self._factors[rows][:, None]), numbers, self._settings)


def check_published(settings: Settings) -> None:
    """Raise `ValueError` if the published generator cannot draw the size or the number of points."""
    if min(settings.size) <= 2 * PADDING or max(settings.size) > LARGEST_SIDE:
        raise ValueError(
            f"FractalDataset: size must lie in [{2 * PADDING + 1}, {LARGEST_SIDE}] with these rules, "
            f"got {settings.size}"
        )
    if not 2 <= settings.points <= MOST_POINTS:
        raise ValueError(
            f"FractalDataset: points must lie in [2, {MOST_POINTS}] with these rules, got {settings.points}"
        )


def published_factors(step: float) -> Tensor:
    """Return the factors (25, 6), float64, of the parameters a to f of `x' = a x + b y + e`, `y' = c x + d y + f`.

    The rows are those of the published files weights_0.1.csv, weights_0.4.csv and so on, whose names contain `step`.
    Each row multiplies one parameter by 1 - 2 step, 1 - step, 1 + step or 1 + 2 step, but at least 0.01. The third row
    changes no parameter.
    """
    levels = [max(round(1 + count * step, 9), 0.01) for count in (-2, -1, 1, 2)]
    rows = [[level if other == place else 1.0 for other in range(6)] for place in range(6) for level in levels]
    rows.insert(2, [1.0] * 6)
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def in_published_axes(systems: Stack) -> Stack:
    """Return systems exactly in the axes of FractalDB's files, which the rules use: x to the right and y up."""
    return Stack(*to_right_and_up(systems.matrix, systems.offset), systems.probabilities)


def multiplied(systems: Stack, factors: Tensor) -> Stack:
    """Multiply the parameters a to f of systems in published axes by `factors` (S, 1, 6) or (S, N, 6)."""
    matrix = systems.matrix * factors[..., :4].unflatten(-1, (2, 2))
    return Stack(matrix, systems.offset * factors[..., 4:], systems.probabilities)


def with_sum_of_one(systems: Stack) -> Stack:
    """Return systems whose probabilities sum to 1. Sums that differ from 1 only by rounding stay unchanged."""
    return systems._replace(probabilities=shares_of(systems.probabilities, rounding=_EXACT))


def draw_pictures(systems: Stack, numbers: Sequence[int], settings: Settings) -> Tensor:
    """Draw one picture of each of B systems in published axes: (B, C, H, W), uint8.

    `numbers` are the indices of the pictures. They determine the patches, as if Python's generator were seeded with
    `picture_seed` right before the patches of each picture are drawn.
    """
    places = range(len(numbers))
    drawn = (_draw_some(systems.pick(part), [numbers[i] for i in part], settings) for part in parts(places, _AT_ONCE))
    return torch.cat(list(drawn))


def _draw_some(systems: Stack, numbers: Sequence[int], settings: Settings) -> Tensor:
    shape, _, paint = settings.rendering.partition("_")
    mask = None
    if shape == "patch":
        seeds = [picture_seed(settings.seed, number) for number in numbers]
        mask = draw_masks(torch.tensor(seeds, dtype=torch.int64, device="cpu"), settings.points)  # (B, T)
    uniform = published_uniform(settings.points).expand(len(numbers), -1)  # (B, T - 1)
    levels = rasterize_orbit(*systems, uniform, settings.size, padding=PADDING, mask=mask)  # (B, H, W)
    if paint == "gray":
        return levels.clamp(max=1).mul_(_GRAY)[:, None]
    return published_palette()[levels.long()].movedim(-1, 1)


def picture_seed(seed: int, number: int) -> int:
    """Return the seed of the patches of a picture, as an argument of `random.seed`, in [0, 2^63)."""
    return seed_of(seed, "patches", number) >> 1


def flipped(picture: Tensor, flip: int) -> Tensor:
    """Return a picture (C, H, W) unchanged (`flip` 0), upside down (1), mirrored (2), or both (3)."""
    return picture.flip([(), (1,), (2,), (1, 2)][flip])


@lru_cache(maxsize=2)
def published_uniform(points: int) -> Tensor:
    """Return the random numbers (T - 1,) in [0, 1), float64, that choose the maps of every image."""
    return torch.from_numpy(np.random.RandomState(_STREAM).random_sample(points))[:-1]


@lru_cache(maxsize=1)
def published_palette() -> Tensor:
    """Return the colors (129, 3), uint8: black, then the color of each point index modulo 128.

    The hues cover the color circle, with saturation and value 0.75. The order of channels is blue, green, red.
    """
    colors = [colorsys.hsv_to_rgb(number / COLORS, 0.75, 0.75)[::-1] for number in range(COLORS)]
    levels = [[int(255 * part) for part in color] for color in colors]
    return torch.tensor([[0, 0, 0], *levels], dtype=torch.uint8, device="cpu")
