"""A data set of fractal images for pre-training. Each image is drawn when it is read."""

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
    """Fractal images with class labels for pre-training, as in FractalDB and its successors.

    Each class is one iterated function system (IFS). Its instances are images of the system that differ in their random
    numbers and parameters. `FractalDataset(10)` draws images of 10 random systems.

    With S classes, the data set has `S * instances` items. Item `i` is the pair `(image, label)` of class
    `label = i // instances` and instance `i % instances`. The image is a tensor (C, H, W) with C = 3 for renderings in
    color and C = 1 for others, or a point cloud (T, 3).

    An item depends only on the arguments and on its index. It does not depend on the order of reading or on the worker
    process, so a `torch.utils.data.DataLoader` may use any number of workers. All images of a batch are drawn together.

    `rules` chooses how classes and instances are drawn:

    - "own": the rules of this package. Each instance has new index sequences and randomly changed parameters. The
      points come from 32 chains that start at the fixed point of the first map. The image keeps the aspect ratio of the
      attractor. With `rendering="patch"`, one random patch is drawn at all points of an image, as in
      "fractal-pretraining".
    - "fractaldb" (Kataoka et al. 2020, "Pre-training without Natural Images"): images equal those of the published
      generator in every pixel. The published patches are not seeded; here the patches of each picture have a seed. All
      images use the same random numbers (`numpy.random.RandomState(100)`). The chain starts at the origin. Each axis is
      stretched to the image, with 6 pixels of padding. A new patch is drawn for each point and replaces the
      pixels below it. The instances of a class are 25 factor rows x patches x 4 flips, in this order, where flips vary
      fastest: 1000 with 10 sets of patches, and 100 without patches. Each factor row multiplies one of the parameters a
      to f of the published files in all maps, or none. Maps may expand.
    - "fractal-pretraining" (Anderson and Farrell 2022, "Improving Fractal Pre-training"): in each instance one map is
      scaled, and a window is moved and zoomed. One patch is drawn at all points of an image. The image is flipped at
      random. Hues follow the number of points, the background is a plasma, and every second image on average is
      blurred. The distributions are the published ones, with these differences: 32 chains, probabilities of at least
      0.001, patches that are never empty, hues that are not rounded to bytes, a plasma on a torus, and a blur that
      repeats the edges. So images are not equal to published ones. An instance is not scaled if a map still expands
      after 4 tries.
    - "one-parameter" (Nakamura et al. 2024, "Scaling Backwards: Minimal Synthetic Pre-training?", 1p-frac): all classes
      are perturbations of one base system. Every parameter is multiplied by a factor in
      [1 - perturbation, 1 + perturbation]. Images are drawn as by "fractaldb", without flips. Further instances differ
      in their patches only. To get the same classes again, pass the attribute `systems` of this data set as the
      argument `systems`.

    With `dimensions=3` the systems are in space and `rules` must be "own". Random systems are those of PC-FractalDB
    (Yamada et al. 2022, "Point Cloud Pre-training with Natural 3D Structures"), see `search_space_classes`. Instances
    have changed parameters, while those of PC-FractalDB replace a fifth of the points by points of another class.

    Args:
        systems: the classes. Either an `IFS` with S systems (such as `FitResult.system` or `FitRun.system()`; its
            colors are not used), a sequence or a mapping of `System` (such as `fractalops.io.read_systems` returns), or
            the number of random systems to draw. Random systems contract and follow Anderson and Farrell ("own",
            "fractal-pretraining"), are found by `search_classes` ("fractaldb"), or perturb one system
            ("one-parameter"). Default: 1000.
        instances: the number of instances of each class. With "fractaldb" it must be a multiple of 100 if `rendering`
            has patches, and 100 otherwise. Default: None, which means 1000, but 100 for "fractaldb" without patches and
            1 for "one-parameter".
        size: the side of the images, or (height, width), in pixels. FractalDB uses 362 and 1p-frac 512. Default: 224.
        rules: "own", "fractaldb", "fractal-pretraining" or "one-parameter", see above. Default: "own".
        dimensions: 2 for systems in the plane, 3 for systems in space. Default: 2.
        rendering: the kind of image. None chooses the first value of each list.

            - "own": "binary" lights the nearest pixel of each point; "patch" draws a random 3 x 3 patch at each point,
              a different one in each image; "gray" shows the logarithm of the number of points on each pixel; "color"
              is "gray" in a random hue.
            - "fractaldb" and "one-parameter": "patch_gray", "patch_color", "point_gray" or "point_color", as in the
              published generator.
            - "fractal-pretraining": "color" or "gray".
            - `dimensions=3`: "points" returns the point cloud (T, 3) in PC-FractalDB's axes, scaled as in
              `search_space_classes`; "views" draws the points as bumps from a random direction (`render_points`), with
              nearer points brighter, and takes the logarithm.
        points: the number of points of an image or a point cloud. If it is above 32, "own" in the plane and
            "fractal-pretraining" round it up to a multiple of 32. Default: None, which means 200,000 for "fractaldb",
            10,000 for `dimensions=3`, and 100,000 otherwise.
        maps: the number of maps of a random system, or a pair of the least and the largest number. "one-parameter" uses
            the least number. Default: None, which means 4 for "own" in the plane, 2 for "one-parameter", and (2, 7)
            otherwise.
        perturbation: the strength p of the changes of parameters, in [0, 1). Default: None, which means the value in
            parentheses.

            - "own" (0.05): rotates each map by p radians times a normal number, multiplies its matrix by a factor in
              (1 - p, 1], and moves its offset by p times a normal vector times the root mean square of the offsets.
            - "fractaldb" (0.4): the factors are 1 - 2p, 1 - p, 1 + p and 1 + 2p, but at least 0.01, as in the
              published weights.
            - "fractal-pretraining" (0.2): the factor of the scaled map is in [1 - p, 1 + p / 2).
            - "one-parameter" (0.1): p is the Delta of the paper: the factors are in [1 - p, 1 + p].
        background: "black", or "random" for a smooth random field ("own", "fractal-pretraining"), in color if the image
            is in color. With "fractal-pretraining", only "color" images have it. Default: None, which means "random"
            for "fractal-pretraining" and "black" otherwise.
        density: the least share of pixels that the points of an image light, for random systems only, in [0, 1).
            Default: None, which means the value in parentheses.

            - "own" (0.2), counted before patches and background: systems with sparser instances are rejected. A sparse
              instance of an accepted system is drawn again, up to 100 times.
            - "fractaldb" (0.2): the filling rate of `search_classes`.
            - "one-parameter" (0.05): the share that the first image of each perturbed system must exceed.
            - "fractal-pretraining" and `dimensions=3`: not available.
        variance: with `dimensions=3`, the variance that the points of random systems and of their instances must exceed
            along each axis, in [0, 1). Default: None, which means 0.05.
        base: the base system of "one-parameter" if `systems` is a number. Default: None, which draws it.
        dtype: the dtype of images: `torch.float32` with values in [0, 1], or `torch.uint8` with values in [0, 255],
            which takes a quarter of the memory. Point clouds are float32. Default: `torch.float32`.
        seed: the seed of all random numbers, at least 0. Default: 0.
        names: the names of the classes, S different ones. Default: None, which takes the names of the given `System`
            objects if all have different ones, and "0000", "0001" and so on otherwise.
        transform: a function that takes an image and returns the first part of the item. Default: None.
        target_transform: a function that takes a label and returns the second part of the item. Default: None.

    Attributes:
        systems (list): the S systems of the classes, as `System` with names, before an instance changes them.
        matrix (Tensor): the matrices of all systems, (S, N, D, D), where N is the largest number of maps. Systems with
            fewer maps have maps with probability 0 at the end. Float64 for "fractaldb" and "one-parameter", else
            float32.
        offset (Tensor): the offsets of all systems, (S, N, D), in the same dtype.
        probabilities (Tensor): the probabilities of all maps, (S, N), in the same dtype.
        num_classes (int): S, the number of classes.
        instances (int): the number of instances of each class.
        classes (list): the names of the classes, S strings.
        class_to_idx (dict): a dict from the name of a class to its label.
        targets (list): the label of each item, `S * instances` integers, before `target_transform`.
        size (tuple): (height, width) of the images in pixels.
        rules (str): the name of the rules.
        rendering (str): the kind of image.
        points (int): the number of points of an image or a point cloud.
        dtype (torch.dtype): the dtype of images.
        transform (Callable or None): the function that changes images.
        target_transform (Callable or None): the function that changes labels.

    Raises:
        TypeError: if an argument has a wrong type.
        ValueError: if an argument is out of its range or not available with `rules`, if given systems are not finite or
            not on the CPU, if `points` points cannot reach `density` at this size, or if random systems hardly ever
            reach `density` or `variance`.

    Note:
        Given systems are used even if they are sparse. A warning reports systems whose points diverge, except with
        "fractaldb" and "one-parameter".

    Examples:
        >>> import fractalops
        >>> from torch.utils.data import DataLoader
        >>> data = fractalops.FractalDataset(3, instances=4, size=32, points=2000)
        >>> image, label = data[5]
        >>> image.shape, label
        (torch.Size([1, 32, 32]), 1)
        >>> images, labels = next(iter(DataLoader(data, batch_size=6)))
        >>> images.shape, labels
        (torch.Size([6, 1, 32, 32]), tensor([0, 0, 0, 0, 1, 1]))
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
                raise ValueError(f"FractalDataset: {name} must be None with these rules, got {given[name]!r}")
        if dtype not in _DTYPES:
            raise TypeError(f"FractalDataset: dtype must be torch.float32 or torch.uint8, got {dtype}")
        if dtype != torch.float32 and chosen["rendering"] == "points":
            raise TypeError(f"FractalDataset: dtype must be torch.float32 for point clouds, got {dtype}")
        bounds = check_range("FractalDataset", "maps", kind.defaults.maps if maps is None else maps)
        if isinstance(systems, Mapping):
            systems = list(systems.values())
        if not isinstance(systems, IFS | Sequence):
            systems = check_integer("FractalDataset", "systems", systems, 1)
        if base is not None and not (rules == "one-parameter" and isinstance(systems, int)):
            raise ValueError(
                "FractalDataset: base must be None unless rules is 'one-parameter' and systems is a number, got one"
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
                f"FractalDataset: names must be {self.num_classes} different names, got {len(self.classes)} names, "
                f"{len(self.class_to_idx)} of them different"
            )

    @cached_property
    def systems(self) -> list[System]:
        """The S systems of the classes with their names, before an instance changes them."""
        unnamed = self._rules.stack.systems()
        return [replace(system, name=name) for system, name in zip(unnamed, self.classes, strict=True)]

    @property
    def num_classes(self) -> int:
        """The number S of classes."""
        return len(self.matrix)

    @cached_property
    def targets(self) -> list[int]:
        """The label of each item, before `target_transform`."""
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
        """Return the number of items, `num_classes * instances`."""
        return self.num_classes * self.instances

    def __getitem__(self, item: int) -> tuple[Any, Any]:
        """Return the pair (image, label) at an index. Negative indices count from the end."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return several items. `DataLoader` calls this method for each batch.

        Args:
            items: the indices of the items; negative ones count from the end.

        Returns:
            A list of pairs (image, label), see the class.

        Raises:
            IndexError: if an index is out of range.
            TypeError: if an index is not an integer.
        """
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
            return image.clone()  # else a kept item would keep the memory of its whole batch
        return image.mul(255).round().byte() if self.dtype == torch.uint8 else image.float() / 255


def _given_names(systems: int | IFS | Sequence[System]) -> list[str]:
    """Return the names of given systems. Return no names if a system has none or two systems have the same."""
    names = [system.name for system in systems] if isinstance(systems, Sequence) else []
    return names if all(names) and len(set(names)) == len(names) else []
