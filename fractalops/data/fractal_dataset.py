"""A data set of fractal images for pre-training, drawn as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fractalops._checks import check_choice, check_integer, check_item, check_number, check_range, check_size
from fractalops.data.rules.own import OwnRules
from fractalops.data.rules.settings import Rules, Settings
from fractalops.data.rules.space import SpaceRules
from fractalops.ifs import IFS
from fractalops.systems import System

Rendering = Literal["binary", "patch", "gray", "color"]
SpaceRendering = Literal["points", "views"]
Background = Literal["black", "random"]
RENDERINGS: tuple[Rendering, ...] = get_args(Rendering)
_DTYPES = (torch.float32, torch.uint8)


class FractalDataset(Dataset[tuple[Any, Any]]):
    """Fractal images and their classes: a class is a system, its instances are new sequences and changed parameters.

    As in FractalDB (Kataoka et al. 2020, "Pre-training without Natural Images") and its successors. Item `i` is
    instance `i % instances` of class `i // instances`: an image (C, H, W), C = 1, or 3 for "color", or a cloud of
    points (T, 3), and the number of its class. An item depends on the arguments and its number alone, whichever worker
    draws it, in whatever order: `torch.utils.data.DataLoader` may have any number of workers, and its batches are drawn
    in one call of the ops.

    Args:
        systems: the classes: an `IFS` of S systems, as from `FitResult.system` or `FitRun.system()`, whose colors are
            not used, or how many random ones to draw (Anderson and Farrell 2022).
        instances: of each class.
        size: of an image, its side or (height, width) in pixels.
        rendering: "binary", each point on its nearest pixel; "patch", a random 3 x 3 patch on each, another one for
            every image, as in FractalDB; "gray", pixels by the number of their points; "color", that with a random
            hue. In space, see `dimensions`: "points", the cloud itself, of which all coordinates span 2 and the mean is
            0; "views", the logarithm of the points as bumps, seen from a random direction, the nearer the brighter
            (`render_points`). None is "binary", or "points".
        points: of a cloud, and of an image, there rounded up to a multiple of 32 where there are more.
        maps: of a random system, a number or the least and the largest.
        perturbation: how far an instance's parameters are from its class's: angles are turned by it, in radians, times
            a normal number, matrices shrink by up to that part, offsets move by that part of their size.
        background: "black", or "random": a smooth random field, of colors for "color".
        density: the least share of pixels that the points of an image light, before patches and background, in [0, 1):
            FractalDB's filling rate. Random systems whose instances light less are left out, and so are such instances
            of the others. Given systems are taken as they are.
        variance: the same in space: above which the variance of a cloud along each axis lies, as that of PC-FractalDB's
            classes does.
        dimensions: 2, or 3 for systems in space. Random ones are then PC-FractalDB's (`search_space_classes`; Yamada et
            al. 2022, "Point Cloud Pre-training with Natural 3D Structures"), whose instances are mixed with a fifth of
            another class's points; these here have changed parameters.
        dtype: of the images: float32 with values in [0, 1], or uint8, in [0, 255], a fourth of the bytes for workers to
            hand over.
        seed: of everything that is drawn.
        names: of the classes, one for each, all different, such as those of the pictures that given systems were
            learned for; None are numbers, "0000" and so on.
        transform: a function that takes an image (C, H, W) and returns what an item holds instead, as data sets of
            torchvision have it.
        target_transform: the same for the number of a class.

    Attributes:
        systems: the systems of the classes (S), before an instance changes them.
        matrix, offset, probabilities: the same in one tensor each, (S, N, 2, 2), (S, N, 2) and (S, N); those of fewer
            maps than others have maps of probability 0 at the end.
        classes: the names (S).
        class_to_idx: the number of each name's class, as data sets of torchvision have it.

    Raises:
        ValueError, TypeError: for an argument out of its range or of another type, for given systems that are not
            finite, for a density that so many points can't reach at that size, and where hardly any random system does.
    """

    def __init__(
        self,
        systems: int | IFS | Sequence[System] = 1000,
        instances: int = 1000,
        size: int | tuple[int, int] = 224,
        *,
        rendering: Rendering | SpaceRendering | None = None,
        points: int = 100_000,
        maps: int | tuple[int, int] = 4,
        perturbation: float = 0.05,
        background: Background = "black",
        density: float = 0.2,
        variance: float = 0.05,
        dimensions: Literal[2, 3] = 2,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        names: Sequence[str] | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        for name, value in (("instances", instances), ("points", points)):
            check_integer("FractalDataset", name, value, 1)
        check_integer("FractalDataset", "seed", seed, 0)
        if dimensions not in (2, 3):
            raise ValueError(f"FractalDataset: dimensions must be 2 or 3, got {dimensions!r}")
        choices = RENDERINGS if dimensions == 2 else get_args(SpaceRendering)
        rendering = choices[0] if rendering is None else rendering
        check_choice("FractalDataset", "rendering", rendering, choices)
        check_choice("FractalDataset", "background", background, get_args(Background))
        check_number("FractalDataset", "perturbation", perturbation, least=0, below=1)
        check_number("FractalDataset", "density", density, least=0, below=1)
        check_number("FractalDataset", "variance", variance, least=0, below=1)
        if dimensions == 3 and background != "black":
            raise ValueError(f"FractalDataset: background must be 'black' in space, got {background!r}")
        if dtype not in _DTYPES:
            raise TypeError(f"FractalDataset: dtype must be torch.float32 or torch.uint8, got {dtype}")
        if dtype != torch.float32 and rendering == "points":
            raise TypeError(f"FractalDataset: dtype must be torch.float32 for points, got {dtype}")
        height, width = check_size("FractalDataset", size)
        bounds = check_range("FractalDataset", "maps", maps)
        if not isinstance(systems, IFS | Sequence):
            check_integer("FractalDataset", "systems", systems, 1)
        self.instances, self.points, self.size = instances, points, (height, width)
        self.rendering, self.dtype = rendering, dtype
        settings = Settings(
            instances, self.size, rendering, points, bounds, perturbation, background, density, variance, seed
        )
        self.transform, self.target_transform = transform, target_transform
        self._rules: Rules
        if dimensions == 3:
            self._rules = SpaceRules(systems, settings)
        else:
            self._rules = OwnRules(systems, settings)
        self.matrix, self.offset, self.probabilities = self._rules.stack
        self.systems = self._rules.stack.systems()

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
        return len(self.systems)

    @property
    def targets(self) -> list[int]:
        """The number of each item's class, before `target_transform`."""
        return [item // self.instances for item in range(len(self))]

    def __repr__(self) -> str:
        shape = (3 if self.rendering == "color" else 1, *self.size) if self.rendering != "points" else (self.points, 3)
        lines = [
            "Dataset FractalDataset",
            f"    Number of datapoints: {len(self)}",
            f"    Classes: {self.num_classes} of {self.instances} instances",
            f"    Items: {self.rendering}, {shape}, {self.dtype}",
        ]
        for name, function in (("Transform", self.transform), ("Target transform", self.target_transform)):
            if function is not None:
                lines.append(f"    {name}: {function!r}")
        return "\n".join(lines)

    def __len__(self) -> int:
        return self.num_classes * self.instances

    def __getitem__(self, item: int) -> tuple[Any, Any]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[Any, Any]]:
        """Many items at once, which a `DataLoader` asks for."""
        items = [check_item("FractalDataset", item, len(self)) for item in items]
        images = self._rules.draw(items)  # each (C, H, W)
        return [self._transformed(self._converted(image), item) for image, item in zip(images, items, strict=True)]

    def _transformed(self, image: Tensor, item: int) -> tuple[Any, Any]:
        label = item // self.instances
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def _converted(self, image: Tensor) -> Tensor:
        if image.dtype == self.dtype:
            return image
        return image.mul(255).round().byte() if self.dtype == torch.uint8 else image.float() / 255
