"""The package's own rules for images of fractals."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fractalops.data.classes import SEQUENCES, Stack, dense_systems, fitted, stacked
from fractalops.data.generators import generator_of
from fractalops.data.rules.settings import Settings
from fractalops.ifs import IFS
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.sampling import determinant_probabilities, random_patches, sample_attractor
from fractalops.systems import System

_POINTS_AT_ONCE = 2**17  # of all images that are drawn together, so that they stay in the cache
_CELLS = 4  # of a random background, on each side


class OwnRules:
    """New sequences and changed parameters for every instance; images keep the proportions of their attractor."""

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        self._settings = settings
        if isinstance(systems, int):
            matrix, offset = dense_systems(systems, settings.maps, settings.density, settings.seed)
            self.stack = Stack(matrix, offset, determinant_probabilities(matrix))
        else:
            self.stack = stacked(systems, torch.float32)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W), float32 in [0, 1]."""
        images: list[Tensor] = []
        together = max(1, _POINTS_AT_ONCE // self._settings.points)
        for first in range(0, len(items), together):
            part = items[first : first + together]
            generators = [generator_of(self._settings.seed, "item", item) for item in part]
            images += self._draw(torch.tensor([item // self._settings.instances for item in part]), generators)
        return images

    def _draw(self, classes: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Images (B, C, H, W) of classes (B,)."""
        size, rendering = self._settings.size, self._settings.rendering
        matrix, offset, probabilities = (part[classes] for part in self.stack)  # (B, N, 2, 2), (B, N, 2), (B, N)
        matrix, offset = perturbed(matrix, offset, self._settings.perturbation, generators)
        clouds = sample_attractor(
            matrix, offset, probabilities, self._settings.points, sequences=SEQUENCES, generator=generators
        ).points  # (B, K, L, 2)
        pixels = fitted(clouds, size)  # (B, T, 2)
        if rendering in ("binary", "patch"):
            patch = None
            if rendering == "patch":
                patch = torch.cat([random_patches(1, generator=generator) for generator in generators])  # (B, 3, 3)
            images = rasterize_points(pixels, size, patch=patch)[:, None].float()  # (B, 1, H, W)
        else:
            density = rasterize_points(pixels, size, mode="density")  # (B, H, W)
            images = torch.log1p(density.float())[:, None]  # (B, 1, H, W)
            images /= images.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        if rendering == "color":
            hue = torch.stack([_random_color(generator) for generator in generators])  # (B, 3)
            images = images * hue[:, :, None, None]  # (B, 3, H, W)
        if self._settings.background == "random":
            images = _with_background(images, generators)
        return images


def _with_background(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Images (B, C, H, W) in front of dim random fields, which show where the fractal is dark."""
    cells = [torch.rand(images.shape[1], _CELLS, _CELLS, generator=generator) for generator in generators]
    field = interpolate(torch.stack(cells), images.shape[2:], mode="bilinear", align_corners=True)  # (B, C, H, W)
    return images + (1 - images.amax(dim=1, keepdim=True)) * 0.5 * field


def _random_color(generator: torch.Generator) -> Tensor:
    """A bright color (3,) of random hue."""
    hue, saturation = torch.rand(2, generator=generator).tolist()
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.3 + 0.7 * saturation, 1.0))


def perturbed(
    matrix: Tensor, offset: Tensor, amount: float, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Systems (B, N, 2, 2) and (B, N, 2) turned, shrunk and moved somewhat; contractions stay contractions."""
    if amount == 0:
        return matrix, offset
    maps = offset.shape[1]
    normal = torch.stack([torch.randn(maps, 3, generator=generator) for generator in generators])  # (B, N, 3)
    shrunk = torch.stack([torch.rand(maps, generator=generator) for generator in generators])  # (B, N)
    angle = amount * normal[..., 0]  # (B, N)
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2))  # (B, N, 2, 2)
    size = offset.square().mean(dim=(1, 2), keepdim=True).sqrt()  # (B, 1, 1)
    return turn @ matrix * (1 - amount * shrunk)[..., None, None], offset + amount * size * normal[..., 1:]
