"""A data set of fractal images for pre-training, drawn as they are asked for."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fractalops._checks import check_choice, check_integer, check_item, check_number, check_size
from fractalops.ifs import IFS
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.rendering import fit_to_frame
from fractalops.sampling import determinant_probabilities, random_patches, sample_attractor

Rendering = Literal["binary", "patch", "gray", "color"]
Background = Literal["black", "random"]
RENDERINGS: tuple[Rendering, ...] = get_args(Rendering)
_DTYPES = (torch.float32, torch.uint8)
_SEQUENCES = 32  # side by side for an image: many short chains are faster than a long one
_POINTS_AT_ONCE = 2**17  # of all images that are drawn together, so that they stay in the cache
_MARGIN = 0.05  # of the image, on each side
_TRIES = 200  # random systems for one that is dense enough, on average
_LUCK = 10  # such systems by which the average may lag behind: the first may be long in coming
_CELLS = 4  # of a random background, on each side


class FractalDataset(Dataset[tuple[Tensor, int]]):
    """Fractal images and their classes: a class is a system, its instances are new sequences and changed parameters.

    As in FractalDB (Kataoka et al. 2020, "Pre-training without Natural Images") and its successors. Item `i` is
    instance `i % instances` of class `i // instances`: an image (C, H, W), C = 1, or 3 for "color", and the number of
    its class. An item depends on the arguments and its number alone, whichever worker draws
    it, in whatever order: `torch.utils.data.DataLoader` may have any number of workers, and its batches are drawn in
    one call of the ops.

    Args:
        systems: the classes: an `IFS` of S systems, as from `FitResult.system` or `FitRun.system()`, whose colors are
            not used, or how many random ones to draw (Anderson and Farrell 2022).
        instances: of each class.
        size: of an image, its side or (height, width) in pixels.
        rendering: "binary", each point on its nearest pixel; "patch", a random 3 x 3 patch on each, another one for
            every image, as in FractalDB; "gray", pixels by the number of their points; "color", that with a random
            hue.
        points: of an image, rounded up to a multiple of 32 where there are more.
        maps: of a random system.
        perturbation: how far an instance's parameters are from its class's: angles are turned by it, in radians, times
            a normal number, matrices shrink by up to that part, offsets move by that part of their size.
        background: "black", or "random": a smooth random field, of colors for "color".
        density: the least share of pixels that a random system must light, in [0, 1): FractalDB's filling rate.
        dtype: of the images: float32 with values in [0, 1], or uint8, in [0, 255], a fourth of the bytes for workers to
            hand over.
        seed: of everything that is drawn.
        names: of the classes, one for each, all different, such as those of the pictures that given systems were
            learned for; None are numbers, "0000" and so on.

    Attributes:
        classes: the names (S).
        class_to_idx: the number of each name's class, as data sets of torchvision have it.

    Raises:
        ValueError, TypeError: for an argument out of its range or of another type, for given systems that are not
            finite, and where hardly any random system reaches the density.
    """

    def __init__(
        self,
        systems: int | IFS = 1000,
        instances: int = 1000,
        size: int | tuple[int, int] = 224,
        *,
        rendering: Rendering = "binary",
        points: int = 100_000,
        maps: int = 4,
        perturbation: float = 0.05,
        background: Background = "black",
        density: float = 0.2,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        for name, value in (("instances", instances), ("points", points), ("maps", maps)):
            check_integer("FractalDataset", name, value, 1)
        check_integer("FractalDataset", "seed", seed, 0)
        check_choice("FractalDataset", "rendering", rendering, RENDERINGS)
        check_choice("FractalDataset", "background", background, get_args(Background))
        check_number("FractalDataset", "perturbation", perturbation, least=0, below=1)
        check_number("FractalDataset", "density", density, least=0, below=1)
        if dtype not in _DTYPES:
            raise TypeError(f"FractalDataset: dtype must be torch.float32 or torch.uint8, got {dtype}")
        height, width = check_size("FractalDataset", size)
        self.instances, self.size, self.rendering, self.points = instances, (height, width), rendering, points
        self.perturbation, self.background, self.dtype, self.seed = perturbation, background, dtype, seed
        if isinstance(systems, IFS):
            given = *systems.maps(), systems.probabilities()  # (S, N, 2, 2), (S, N, 2), (S, N)
            self.matrix, self.offset, self.probabilities = (
                tensor.detach().to(torch.float32, copy=True) for tensor in given
            )
            self._check_given()
        else:
            check_integer("FractalDataset", "systems", systems, 1)
            self.matrix, self.offset = dense_systems(systems, maps, density, seed)
            self.probabilities = determinant_probabilities(self.matrix)

        self.classes = [f"{number:04}" for number in range(self.num_classes)] if names is None else list(names)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        if not len(self.classes) == len(self.class_to_idx) == self.num_classes:
            raise ValueError(
                f"FractalDataset: names must be {self.num_classes} different ones, got {len(self.class_to_idx)} "
                f"different ones of {len(self.classes)}"
            )

    @property
    def num_classes(self) -> int:
        """S, the number of systems."""
        return len(self.matrix)

    def __len__(self) -> int:
        return self.num_classes * self.instances

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Many items at once, which a `DataLoader` asks for."""
        items = [check_item("FractalDataset", item, len(self)) for item in items]
        classes = [item // self.instances for item in items]
        images: list[Tensor] = []  # each (C, H, W)
        together = max(1, _POINTS_AT_ONCE // self.points)
        for first in range(0, len(items), together):
            part = slice(first, first + together)
            generators = [generator_of(self.seed, "item", item) for item in items[part]]
            images += self._draw(torch.tensor(classes[part], device="cpu"), generators)
        return list(zip(images, classes, strict=True))

    def _check_given(self) -> None:
        if self.matrix.device.type != "cpu":
            raise ValueError(f"FractalDataset: systems must lie on the CPU, got {self.matrix.device}")
        finite = self.matrix.isfinite().all(dim=(1, 2, 3)) & self.offset.isfinite().all(dim=(1, 2))  # (S,)
        if not finite.all():
            first = int(finite.logical_not().nonzero()[0])
            raise ValueError(f"FractalDataset: systems must be finite, got NaN or infinity in system {first}")

    def _draw(self, classes: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Images (B, C, H, W) of classes (B,)."""
        matrix, offset = self.matrix[classes], self.offset[classes]  # (B, N, 2, 2), (B, N, 2)
        matrix, offset = perturbed(matrix, offset, self.perturbation, generators)
        clouds = sample_attractor(
            matrix, offset, self.probabilities[classes], self.points, sequences=_SEQUENCES, generator=generators
        ).points  # (B, K, L, 2)
        pixels = fitted(clouds, self.size)  # (B, T, 2)
        if self.rendering in ("binary", "patch"):
            patch = None
            if self.rendering == "patch":
                patch = torch.cat([random_patches(1, generator=generator) for generator in generators])  # (B, 3, 3)
            images = rasterize_points(pixels, self.size, patch=patch)[:, None].float()  # (B, 1, H, W)
        else:
            density = rasterize_points(pixels, self.size, mode="density")  # (B, H, W)
            images = torch.log1p(density.float())[:, None]  # (B, 1, H, W)
            images /= images.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        if self.rendering == "color":
            hue = torch.stack([_random_color(generator) for generator in generators])  # (B, 3)
            images = images * hue[:, :, None, None]  # (B, 3, H, W)
        if self.background == "random":
            images = self._with_background(images, generators)
        return images if self.dtype == torch.float32 else images.mul(255).round().byte()

    def _with_background(self, images: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Images (B, C, H, W) in front of dim random fields, which show where the fractal is dark."""
        cells = torch.stack([_uniform(generator, images.shape[1], _CELLS, _CELLS) for generator in generators])
        field = _stretched(cells, self.size)  # (B, C, H, W)
        return images + (1 - images.amax(dim=1, keepdim=True)) * 0.5 * field


def generator_of(seed: int, what: str, number: int) -> torch.Generator:
    """A generator of its own for each number: neighboring seeds of torch's generator draw alike."""
    digest = hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _random_color(generator: torch.Generator) -> Tensor:
    """A bright color (3,) of random hue."""
    hue, saturation = _uniform(generator, 2).tolist()
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.3 + 0.7 * saturation, 1.0), dtype=torch.float32, device="cpu")


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)


