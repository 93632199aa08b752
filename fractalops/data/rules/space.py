"""Rules for fractals in space, drawn as point clouds or as views of point clouds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from fractalops.data.class_search import axis_variances, normalized, search_space_classes
from fractalops.data.classes import SEQUENCES, parts, places_of, stacked, warn_of_exploding
from fractalops.data.generators import generator_of, uniform
from fractalops.data.rules.own import POINTS_AT_ONCE, draw_until_good, perturbed
from fractalops.data.rules.settings import Defaults, Settings, SpaceRendering
from fractalops.ifs import IFS
from fractalops.rendering import render_points
from fractalops.sampling import sample_attractor
from fractalops.systems import System
from fractalops.systems.axes import Y_UP
from fractalops.systems.stacking import Stack


class SpaceRules:
    """Rules in space: each instance has new sequences, changed parameters, and PC-FractalDB's scale.

    Views are from a random direction.
    """

    renderings = get_args(SpaceRendering)
    backgrounds = ("black",)
    defaults = Defaults(rendering="points", points=10_000, perturbation=0.05, maps=(2, 7), variance=0.05)

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        self._settings = settings
        self.instances = settings.instances or 1000
        self._least: float | None = None  # variance that an instance must exceed along each axis; None: no limit
        if isinstance(systems, int):
            self._least = settings.variance
            systems = search_space_classes(systems, variance=settings.variance, maps=settings.maps, seed=settings.seed)
        self.stack = stacked(systems, torch.float32, dimensions=3)
        warn_of_exploding(self.stack)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return point clouds (T, 3) in PC-FractalDB's axes, or views (1, H, W) with values in [0, 1]; float32."""
        drawn: list[Tensor] = []
        together = max(1, POINTS_AT_ONCE // self._settings.points)
        for part in parts(items, together):
            generators = [generator_of(self._settings.seed, "item", item) for item in part]
            systems = self.stack.pick([item // self.instances for item in part])
            clouds = draw_until_good(self._draw_instances, self._flat, systems, generators)  # (B, T, 3)
            if self._settings.rendering == "views":
                drawn += [self._view(cloud, own) for cloud, own in zip(clouds, generators, strict=True)]
            else:
                drawn += Y_UP[3].write_points(clouds)
        return drawn

    def _draw_instances(self, systems: Stack, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the points (B, T, 3), in [-2, 2], of a new instance of each of B systems."""
        matrix, offset = perturbed(systems, self._settings.perturbation, generators)
        points = self._settings.points
        clouds = sample_attractor(
            matrix, offset, systems.probabilities, points, sequences=SEQUENCES, generator=generators
        ).points  # (B, K, L, 3)
        return normalized(clouds.flatten(1, 2)[:, :points])

    def _flat(self, clouds: Tensor) -> list[int]:
        """Return the indices of the clouds (B, T, 3) that are too flat along an axis."""
        if self._least is None:
            return []
        return places_of(~(axis_variances(clouds) > self._least).all(1))

    def _view(self, cloud: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a cloud (T, 3) from a direction that is uniform on the sphere. Returns (1, H, W)."""
        around, up = uniform(generator, 2).tolist()
        elevation = math.degrees(math.asin(2 * up - 1))
        view = render_points(
            cloud[None], self._settings.size, azimuth=360 * around, elevation=elevation, clamp=False
        ).log1p()  # (1, H, W)
        return view / view.amax().clamp(min=1e-6)
