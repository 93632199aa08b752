"""The rules of fractal-pretraining (Anderson and Farrell 2022, "Improving Fractal Pre-training")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from fractalops.data.classes import SEQUENCES, stacked, warn_of_exploding
from fractalops.data.generators import generator_of, uniform
from fractalops.data.rules.settings import Background, Defaults, Settings
from fractalops.ifs import IFS
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.placement import Placement, bounding_box
from fractalops.sampling import determinant_probabilities, random_patches, sample_attractor
from fractalops.systems import System
from fractalops.systems.stacking import Stack

_TRIES = 4  # scaled instances that are tried until no map expands
_SHIFT = 0.2  # largest shift of the window, as a share of the attractor's extent
_ZOOM = (0.5, 2.0)  # range of the window's side, as a share of the attractor's extent
_BLUR = (0.5, 1.0)  # range of the standard deviation, in pixels


class FractalPretrainingRules:
    """The published rules: in each instance one map is scaled and the window is moved and zoomed.

    The image has one random patch, random flips, hues by the number of points, a background, and sometimes a blur.
    """

    renderings = ("color", "gray")
    backgrounds = get_args(Background)
    defaults = Defaults(rendering="color", points=100_000, perturbation=0.2, maps=(2, 7), background="random")

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        self._settings = settings
        self.instances = settings.instances or 1000
        if isinstance(systems, int):
            systems = [_random_system(settings, number) for number in range(systems)]
        self.stack = stacked(systems, torch.float32)
        warn_of_exploding(self.stack)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W), float32 in [0, 1]."""
        return [self._draw(item) for item in items]

    def _draw(self, item: int) -> Tensor:
        generator = generator_of(self._settings.seed, "item", item)
        size, in_color = self._settings.size, self._settings.rendering == "color"
        system = self._jittered(self.stack.pick([item // self.instances]), generator)
        clouds = sample_attractor(
            *system, self._settings.points, sequences=SEQUENCES, generator=[generator]
        ).points  # (1, K, L, 2)
        points = _in_window(clouds, size, generator)  # (1, T, 2)
        patch = random_patches(1, generator=generator)  # (1, 3, 3)
        image = rasterize_points(points, size, mode="density" if in_color else "binary", patch=patch).float()
        if size[0] == size[1] and _chance(generator):
            image = image.mT
        for axis in (1, 2):
            if _chance(generator):
                image = image.flip(axis)
        if not in_color:
            return self._finished(image * (127 / 255), generator)
        hue = image[0] / image.amax().clamp(min=1) + uniform(generator, 1)  # (H, W)
        saturation, value = 0.3 + 0.7 * uniform(generator, 1), 0.5 + 0.5 * uniform(generator, 1)  # (1,)
        colors = hsv_to_rgb(hue, saturation, value)  # (3, H, W)
        behind = torch.zeros_like(colors)
        if self._settings.background == "random":
            behind = _colored_field(size, generator)
        return self._finished(torch.where(image > 0, colors, behind), generator)

    def _jittered(self, system: Stack, generator: torch.Generator) -> Stack:
        """Scale one random map of a system. Return the system unchanged if a map expands in all tries."""
        maps = int((system.probabilities[0] > 0).sum())
        least = 1 - self._settings.perturbation
        for _ in range(_TRIES if self._settings.perturbation > 0 else 0):
            chosen = int(uniform(generator, 1) * maps)
            factors = torch.ones_like(system.probabilities)  # (1, N)
            factors[0, chosen] = least + 1.5 * (1 - least) * float(uniform(generator, 1))
            matrix = system.matrix * factors[..., None, None]
            if bool((torch.linalg.matrix_norm(matrix, 2) <= 1).all()):
                probabilities = determinant_probabilities(matrix) * (system.probabilities > 0)
                return Stack(matrix, system.offset * factors[..., None], probabilities)
        return system

    def _finished(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Blur an image (C, H, W) with probability 1/2."""
        if not _chance(generator):
            return image
        low, high = _BLUR
        deviation = low + (high - low) * float(uniform(generator, 1))
        side = math.exp(-0.5 / deviation**2)
        middle, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
        padded = pad(image[None], (1, 1, 1, 1), mode="replicate")[0]  # (C, H + 2, W + 2)
        across = middle * padded[..., 1:-1] + side * (padded[..., :-2] + padded[..., 2:])  # (C, H + 2, W)
        return (middle * across[:, 1:-1] + side * (across[:, :-2] + across[:, 2:])).clamp_(max=1)


def _random_system(settings: Settings, number: int) -> System:
    """Draw the system of class `number`: contractive maps, whose number is uniform between the bounds."""
    generator = generator_of(settings.seed, "class", number)
    low, high = settings.maps
    maps = low + int(uniform(generator, 1) * (high - low + 1))
    ifs = IFS(1, maps, generator=generator, dtype=torch.float32)
    matrix, offset = (part.detach() for part in ifs.maps())  # (1, N, 2, 2), (1, N, 2)
    return System(matrix[0], offset[0], determinant_probabilities(matrix)[0])


def _chance(generator: torch.Generator) -> bool:
    return bool(uniform(generator, 1) < 0.5)


def _in_window(clouds: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a cloud (1, K, L, 2) in pixels (1, T, 2) of a random window. Each axis is moved and zoomed separately."""
    low, high = bounding_box(clouds)  # (1, 2)
    extent = (high - low).clamp(min=1e-6)
    center = (high + low) / 2 + extent * _SHIFT * (2 * uniform(generator, 2) - 1)
    smallest, largest = _ZOOM
    window = extent * (smallest + (largest - smallest) * uniform(generator, 2))
    pixels = torch.tensor(size, dtype=torch.float32, device="cpu") - 1  # (2,)
    return Placement(center, pixels / window, pixels / 2).place_sequences(clouds).floor_()


def _colored_field(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a background (3, H, W): a plasma whose heights determine hue, saturation and value."""
    height = plasma(max(size), generator)[: size[0], : size[1]]  # (H, W)
    hue, saturation, value = uniform(generator, 3, 2).tolist()
    return hsv_to_rgb(
        height * (0.25 + 0.75 * hue[0]) + hue[1],
        (height * (0.1 + 0.2 * saturation[0]) + 0.4 + 0.2 * saturation[1]).clamp(0, 1),
        (height * (0.3 + 0.3 * value[0]) + 0.4 + 0.2 * value[1]).clamp(0, 1),
    )


def plasma(side: int, generator: torch.Generator) -> Tensor:
    """Return heights (n, n), n > `side`, by the diamond-square algorithm on a torus (Fournier et al. 1982).

    Each new point of a finer grid gets the mean of its four neighbors plus a uniform random number. This number is in
    [-0.5, 0.5) on the first grid. Its range shrinks by a factor of exp(-decay) on each finer grid, where the decay is
    uniform in [0.4, 0.8).
    """
    decay = 0.4 + 0.4 * float(uniform(generator, 1))
    field = uniform(generator, 1, 1)
    reach = 0.5
    while len(field) <= side:
        count = len(field)
        right, below = field.roll(-1, 1), field.roll(-1, 0)
        middle = (field + right + below + below.roll(-1, 1)) / 4 + reach * (2 * uniform(generator, count, count) - 1)
        noise = reach * (2 * uniform(generator, 2, count, count) - 1)
        across = (field + right + middle + middle.roll(1, 0)) / 4 + noise[0]
        down = (field + below + middle + middle.roll(1, 1)) / 4 + noise[1]
        rows = (torch.stack((field, across), -1).flatten(1), torch.stack((down, middle), -1).flatten(1))
        field = torch.stack(rows, 1).flatten(0, 1)
        reach *= math.exp(-decay)
    return field


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the colors (3, H, W) of hues (H, W), where 1 is a full turn, and of saturations and values in [0, 1].

    Saturations and values have a shape that broadcasts with (H, W).
    """
    sector = torch.stack([(shift + 6 * hue) % 6 for shift in (5, 3, 1)])  # (3, H, W)
    return value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1)