def _stretched(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate cells (B, C, h, w), h and w above 1, linearly to (B, C, H, W), whose corners are those of the cells.

    An axis after the other: the bits of `torch.nn.functional.interpolate` depend on the number of threads.
    """
    for axis, side in ((2, size[0]), (3, size[1])):
        last = cells.shape[axis] - 1
        place = torch.arange(side, dtype=cells.dtype, device=cells.device) * (last / max(side - 1, 1))  # (side,)
        below = place.long().clamp(max=last - 1)
        part = (place - below).view(-1, *[1] * (3 - axis))  # (side, 1) or (side,)
        low, high = cells.index_select(axis, below), cells.index_select(axis, below + 1)
        cells = low + (high - low) * part
    return cells


def fitted(clouds: Tensor, size: tuple[int, int]) -> Tensor:
    """Clouds (B, K, L, 2) as pixels (B, K L, 2), each one's bounding box amid the image, in its true proportions."""
    placement = fit_to_frame(clouds, size, keep_proportions=True, margin=_MARGIN)  # of (B, 1, 1, 2)
    # By whole sequences, in which the placement repeats: along pairs of numbers torch is several times slower.
    origin, target = (part.flatten(1).repeat(1, clouds.shape[2])[:, None] for part in placement[::2])  # (B, 1, 2 L)
    pixels = (clouds.flatten(2) - origin).mul_(placement.scale[..., 0]).add_(target)  # (B, K, 2 L)
    return pixels.view(len(clouds), -1, 2)


def perturbed(
    matrix: Tensor, offset: Tensor, amount: float, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Systems (B, N, 2, 2) and (B, N, 2) turned, shrunk and moved somewhat; contractions stay contractions."""
    if amount == 0:
        return matrix, offset
    maps = offset.shape[1]
    normal = torch.stack([_normal(generator, maps, 3) for generator in generators])  # (B, N, 3)
    shrunk = torch.stack([_uniform(generator, maps) for generator in generators])  # (B, N)
    angle = amount * normal[..., 0]  # (B, N)
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2))  # (B, N, 2, 2)
    size = offset.square().mean(dim=(1, 2), keepdim=True).sqrt()  # (B, 1, 1)
    return turn @ matrix * (1 - amount * shrunk)[..., None, None], offset + amount * size * normal[..., 1:]


def dense_systems(count: int, maps: int, density: float, seed: int) -> tuple[Tensor, Tensor]:
    """Random systems, matrix (S, N, 2, 2) and offset (S, N, 2), that light a share of the pixels of a small image.

    Raises `ValueError` where less than one in 200 does, or hardly more.
    """
    size, points = (64, 64), 10_000
    kept: list[tuple[Tensor, Tensor]] = []
    tried, batch = 0, 64
    generator = generator_of(seed, "systems", maps)
    while len(kept) < count:
        if tried >= _TRIES * min(count, len(kept) + _LUCK):
            raise ValueError(
                f"FractalDataset: density must be reached by random systems, got {density}, "
                f"which {len(kept)} of {tried} do"
            )
        system = IFS(batch, maps, generator=generator)
        matrix, offset = (tensor.detach() for tensor in system.maps())  # (B, N, 2, 2), (B, N, 2)
        generators = [generator] * batch
        probabilities = determinant_probabilities(matrix)  # (B, N)
        clouds = sample_attractor(
            matrix, offset, probabilities, points, sequences=_SEQUENCES, generator=generators
        ).points  # (B, K, L, 2)
        lit = rasterize_points(fitted(clouds, size), size).float().mean(dim=(1, 2))  # (B,)
        kept += [(matrix[i], offset[i]) for i in range(batch) if lit[i] >= density]
        tried += batch
    return torch.stack([m for m, _ in kept[:count]]), torch.stack([o for _, o in kept[:count]])
