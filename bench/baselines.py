"""The two named baselines of the benchmarks, written from the formulas alone.

Both take matrix (N, 2, 2), offset (N, 2), index (B, T), start (B, 2), size (H, W) and a bandwidth, all in
pixel units already, and return images (B, H, W). Autograd differentiates them.

- `dense`: the chain as a Python loop of small products, one step of all sequences at a time; then one image
  at a time from its full distance tensor.
- `separable`: the chain as a log-depth scan of batched products; then exponential tables and `torch.bmm`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dense(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, size: tuple[int, int], bandwidth: float
) -> Tensor:
    """Images (B, H, W) by the loop and the full distance tensor of each image."""
    return dense_rasterize(loop_chain(matrix, offset, index, start), size, bandwidth)


def separable(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, size: tuple[int, int], bandwidth: float
) -> Tensor:
    """Images (B, H, W) by the scan and the product of two tables."""
    return separable_rasterize(scan_chain(matrix, offset, index, start), size, bandwidth)


def loop_chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Points (B, T, D), one batched product a step."""
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
    """Points (B, T, D) by doubling: after the pass of length s, entry t composes the maps t - 2s + 1 .. t."""
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
    """Images (B, H, W) of points (B, T, 2), each from its distance tensor (T, H, W)."""
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)[:, None]  # (H, 1)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)  # (W,)
    images = []
    for cloud in points:  # (T, 2)
        x, y = cloud[:, 0, None, None], cloud[:, 1, None, None]  # (T, 1, 1)
        distance = (x - rows) ** 2 + (y - columns) ** 2  # (T, H, W)
        images.append(torch.exp(-distance / bandwidth).sum(dim=0))
    return torch.stack(images)


def separable_rasterize(points: Tensor, size: tuple[int, int], bandwidth: float) -> Tensor:
    """Images (B, H, W) of points (B, T, 2) as `X^T Y` with two tables of exponentials."""
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)  # (H,)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)  # (W,)
    row_table = torch.exp(-((points[..., 0, None] - rows) ** 2) / bandwidth)  # (B, T, H)
    column_table = torch.exp(-((points[..., 1, None] - columns) ** 2) / bandwidth)  # (B, T, W)
    return torch.bmm(row_table.mT, column_table)
