"""The package's own rules for images of fractals."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor

from fractalops.data.classes import SEQUENCES, fitted, parts, places_of, stacked, warn_of_exploding
from fractalops.data.generators import generator_of, normal, uniform
from fractalops.data.rules.settings import Background, Defaults, Rendering, Settings
from fractalops.ifs import IFS
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.sampling import determinant_probabilities, random_patches, sample_attractor
from fractalops.systems import System
from fractalops.systems.stacking import Stack

POINTS_AT_ONCE = 2**17  # of all images that are drawn together, so that they stay in the cache
_TRIES = 200  # random systems for one that is dense enough, on average
_LUCK = 10  # such systems by which the average may lag behind: the first may be long in coming
_CANDIDATES = 64  # random systems that are drawn together
_COARSER = 4  # first looks at a random system have that part of the sides, and as many points a pixel as the images
_SMALLEST = 32  # pixels of a side in first looks, where images are not smaller
_MARGIN = 0.2  # of the density, by which first looks ask for more
_LOOKS = 4  # instances by which a random system is judged so, before one of the images' own size
_REDRAWN = 100  # times at most, an instance that is less dense than it must be
_CELLS = 4  # of a random background, on each side


class OwnRules:
    """New sequences and changed parameters for every instance; images keep the proportions of their attractor."""

    renderings = get_args(Rendering)
    backgrounds = get_args(Background)
    defaults = Defaults(rendering="binary", points=100_000, perturbation=0.05, density=0.2, maps=(4, 4))

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        self._settings = settings
        self.instances = settings.instances or 1000
        self._together = max(1, POINTS_AT_ONCE // settings.points)  # images that are drawn together
        self._density = 0.0  # the share of pixels that an image must light
        if isinstance(systems, int):
            self._density = settings.density
            self.stack = self._random_systems(systems)
        else:
            self.stack = stacked(systems, torch.float32)
            warn_of_exploding(self.stack)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W): float32 in [0, 1], or uint8 where all are black and white."""
        images: list[Tensor] = []
        for part in parts(items, self._together):
            generators = [generator_of(self._settings.seed, "item", item) for item in part]
            classes = [item // self.instances for item in part]
            images += self._draw(self.stack.pick(classes), generators)
        return images

    def _draw(self, systems: Stack, generators: list[torch.Generator]) -> Tensor:
        """Draw images (B, C, H, W) of instances of B systems."""
        size, rendering = self._settings.size, self._settings.rendering
        pixels = draw_until_good(self._place_instances, self._sparse, systems, generators)  # (B, T, 2)
        if rendering in ("binary", "patch"):
            patch = None
            if rendering == "patch":
                patch = torch.cat([random_patches(1, generator=generator) for generator in generators])  # (B, 3, 3)
            images = rasterize_points(pixels, size, patch=patch)[:, None]  # (B, 1, H, W)
            if self._settings.background == "black":
                return images.mul_(255)
            images = images.float()
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

    def _place_instances(
        self, systems: Stack, generators: Sequence[torch.Generator], size: tuple[int, int] | None = None
    ) -> Tensor:
        """Return the points (B, T, 2), in pixels, of a new instance of each of B systems.

        A picture of another size than the images' has as many points a pixel.
        """
        size = size or self._settings.size
        points = math.ceil(self._settings.points * math.prod(size) / math.prod(self._settings.size))
        matrix, offset = perturbed(systems, self._settings.perturbation, generators)
        clouds = sample_attractor(
            matrix, offset, systems.probabilities, points, sequences=SEQUENCES, generator=generators
        ).points  # (B, K, L, 2)
        return fitted(clouds, size)

    def _sparse(self, pixels: Tensor, size: tuple[int, int] | None = None) -> list[int]:
        """Return the numbers of the pictures, of points (B, T, 2), that light less than the density."""
        if self._density == 0:
            return []
        least = self._density
        if size is None:
            size = self._settings.size
        else:  # of fewer pixels, of which the same fractal lights a larger share
            least *= 1 + _MARGIN * (1 - self._density)
        lit = rasterize_points(pixels, size).flatten(1).sum(1)  # (B,)
        return places_of(lit < least * math.prod(size))

    def _random_systems(self, count: int) -> Stack:
        """Draw systems of which several instances are dense.

        Raises `ValueError` where less than one in 200 is, or hardly more.
        """
        density, points, (height, width) = self._settings.density, self._settings.points, self._settings.size
        seed = self._settings.seed
        if points < density * height * width:
            raise ValueError(
                f"FractalDataset: density must be at most {points / (height * width):.3g}, the share of "
                f"{height} x {width} pixels that {points} points can light, got {density}"
            )
        generator = generator_of(seed, "systems", self._settings.maps[0])
        kept: list[Stack] = []
        tried = found = 0
        while found < count:
            if tried >= _TRIES * min(count, found + _LUCK):
                raise ValueError(
                    f"FractalDataset: density must be reached by random systems, got {density}, "
                    f"which {found} of {tried} do"
                )
            systems = _candidates(self._settings.maps, generator)
            dense = self._dense(systems, [generator_of(seed, "density", tried + i) for i in range(_CANDIDATES)])
            kept.append(systems.pick(dense))
            found += len(dense)
            tried += _CANDIDATES
        return Stack.joined(kept).pick(range(count))

    def _dense(self, systems: Stack, generators: Sequence[torch.Generator]) -> list[int]:
        """Return the numbers of those systems of which several instances are dense."""
        size = self._settings.size
        height, width = size
        coarse = min(height, max(_SMALLEST, height // _COARSER)), min(width, max(_SMALLEST, width // _COARSER))
        dense = list(range(len(systems.matrix)))
        for look in (*_LOOKS * (coarse,), None) if self._density > 0 else ():
            together = self._together if look is None else self._together * math.prod(size) // math.prod(look)
            near, dense = dense, []
            for numbers in parts(near, together):
                own = [generators[number] for number in numbers]
                sparse = self._sparse(self._place_instances(systems.pick(numbers), own, look), look)
                dense += [number for place, number in enumerate(numbers) if place not in sparse]
        return dense


def draw_until_good(
    draw: Callable[[Stack, Sequence[torch.Generator]], Tensor],
    find_bad: Callable[[Tensor], list[int]],
    systems: Stack,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return what `draw` makes of B systems (B, ...), drawing anew those in which `find_bad` finds a fault."""
    drawn = draw(systems, generators)
    for _ in range(_REDRAWN):
        bad = find_bad(drawn)
        if not bad:
            break
        drawn[bad] = draw(systems.pick(bad), [generators[number] for number in bad])
    return drawn


def _candidates(maps: tuple[int, int], generator: torch.Generator) -> Stack:
    """Draw random contractive systems, the number of maps of each uniform between the least and the largest."""
    counts = torch.randint(maps[0], maps[1] + 1, (_CANDIDATES,), generator=generator, device="cpu")
    systems = Stack.zeros(_CANDIDATES, maps[1])
    for count in counts.unique().tolist():
        own = counts == count
        matrix, offset = (part.detach() for part in IFS(int(own.sum()), count, generator=generator).maps())
        for part, drawn in zip(systems, (matrix, offset, determinant_probabilities(matrix)), strict=True):
            part[own, :count] = drawn
    return systems


def _with_background(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Return images (B, C, H, W) in front of dim random fields, which show where the fractal is dark."""
    cells = torch.stack([uniform(generator, images.shape[1], _CELLS, _CELLS) for generator in generators])
    field = _stretched(cells, images.shape[2:])  # (B, C, H, W)
    return images + (1 - images.amax(dim=1, keepdim=True)) * 0.5 * field


def _random_color(generator: torch.Generator) -> Tensor:
    """Return a bright color (3,) of random hue."""
    hue, saturation = uniform(generator, 2).tolist()
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.3 + 0.7 * saturation, 1.0), dtype=torch.float32, device="cpu")


def _stretched(cells: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate cells (B, C, h, w), h and w above 1, linearly to (B, C, H, W), whose corners are those of the cells.

    An axis after the other: the bits of `torch.nn.functional.interpolate` depend on the number of threads.
    """
    for axis, side in zip((2, 3), size, strict=True):
        last = cells.shape[axis] - 1
        place = torch.arange(side, dtype=cells.dtype, device=cells.device) * (last / max(side - 1, 1))  # (side,)
        below = place.long().clamp(max=last - 1)
        part = (place - below).view(-1, *[1] * (3 - axis))  # (side, 1) or (side,)
        low, high = cells.index_select(axis, below), cells.index_select(axis, below + 1)
        cells = low + (high - low) * part
    return cells


def perturbed(systems: Stack, amount: float, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Return the maps (B, N, D, D) and (B, N, D) of systems turned, shrunk and moved somewhat.

    Contractions stay contractions. What is drawn for a system does not depend on how many maps others have.
    """
    matrix, offset, probabilities = systems
    if amount == 0:
        return matrix, offset
    dimensions = offset.shape[2]
    axes = dimensions * (dimensions - 1) // 2  # of rotation
    drawn_maps = probabilities > 0  # (B, N)
    moved, shrunk = offset.new_zeros(*drawn_maps.shape, axes + dimensions), torch.zeros_like(probabilities)
    for number, (maps, generator) in enumerate(zip(systems.counts(), generators, strict=True)):
        moved[number, :maps] = normal(generator, maps, axes + dimensions)
        shrunk[number, :maps] = uniform(generator, maps)
    turn = _rotations(amount * moved[..., :axes])  # (B, N, D, D)
    squares = (offset.square().mean(2) * drawn_maps).sum(1) / drawn_maps.sum(1)  # (B,)
    size = squares.sqrt().view(-1, 1, 1)  # (B, 1, 1)
    return turn @ matrix * (1 - amount * shrunk)[..., None, None], offset + amount * size * moved[..., axes:]


def _rotations(angles: Tensor) -> Tensor:
    """Return rotations of the plane (..., 2, 2) by angles (..., 1), or of space (..., 3, 3) about axes (..., 3).

    Those of space turn by 2 atan(|axis| / 2), nearly the axis's length (Cayley).
    """
    if angles.shape[-1] == 1:
        cosine, sine = angles[..., 0].cos(), angles[..., 0].sin()
        plane: Tensor = torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2))
        return plane
    x, y, z = (angles / 2).unbind(-1)
    skew = torch.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x], -1).unflatten(-1, (3, 3))
    factor = 2 / (1 + x * x + y * y + z * z)  # (...)
    rotations: Tensor = factor[..., None, None] * (skew + skew @ skew)
    return rotations + torch.eye(3, dtype=angles.dtype, device=angles.device)
