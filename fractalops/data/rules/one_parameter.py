"""The rules of 1p-frac (Nakamura et al. 2024, "Scaling Backwards: Minimal Synthetic Pre-training?")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fractalops.data.classes import stacked
from fractalops.data.generators import generator_of
from fractalops.data.rules.fractaldb import (
    RENDERINGS,
    check_published,
    draw_pictures,
    in_published_axes,
    multiplied,
    with_sum_of_one,
)
from fractalops.data.rules.settings import Defaults, Settings
from fractalops.ifs import IFS
from fractalops.ops.svd_matrix import svd_matrix
from fractalops.sampling import determinant_weights
from fractalops.systems import System, random_systems
from fractalops.systems.axes import from_right_and_up
from fractalops.systems.stacking import Stack

_TRIES = 100  # perturbations of a class that are tried until its picture is dense enough
_SIGMA = (3.4, 3.6)  # range of the sum of s1 + 2 s2 over all maps, with the singular values s1 and s2


class OneParameterRules:
    """The published classes: perturbations of one base system, with one picture for each class.

    The parameters are multiplied by factors near 1. Pictures are drawn as in FractalDB. Further instances of a class
    differ in their patches only. Given systems are used as the classes.
    """

    renderings = RENDERINGS
    backgrounds = ("black",)
    defaults = Defaults(rendering="patch_gray", points=100_000, perturbation=0.1, density=0.05, maps=(2, 2))

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        check_published(settings)
        self._settings = settings
        self.instances = settings.instances or 1
        if isinstance(systems, int):
            base = with_sum_of_one(stacked([settings.base or _base(settings)], torch.float64))
            self._published = self._perturbed(in_published_axes(base), systems)
            turned = from_right_and_up(self._published.matrix, self._published.offset)
            self.stack = Stack(*turned, self._published.probabilities)
        else:
            self.stack = with_sum_of_one(stacked(systems, torch.float64))
            self._published = in_published_axes(self.stack)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W), uint8."""
        systems = self._published.pick([item // self.instances for item in items])
        return list(draw_pictures(systems, items, self._settings))

    def _perturbed(self, base: Stack, count: int) -> Stack:
        """Return `count` perturbations of a system in published axes, whose pictures have more than the least density.

        The probabilities are those of `base`. Raises `ValueError` if all 100 perturbations of a class are too sparse.
        """
        found: list[Stack] = []
        for number in range(count):
            generator = generator_of(self._settings.seed, "perturbation", number)
            for _ in range(_TRIES):
                shape = (1, base.offset.shape[1], 6)
                drawn = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")  # (1, N, 6)
                system = multiplied(base, 1 + self._settings.perturbation * (2 * drawn - 1))
                if self._settings.density == 0 or self._filling(system, number) > self._settings.density:
                    found.append(system)
                    break
            else:
                raise ValueError(
                    f"FractalDataset: density must be reached by a perturbed system, got {self._settings.density} "
                    f"(none of {_TRIES} perturbations of class {number} reached it)"
                )
        return Stack.joined(found)

    def _filling(self, system: Stack, number: int) -> float:
        """Return the share of pixels that are lit in the first picture of a class."""
        picture = draw_pictures(system, [number * self.instances], self._settings)  # (1, C, H, W)
        return float((picture > 1).double().mean())


def _base(settings: Settings) -> System:
    """Draw the base system. It is contractive and follows the method of Anderson and Farrell 2022."""
    generator = generator_of(settings.seed, "base", 0)
    low, high = _SIGMA
    sigma = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64, device="cpu"))
    drawn = random_systems(1, settings.maps[0], sigma_factor=sigma, generator=generator, dtype=torch.float64)
    angles = torch.stack((drawn.theta, drawn.phi), -1)  # (1, N, 2)
    svd = torch.cat((angles, drawn.singular_values, drawn.reflection), -1)  # (1, N, 6)
    matrix = svd_matrix(svd, singular_values="clamp")[0]  # (N, 2, 2)
    weights = determinant_weights(matrix)  # (N,)
    return System(matrix, drawn.offset[0], weights / weights.sum())
