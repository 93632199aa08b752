"""The loop over points that draws the data sets of fractal pre-training, compiled by numba; and what it is timed on.

numba is no dependency of the package: `pip install 'fractalops[bench]'`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fractalops

from .cases import Case

# points (B, T, 2), patch (B, h, w) or None, mode -> images (B, H, W)
Counter = Callable[[Tensor, "Tensor | None", str], Tensor]


def clouds(case: Case) -> Tensor:
    """Points (B, T, 2) of as many random systems (Anderson and Farrell 2022), each scaled to fill its image."""
    generator = torch.Generator().manual_seed(0)
    system = fractalops.IFS(case.sequences, case.maps, generator=generator)
    index = system.sample(1, case.points, generator=generator)
    with torch.no_grad():
        cloud = fractalops.affine_chain(*system.concatenated(index))  # (B, T, 2)
    low, high = cloud.amin(1, keepdim=True), cloud.amax(1, keepdim=True)
    return (cloud - low) / (high - low) * (case.side - 1)


def count_single(points: Any, images: Any, binary: bool) -> None:
    """Every point on its nearest pixel: points (B, T, 2), images (B, H, W), written."""
    height, width = images.shape[1:]
    for b in range(points.shape[0]):
        for t in range(points.shape[1]):
            i, j = np.rint(points[b, t, 0]), np.rint(points[b, t, 1])
            if 0 <= i < height and 0 <= j < width:
                pixel = b, np.uint32(i), np.uint32(j)  # unsigned: numba would look for negative indices otherwise
                if binary:
                    images[pixel] = 1
                else:
                    images[pixel] += 1


def count_stamped(points: Any, patches: Any, images: Any, binary: bool) -> None:
    """Every point by all pixels of its patch: points (B, T, 2), patches (B, h, w), images (B, H, W), written."""
    height, width = images.shape[1:]
    top, left = patches.shape[1] // 2, patches.shape[2] // 2
    for b in range(points.shape[0]):
        rows, columns = np.nonzero(patches[b])
        for t in range(points.shape[1]):
            x, y = np.rint(points[b, t, 0]), np.rint(points[b, t, 1])
            for k in range(rows.shape[0]):
                i, j = x + rows[k] - top, y + columns[k] - left
                if 0 <= i < height and 0 <= j < width:
                    pixel = b, np.uint32(i), np.uint32(j)
                    if binary:
                        images[pixel] = 1
                    else:
                        images[pixel] += 1


def by_loop(size: int, compiled: Callable[[Any], Any]) -> Counter:
    """`rasterize_points` by the two loops above, which `compiled` makes fast."""
    single, stamped = compiled(count_single), compiled(count_stamped)

    def run(points: Tensor, patch: Tensor | None, mode: str) -> Tensor:
        binary = mode == "binary"
        images = np.zeros((len(points), size, size), np.uint8 if binary else np.int32)
        if patch is None:
            single(points.numpy(), images, binary)
        else:
            stamped(points.numpy(), patch.numpy(), images, binary)
        return torch.from_numpy(images)

    return run


def by_numba(size: int) -> Counter:
    """The loops compiled by numba. Raises `MissingExtra` where numba is not installed."""
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError as error:
        raise fractalops.MissingExtra("rasterize_points against numba", "numba", "bench") from error
    return by_loop(size, numba.njit)
