"""Images for pre-training: `FractalDataset` against the loops over points of published generators.

One image is drawn: by FractalDB's rules, of a class like FractalDB's, some of whose maps expand; or by the package's
own rules, of a class whose maps contract. The loops below are those of the generators. "python" runs them in Python,
and "numba" compiles them. FractalDB uses the same random numbers for every image. They are drawn before the timing,
but patches are drawn in the measured time.

By FractalDB's rules, each point depends on the previous one. An image therefore takes at least the latency of a product
and two sums, about ten cycles, per point. All other work for a point can be vectorized or overlaps with this latency:
the choice of a map, two divisions, a mask, and a store at a random address.
"""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import fractalops
from fractalops.data.rules.fractaldb import PADDING, picture_seed, published_uniform
from fractalops.ops.draw_masks import draw_masks
from fractalops.systems import System

from .suites import Case

_MARGIN = 0.05  # fraction of the image, by the package's rules
_ALIKE = 0.02  # relative difference in lit pixels between images from different random numbers


def draw_masks_loop(seed: int, masks: Any) -> None:
    """Draw a mask for each point: masks (T,)."""
    random.seed(seed)
    for t in range(masks.shape[0]):
        masks[t] = random.randrange(1, 512)


def fractaldb_loop(table: Any, bounds: Any, uniform: Any, masks: Any, padding: int, image: Any) -> None:
    """Draw an image (H, W) by FractalDB's rules from maps (N, 6) and their cumulative probabilities (N,)."""
    points, maps = masks.shape[0], bounds.shape[0]
    height, width = image.shape
    xs, ys = np.zeros(points), np.zeros(points)
    x, y = 0.0, 0.0
    for t in range(points - 1):
        for n in range(maps):
            if uniform[t] <= bounds[n]:
                x, y = (
                    x * table[n, 0] + y * table[n, 1] + table[n, 4],
                    x * table[n, 2] + y * table[n, 3] + table[n, 5],
                )
                break
        xs[t + 1] = x
        ys[t + 1] = y
    left, bottom = xs.min(), ys.min()
    across, upward = xs.max() - left, ys.max() - bottom
    for t in range(points):
        column = int((xs[t] - left) / across * (width - 2 * padding) + padding)
        row = int((ys[t] - bottom) / upward * (height - 2 * padding) + padding)
        mask = masks[t]
        for i in range(3):
            for j in range(3):
                if row + 1 + i < height and column + 1 + j < width:
                    image[row + 1 + i, column + 1 + j] = 127 * (mask >> (8 - 3 * i - j) & 1)


def own_loop(seed: int, table: Any, bounds: Any, patch: Any, points: int, margin: float, image: Any) -> None:
    """Draw an image (H, W) as the generator fractal-pretraining does, with a patch (K, 2) on every point.

    Both axes have the same scale.
    """
    random.seed(seed)
    maps = bounds.shape[0]
    height, width = image.shape
    xs, ys = np.zeros(points), np.zeros(points)
    x, y = 0.0, 0.0
    for t in range(-20, points):
        number = random.random()
        n = 0
        while n < maps - 1 and number > bounds[n]:
            n += 1
        x, y = (
            x * table[n, 0] + y * table[n, 1] + table[n, 4],
            x * table[n, 2] + y * table[n, 3] + table[n, 5],
        )
        if t >= 0:
            xs[t] = x
            ys[t] = y
    low_x, low_y, high_x, high_y = xs.min(), ys.min(), xs.max(), ys.max()
    scale = (1 - 2 * margin) * min((height - 1) / (high_x - low_x), (width - 1) / (high_y - low_y))
    for t in range(points):
        row = int(np.rint((xs[t] - (low_x + high_x) / 2) * scale + (height - 1) / 2))
        column = int(np.rint((ys[t] - (low_y + high_y) / 2) * scale + (width - 1) / 2))
        for k in range(patch.shape[0]):
            i, j = row + patch[k, 0] - 1, column + patch[k, 1] - 1
            if i >= 0 and i < height and j >= 0 and j < width:
                image[i, j] = 255


