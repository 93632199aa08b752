"""A data set of fractal images for pre-training, drawn as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fractalops._checks import check_choice, check_integer, check_item, check_number, check_range, check_size
from fractalops.data.rules.fractal_pretraining import FractalPretrainingRules
from fractalops.data.rules.fractaldb import FractalDBRules
from fractalops.data.rules.one_parameter import OneParameterRules
from fractalops.data.rules.own import OwnRules
from fractalops.data.rules.settings import (
    Background,
    PublishedRendering,
    Rendering,
    Rules,
    Settings,
    SpaceRendering,
)
from fractalops.data.rules.space import SpaceRules
from fractalops.ifs import IFS
from fractalops.systems import System

RuleName = Literal["own", "fractaldb", "fractal-pretraining", "one-parameter"]
RULES = {
    "own": OwnRules,
    "fractaldb": FractalDBRules,
    "fractal-pretraining": FractalPretrainingRules,
    "one-parameter": OneParameterRules,
}
_DTYPES = (torch.float32, torch.uint8)


class FractalDataset(Dataset[tuple[Any, Any]]):
    """Fractal images and their classes: a class is a system, its instances are new sequences and changed parameters.

    For pre-training, as in FractalDB and its successors. Item `i` is instance `i % instances` of class
    `i // instances`: an image (C, H, W), C = 3 where its rendering is in color and 1 elsewhere, or a cloud of points
    (T, 3), and the number of its class. An item depends on the arguments and its number alone, whichever worker draws
    it, in whatever order: `torch.utils.data.DataLoader` may have any number of workers, and its batches are drawn in
    one call of the ops.

    The rules say what an instance is and how it is drawn:

    - "own": 32 sequences side by side from the fixed point of the first map on, new ones for every instance, whose
      parameters are changed at random; images keep the proportions of their attractor. It differs from FractalDB in
      all of that, and in its patches: one an image, all of whose points are added up, is fractal-pretraining's rule.
    - "fractaldb" (Kataoka et al. 2020, "Pre-training without Natural Images"): what the published generator draws,
      equal to the pixel. The same random numbers for every image (`numpy.random.RandomState(100)`), from the origin on,
      each axis stretched, 6 pixels of padding. Instances are 25 rows of factors of one parameter of all maps, times
      patches, a new one for every point, pasted over what is there, times 4 flips, in that order; 1000 a class, and 100
      without patches. Factors are of the parameters a to f of the published files. The published patches are not
      seeded; here those of each picture have a seed. Maps may expand.
    - "fractal-pretraining" (Anderson and Farrell 2022, "Improving Fractal Pre-training"): one map of each instance
      scaled, a window that is moved and zoomed, one patch an image, flips, hues by the number of points, a plasma
      behind, a blur in every second image. The distributions are the published ones but for these: 32 sequences,
      probabilities of at least 0.001, a patch that is never empty, hues that are not rounded to bytes, a plasma on a
      torus, and a blur that repeats the edges. Images are not equal to published ones. A map that expands keeps its
      class's instances from being scaled.
    - "one-parameter" (Nakamura et al. 2024, "Scaling Backwards: Minimal Synthetic Pre-training?"): each class is one
      and the same system with every parameter multiplied by a number in 1 +- perturbation, drawn as FractalDB's images
      are, without flips; one instance a class. Keep `systems`: given as `systems`, they are the same classes again.

    With dimensions=3 fractals are in space, by rules like our own: random systems are PC-FractalDB's (Yamada et al.
    2022, "Point Cloud Pre-training with Natural 3D Structures"; `search_space_classes`). Its instances are mixed with a
    fifth of another class's points; these here have changed parameters.

    Args:
        systems: the classes: an `IFS` of S systems, as from `FitResult.system` or `FitRun.system()`, whose colors are
            not used; several `System`, also by name, as `fractalops.io.read_systems` returns them; or how many random
            ones to draw: contractive ones by Anderson and Farrell's method ("own", "fractal-pretraining"), FractalDB's
            (`search_classes`), or perturbed ones ("one-parameter").
        instances: of each class; None is 1000, 100 for FractalDB's points, and 1 for "one-parameter".
        size: of an image, its side or (height, width) in pixels; FractalDB has 362, 1p-frac 512.
        rules: see above.
        rendering: of our own rules "binary" (the default), each point on its nearest pixel; "patch", a random 3 x 3
            patch on each, another one for every image; "gray", pixels by the number of their points; "color", that with
            a random hue. Of FractalDB and 1p-frac, "patch_gray" (the default), "patch_color", "point_gray" and
            "point_color", the names of the generator. Of fractal-pretraining, "color" (the default) and "gray". In
            space, "points" (the default), the cloud itself in PC-FractalDB's axes, scaled such that all coordinates
            span 2, then moved such that the mean of each is 0; "views", the logarithm of its points as bumps, seen from
            a random direction, the nearer the brighter (`render_points`).
        points: of an image or a cloud; None is 200,000 for FractalDB, 10,000 in space and 100,000 elsewhere. Our own
            rules and fractal-pretraining round them up to a multiple of 32 where there are more.
        maps: of a random system, a number or the least and the largest; None is 4 for our own rules, 2 for 1p-frac, and
            2 to 7 elsewhere.
        perturbation: how far an instance's parameters are from its class's. Of our own rules (None: 0.05): angles are
            turned by it, in radians, times a normal number, matrices shrink by up to that part, offsets move by that
            part of their size. Of FractalDB (0.4): factors are 1 +- it and 1 +- twice it, as in the published weights.
            Of 1p-frac (0.1): the largest change of a factor, Delta. Of fractal-pretraining (0.2): the one map's
            factor lies between 1 less that and 1 plus half of it.
        background: "black", or "random": a smooth random field, of colors for "color". None is random for
            fractal-pretraining and black elsewhere; FractalDB and 1p-frac have no other one.
        density: the least share of pixels that the points of an image light, in [0, 1). Of our own rules (None: 0.2),
            before patches and background: random systems whose instances light less are left out, and such instances of
            the others are drawn anew, up to 100 times. Of FractalDB (0.2), the filling rate of the search; of 1p-frac
            (0.05), what a perturbed system's first picture must pass. Fractal-pretraining has none. Given systems are
            taken as they are; a warning tells of those whose points run away, but for FractalDB's and 1p-frac's rules.
        dimensions: 2 for the plane, 3 for space.
        variance: in space, what the density is in the plane (None: 0.05): above which the variance of a random system's
            cloud lies along each axis.
        base: the one system of 1p-frac; None draws it.
        dtype: of the images: float32 with values in [0, 1], or uint8, in [0, 255], a fourth of the bytes for workers to
            hand over.
        seed: of everything that is drawn.
        names: of the classes, one for each, all different, such as those of the pictures that given systems were
            learned for; None are those of the given `System`s where all have different ones, and otherwise numbers,
            "0000" and so on.
        transform: a function that takes an image (C, H, W) and returns what an item holds instead, as data sets of
            torchvision have it.
        target_transform: the same for the number of a class.

    Attributes:
        matrix, offset, probabilities: the same in one tensor each, (S, N, D, D), (S, N, D) and (S, N); those of fewer
            maps than others have maps of probability 0 at the end.
        classes: the names (S).
        class_to_idx: the number of each name's class, as data sets of torchvision have it.

    Raises:
        ValueError, TypeError: for an argument out of its range or of another type, for given systems that are not
            finite, for a density that so many points can't reach at that size, and where hardly any random system does.
    """

    def __init__(
        self,
        systems: int | IFS | Sequence[System] | Mapping[str, System] = 1000,
        instances: int | None = None,
        size: int | tuple[int, int] = 224,
        *,
        rules: RuleName = "own",
        dimensions: Literal[2, 3] = 2,
        rendering: Rendering | PublishedRendering | SpaceRendering | None = None,
        points: int | None = None,
        maps: int | tuple[int, int] | None = None,
        perturbation: float | None = None,
        background: Background | None = None,
        density: float | None = None,
        variance: float | None = None,
        base: System | None = None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        names: Sequence[str] | None = None,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        check_choice("FractalDataset", "rules", rules, tuple(RULES))
        if dimensions not in (2, 3):
            raise ValueError(f"FractalDataset: dimensions must be 2 or 3, got {dimensions!r}")
        if dimensions == 3 and rules != "own":
            raise ValueError(f"FractalDataset: rules must be 'own' in space, got {rules!r}")
        kind: Any = SpaceRules if dimensions == 3 else RULES[rules]
        given = {
            "rendering": rendering,
            "points": points,
            "perturbation": perturbation,
            "background": background,
            "density": density,
            "variance": variance,
        }
        chosen: dict[str, Any] = {
            name: getattr(kind.defaults, name) if value is None else value for name, value in given.items()
        }
        if instances is not None:
            instances = check_integer("FractalDataset", "instances", instances, 1)
        chosen["points"] = check_integer("FractalDataset", "points", chosen["points"], 1)
        seed = check_integer("FractalDataset", "seed", seed, 0)
        check_choice("FractalDataset", "rendering", chosen["rendering"], kind.renderings)
        check_choice("FractalDataset", "background", chosen["background"], kind.backgrounds)
        check_number("FractalDataset", "perturbation", chosen["perturbation"], least=0, below=1)
        for name in ("density", "variance"):
            if getattr(kind.defaults, name) is not None:
                check_number("FractalDataset", name, chosen[name], least=0, below=1)
            elif chosen.pop(name) is not None:
                raise ValueError(f"FractalDataset: {name} must be left out by these rules, got {given[name]!r}")
        if dtype not in _DTYPES:
            raise TypeError(f"FractalDataset: dtype must be torch.float32 or torch.uint8, got {dtype}")
        if dtype != torch.float32 and chosen["rendering"] == "points":
            raise TypeError(f"FractalDataset: dtype must be torch.float32 for points, got {dtype}")
        bounds = check_range("FractalDataset", "maps", kind.defaults.maps if maps is None else maps)
        if isinstance(systems, Mapping):
            systems = list(systems.values())
        if not isinstance(systems, IFS | Sequence):
            systems = check_integer("FractalDataset", "systems", systems, 1)
        if base is not None and not (rules == "one-parameter" and isinstance(systems, int)):
            raise ValueError(
                "FractalDataset: base must be left out, unless rules is 'one-parameter' and systems a number"
            )
        self.size, self.rendering, self.rules, self.dtype = (
            check_size("FractalDataset", size),
            chosen["rendering"],
            rules,
            dtype,
        )
        self.points = chosen["points"]
        self.transform, self.target_transform = transform, target_transform
        settings = Settings(instances, self.size, maps=bounds, seed=seed, base=base, **chosen)
        with torch.autocast("cpu", enabled=False):
            self._rules: Rules = kind(systems, settings)
        self.instances: int = self._rules.instances
        self.matrix, self.offset, self.probabilities = self._rules.stack
        self.classes = list(_given_names(systems) if names is None else names)
        self.classes = self.classes or [f"{number:04}" for number in range(self.num_classes)]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        if not len(self.classes) == len(self.class_to_idx) == self.num_classes:
            raise ValueError(
                f"FractalDataset: names must be {self.num_classes} different ones, got {len(self.class_to_idx)} "
                f"different ones of {len(self.classes)}"
            )

    @cached_property
    def systems(self) -> list[System]:
        """The systems of the classes (S), with their names, before an instance changes them."""
        unnamed = self._rules.stack.systems()
        return [replace(system, name=name) for system, name in zip(unnamed, self.classes, strict=True)]

    @property
    def num_classes(self) -> int:
        """S, the number of systems."""
        return len(self.matrix)

    @cached_property
    def targets(self) -> list[int]:
        """The number of each item's class, before `target_transform`."""
        return [item // self.instances for item in range(len(self))]

    def __repr__(self) -> str:
        channels = 3 if self.rendering.endswith("color") else 1
        shape = (self.points, 3) if self.rendering == "points" else (channels, *self.size)
        lines = [
            "Dataset FractalDataset",
            f"    Number of datapoints: {len(self)}",
            f"    Classes: {self.num_classes} of {self.instances} instances",
            f"    Items: {self.rules}, {self.rendering}, {shape}, {self.dtype}",
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
        """Return many items at once, which a `DataLoader` asks for."""
        items = [check_item("FractalDataset", item, len(self)) for item in items]
        with torch.autocast("cpu", enabled=False):
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
            return image.clone()  # an item that is kept must not keep its whole batch
        return image.mul(255).round().byte() if self.dtype == torch.uint8 else image.float() / 255


def _given_names(systems: int | IFS | Sequence[System]) -> list[str]:
    """Return the names of given systems, or none where some have none or the same."""
    names = [system.name for system in systems] if isinstance(systems, Sequence) else []
    return names if all(names) and len(set(names)) == len(names) else []
