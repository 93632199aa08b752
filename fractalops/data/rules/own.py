"""The package's own rules for images of fractals in the plane."""

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

POINTS_AT_ONCE = 2**17  # points of all images that are drawn together, few enough for the cache
_TRIES = 200  # the search fails if, on average, more random systems are needed for one that is dense enough
_LUCK = 10  # added to the number of systems found in this average, because the first may be found late
_CANDIDATES = 64  # random systems that are drawn together
_COARSER = 4  # coarse checks of a system divide the sides of the image by this, with as many points per pixel
_SMALLEST = 32  # least side of the image in coarse checks, in pixels, unless the images are smaller
_MARGIN = 0.2  # coarse checks raise the required density by up to this share
_LOOKS = 4  # instances of a system in coarse checks, before one check at the size of the images
_REDRAWN = 100  # times at most that a sparse instance is drawn again
_CELLS = 4  # cells of a random background along each side


class OwnRules:
    """Our own rules: each instance has new sequences and changed parameters, and keeps its attractor's aspect ratio."""

    renderings = get_args(Rendering)
    backgrounds = get_args(Background)
    defaults = Defaults(rendering="binary", points=100_000, perturbation=0.05, density=0.2, maps=(4, 4))

    def __init__(self, systems: int | IFS | Sequence[System], settings: Settings) -> None:
        self._settings = settings
        self.instances = settings.instances or 1000
        self._together = max(1, POINTS_AT_ONCE // settings.points)  # images that are drawn together
        self._density = 0.0  # least share of lit pixels of an image; given systems have no limit
        if isinstance(systems, int):
            self._density = settings.density
            self.stack = self._random_systems(systems)
        else:
            self.stack = stacked(systems, torch.float32)
            warn_of_exploding(self.stack)

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return images (C, H, W): uint8 if they are black and white only, else float32 in [0, 1]."""
        images: list[Tensor] = []
        for part in parts(items, self._together):
            generators = [generator_of(self._settings.seed, "item", item) for item in part]
            classes = [item // self.instances for item in part]
            images += self._draw(self.stack.pick(classes), generators)
        return images

    def _draw(self, systems: Stack, generators: list[torch.Generator]) -> Tensor:
        """Draw one instance of each of B systems: (B, C, H, W)."""
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

        A picture of another `size` than the images has the same number of points per pixel.
        """
        size = size or self._settings.size
        points = math.ceil(self._settings.points * math.prod(size) / math.prod(self._settings.size))
        matrix, offset = perturbed(systems, self._settings.perturbation, generators)
        clouds = sample_attractor(
            matrix, offset, systems.probabilities, points, sequences=SEQUENCES, generator=generators
        ).points  # (B, K, L, 2)
        return fitted(clouds, size)

    def _sparse(self, pixels: Tensor, size: tuple[int, int] | None = None) -> list[int]:
        """Return the indices of the pictures, given as points (B, T, 2), that light less than the least density."""
        if self._density == 0:
            return []
        least = self._density
        if size is None:
            size = self._settings.size
        else:  # the same fractal lights a larger share of fewer pixels
            least *= 1 + _MARGIN * (1 - self._density)
        lit = rasterize_points(pixels, size).flatten(1).sum(1)  # (B,)
        return places_of(lit < least * math.prod(size))

    def _random_systems(self, count: int) -> Stack:
        """Draw `count` random systems that are dense in several instances.

        Raises `ValueError` if fewer than about one candidate in 200 is dense.
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
                    f"FractalDataset: density must be reached by random systems, got {density} "
                    f"({found} of {tried} reached it)"
                )
            systems = _candidates(self._settings.maps, generator)
            dense = self._dense(systems, [generator_of(seed, "density", tried + i) for i in range(_CANDIDATES)])
            kept.append(systems.pick(dense))
            found += len(dense)
            tried += _CANDIDATES
        return Stack.joined(kept).pick(range(count))

    def _dense(self, systems: Stack, generators: Sequence[torch.Generator]) -> list[int]:
        """Return the indices of the systems that are dense in several instances."""
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
    """Return `draw` of B systems, (B, ...). Results that `find_bad` reports are drawn again, at most 100 times."""
    drawn = draw(systems, generators)
    for _ in range(_REDRAWN):
        bad = find_bad(drawn)
        if not bad:
            break
        drawn[bad] = draw(systems.pick(bad), [generators[number] for number in bad])
    return drawn


def _candidates(maps: tuple[int, int], generator: torch.Generator) -> Stack:
    """Draw random contractive systems, whose numbers of maps are uniform between the bounds `maps`."""
    counts = torch.randint(maps[0], maps[1] + 1, (_CANDIDATES,), generator=generator, device="cpu")
    systems = Stack.zeros(_CANDIDATES, maps[1])
    for count in counts.unique().tolist():
        own = counts == count
        matrix, offset = (part.detach() for part in IFS(int(own.sum()), count, generator=generator).maps())
        for part, drawn in zip(systems, (matrix, offset, determinant_probabilities(matrix)), strict=True):
            part[own, :count] = drawn
    return systems


def _with_background(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Add dim random fields to images (B, C, H, W). They are brightest where the fractal is dark."""
    cells = torch.stack([uniform(generator, images.shape[1], _CELLS, _CELLS) for generator in generators])
    field = _stretched(cells, images.shape[2:])  # (B, C, H, W)
    return images + (1 - images.amax(dim=1, keepdim=True)) * 0.5 * field


def _random_color(generator: torch.Generator) -> Tensor:
    """Draw a bright color (3,) of random hue and saturation."""
    hue, saturation = uniform(generator, 2).tolist()
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.3 + 0.7 * saturation, 1.0), dtype=torch.float32, device="cpu")


def _stretched(cells: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate cells (B, C, h, w), with h and w above 1, linearly to (B, C, H, W), with the same corner values.

    `torch.nn.functional.interpolate` is not used because its last bits depend on the number of threads.
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
    """Rotate, shrink and move the maps of B systems at random. Returns matrices (B, N, D, D) and offsets (B, N, D).

    Contractions stay contractions. The changes of a system do not depend on the numbers of maps of the others.
    """
    matrix, offset, probabilities = systems
    if amount == 0:
        return matrix, offset
    dimensions = offset.shape[2]
    axes = dimensions * (dimensions - 1) // 2  # number of rotation angles
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

    The angle in space is 2 atan(|axis| / 2), nearly the length of the axis (Cayley transform).
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