def system_of(case: Case, rules: str) -> System:
    """Return the system of a class: like FractalDB's, with two maps that expand, or one whose maps contract."""
    if rules == "own":
        return fractalops.IFS(1, case.maps, generator=torch.Generator().manual_seed(0)).system(0)
    parameters = 0.9 * np.random.default_rng(11).uniform(-1, 1, (case.maps, 6))
    matrix = torch.from_numpy(parameters[:, :4].copy()).view(-1, 2, 2)
    weights = torch.linalg.det(matrix).abs()
    return System(matrix, torch.from_numpy(parameters[:, 4:].copy()), weights / weights.sum())


def dataset(case: Case, rules: str) -> fractalops.FractalDataset:
    """Return a data set of one class. The benchmark draws its first image."""
    return fractalops.FractalDataset(
        [system_of(case, rules)],
        size=case.side,
        rules=cast(Any, rules),
        rendering="patch" if rules == "own" else "patch_gray",
        points=case.points,
        perturbation=0.0,
        dtype=torch.uint8,
    )


@dataclass(frozen=True)
class Loops:
    """The loops for one class, in Python or compiled."""

    case: Case
    backend: str
    rules: str

    def run(self, masks: Tensor | None = None, patch: Tensor | None = None) -> Tensor:
        """Draw an image (H, W), uint8. Masks (T,), or the one patch (3, 3), are drawn at random if they are None."""
        points, seed = self.case.points, 0
        system, image = system_of(self.case, self.rules), np.zeros(self.case.size, np.uint8)
        table = torch.cat((system.matrix.flatten(1), system.offset), 1).double().numpy()  # (N, 6)
        bounds = system.probabilities.double().cumsum(0).numpy()  # (N,)
        if self.rules == "own":
            marks = fractalops.random_patches(1)[0] if patch is None else patch
            compiled(own_loop, self.backend)(seed, table, bounds, marks.argwhere().numpy(), points, _MARGIN, image)
            return torch.from_numpy(image)
        drawn = np.empty(points, np.int16) if masks is None else masks.numpy()
        if masks is None:
            compiled(draw_masks_loop, self.backend)(seed, drawn)
        uniform = published_uniform(points).numpy()
        compiled(fractaldb_loop, self.backend)(table, bounds, uniform, drawn, PADDING, image)
        return torch.from_numpy(image).flip(0)


def drawing(case: Case, backend: str, rules: str) -> Callable[[], Tensor]:
    """Return a function that draws an image (H, W). Raises `MissingExtra` if numba is not installed."""
    if backend == "native":
        data = dataset(case, rules)
        return lambda: data[0][0][0]
    return Loops(case, backend, rules).run


def problem(case: Case, backend: str, rules: str) -> str:
    """Return how the loops disagree with the data set, or an empty string.

    Images by FractalDB's rules must be equal. Images by the package's rules must have about the same number of lit
    pixels.
    """
    if backend == "native":
        return ""
    loops, image = Loops(case, backend, rules), dataset(case, rules)[0][0][0]
    if rules == "fractaldb":
        masks = draw_masks(torch.tensor([picture_seed(0, 0)]), case.points)[0]
        return "" if torch.equal(loops.run(masks=masks), image) else "differs from the data set"
    single = torch.zeros(3, 3, dtype=torch.bool)
    single[1, 1] = True
    data = fractalops.FractalDataset([system_of(case, rules)], size=case.side, points=case.points, perturbation=0.0)
    lit, expected = int(loops.run(patch=single).count_nonzero()), int(data[0][0].count_nonzero())
    return "" if math.isclose(lit, expected, rel_tol=_ALIKE) else f"lights {lit} pixels instead of about {expected}"


@cache
def compiled(loop: Callable[..., None], backend: str) -> Callable[..., None]:
    """Return a loop, compiled unless `backend` is "python". Raises `MissingExtra` if numba is not installed."""
    if backend == "python":
        return loop
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError as error:
        raise fractalops.MissingExtra("pre-training images against numba", "numba", "bench") from error
    fast: Callable[..., None] = numba.njit(loop)
    return fast
