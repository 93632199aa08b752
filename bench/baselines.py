"""The baselines of the benchmarks. They are written from the formulas only.

A chain takes matrix (N, 2, 2), offset (N, 2), index (B, T) and start (B, 2), in pixels, and returns points (B, T, 2). A
rasterizer takes points, size (H, W) and a bandwidth, and returns images (B, H, W). Autograd differentiates them.

- dense: the chain is a Python loop over the steps, with one batched product for all sequences. The rasterizer draws one
  image at a time from the distances of all points from all pixels.
- separable: the chain is a scan of batched products in log2(T) passes. The rasterizer multiplies two tables of
  exponentials with `torch.bmm`.
- numba: the loop over points that draws the data sets of fractal pre-training, compiled. numba is an optional
  dependency: `pip install 'fractalops[bench]'`.
- finufft: the spreader of the library FINUFFT for nonuniform FFTs (Barnett, Magland and af Klinteberg 2019). For each
  point, it adds a bump of its own shape, 7 pixels wide, to a periodic complex image. The same command installs it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fractalops

# points (B, T, 2), patch (B, h, w) or None, mode -> images (B, H, W)
Counter = Callable[[Tensor, "Tensor | None", str], Tensor]


def loop_chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Return points (B, T, D) by one batched product per step."""
    index = index.long()
    matrices = matrix[index].unbind(dim=1)  # T times (B, D, D)
    offsets = offset[index][..., None].unbind(dim=1)  # T times (B, D, 1)
    point = start[..., None]  # (B, D, 1)
    points = []
    for step_matrix, step_offset in zip(matrices, offsets, strict=True):
        point = torch.baddbmm(step_offset, step_matrix, point)
        points.append(point)
    return torch.stack(points, dim=1)[..., 0]


def scan_chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Return points (B, T, D) by a scan: after the pass of length s, entry t composes the maps t - 2s + 1 to t."""
    index = index.long()
    matrices = matrix[index]  # (B, T, D, D)
    offsets = offset[index]  # (B, T, D)
    count = index.shape[1]
    length = 1
    while length < count:
        later, earlier = matrices[:, length:], matrices[:, :-length]
        moved = (later @ offsets[:, :-length, :, None])[..., 0] + offsets[:, length:]
        offsets = torch.cat([offsets[:, :length], moved], dim=1)
        matrices = torch.cat([matrices[:, :length], later @ earlier], dim=1)
        length *= 2
    return (matrices @ start[:, None, :, None])[..., 0] + offsets


def dense_rasterize(points: Tensor, size: tuple[int, int], bandwidth: float) -> Tensor:
    """Return images (B, H, W) of points (B, T, 2), each from a tensor (T, H, W) of distances."""
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)[:, None]  # (H, 1)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)  # (W,)
    images = []
    for cloud in points:  # (T, 2)
        x, y = cloud[:, 0, None, None], cloud[:, 1, None, None]  # (T, 1, 1)
        distance = (x - rows) ** 2 + (y - columns) ** 2  # (T, H, W)
        images.append(torch.exp(-distance / bandwidth).sum(dim=0))
    return torch.stack(images)


def separable_rasterize(points: Tensor, size: tuple[int, int], bandwidth: float) -> Tensor:
    """Return images (B, H, W) of points (B, T, 2) as `X^T Y` with two tables of exponentials."""
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)  # (H,)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)  # (W,)
    row_table = torch.exp(-((points[..., 0, None] - rows) ** 2) / bandwidth)  # (B, T, H)
    column_table = torch.exp(-((points[..., 1, None] - columns) ** 2) / bandwidth)  # (B, T, W)
    return torch.bmm(row_table.mT, column_table)


def count_single(points: Any, images: Any, binary: bool) -> None:
    """Count every point of (B, T, 2) on its nearest pixel of the images (B, H, W)."""
    height, width = images.shape[1:]
    for b in range(points.shape[0]):
        for t in range(points.shape[1]):
            i, j = np.rint(points[b, t, 0]), np.rint(points[b, t, 1])
            if 0 <= i < height and 0 <= j < width:
                pixel = b, np.uint32(i), np.uint32(j)  # unsigned, so that numba doesn't check for negative indices
                if binary:
                    images[pixel] = 1
                else:
                    images[pixel] += 1


def count_stamped(points: Any, patches: Any, images: Any, binary: bool) -> None:
    """Count every point of (B, T, 2) on all pixels of its patch (B, h, w) in the images (B, H, W)."""
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
    """Return `rasterize_points` as the two loops above, which `compiled` compiles."""
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
    """Return the loops, compiled by numba. Raises `MissingExtra` if numba is not installed."""
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError as error:
        raise fractalops.MissingExtra("rasterize_points against numba", "numba", "bench") from error
    return by_loop(size, numba.njit)


def by_finufft(points: Tensor, side: int) -> Callable[[], Tensor]:
    """Return a function that sorts and spreads points (T, 2) and returns one image (H, W), complex.

    It uses as many threads as torch uses now. Raises `MissingExtra` if finufft is not installed.
    """
    try:
        finufft: Any = importlib.import_module("finufft")
    except ImportError as error:
        raise fractalops.MissingExtra("rbf_rasterize against finufft", "finufft", "bench") from error
    angles = ((points / side - 0.5) * (2 * math.pi)).float()  # in [-pi, pi)
    x, y = (each.contiguous().numpy() for each in angles.unbind(1))
    ones = np.ones(len(points), np.complex64)
    plan = finufft.Plan(
        1,
        (side, side),
        1,
        eps=1e-6,
        dtype="complex64",
        nthreads=torch.get_num_threads(),
        spreadinterponly=1,
        upsampfac=2.0,
        showwarn=0,  # no warning if there are more threads than cores
    )

    def run() -> Tensor:
        plan.setpts(x, y)
        return torch.from_numpy(plan.execute(ones))

    return run
