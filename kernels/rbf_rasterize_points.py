"""Points of the Triton kernels of `rbf_rasterize`: their loads, their windows, and the sort by cell."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fractalops.kernels.launch import launch
from fractalops.kernels.rbf_rasterize_plan import CELL
from fractalops.kernels.rounding import round_to_even


@triton.jit
def window_radius(bandwidth, reach):
    """Return the window's radius in pixels: ceil(sqrt(tau reach) - 1/2), at least 0, computed in float64 as on the CPU.

    `reach` is -ln(cutoff), which is infinite without a cutoff.
    """
    return tl.maximum(tl.ceil(tl.sqrt(bandwidth.to(tl.float64) * reach) - 0.5), 0.0).to(bandwidth.dtype)


@triton.jit
def load_points(points, inside, number, radius, top, bottom, left, right):
    """Return x, y, their rounded centers, and whether each point is finite and reaches a pixel of the rectangle.

    The rectangle has the pixels [top, bottom] x [left, right]. All results have the shape of `number`.
    """
    x = tl.load(points + 2 * number, mask=inside, other=float("nan"))
    y = tl.load(points + 2 * number + 1, mask=inside, other=float("nan"))
    row, column = round_to_even(x), round_to_even(y)
    reaches = (tl.abs(x) < float("inf")) & (tl.abs(y) < float("inf"))
    reaches &= (row >= top - radius) & (row <= bottom + radius)
    reaches &= (column >= left - radius) & (column <= right + radius)
    return x, y, row, column, reaches


@triton.jit
def rbf_rasterize_cells_kernel(
    points,  # (B, T, 2)
    bandwidth,  # (B,)
    cell,  # (B * T,) the cell of each point's center, numbered over all images; `cells` if it reaches no pixel
    reach: tl.float64,
    count,  # B * T
    length,
    height,
    width,
    cells,  # the number of cells of all images
    POINTS: tl.constexpr,
    CELL: tl.constexpr,
):
    """Find the cell of each point. A program owns POINTS points.

    A center outside the image belongs to the nearest cell.
    """
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = point < count
    b = point // length
    tau = tl.load(bandwidth + b, mask=inside, other=1.0)
    radius, bottom, right = window_radius(tau, reach), tl.cast(height - 1, tau.dtype), tl.cast(width - 1, tau.dtype)
    _, _, row, column, reaches = load_points(points, inside, point, radius, 0.0, bottom, 0.0, right)
    i = tl.minimum(tl.maximum(tl.where(reaches, row, 0.0), 0.0), bottom).to(tl.int64)
    j = tl.minimum(tl.maximum(tl.where(reaches, column, 0.0), 0.0), right).to(tl.int64)
    number = (b * tl.cdiv(height, CELL) + i // CELL) * tl.cdiv(width, CELL) + j // CELL
    tl.store(cell + point, tl.where(reaches, number, cells), mask=inside)


def minus_log(cutoff: float) -> float:
    """Return -ln(cutoff), which is infinite if the cutoff is 0."""
    return -math.log(cutoff) if cutoff > 0 else math.inf


def sort_by_cell(points: Tensor, bandwidth: Tensor, height: int, width: int, cutoff: float) -> tuple[Tensor, Tensor]:
    """Sort the points of all images by cell.

    `points` has the shape (B, T, 2) and `bandwidth` (B,). The shapes of the results do not depend on their values.

    Returns:
        The points' numbers in the order of their cells, shape (B * T,), and for each cell the index of its first
        number, shape (cells + 1,).
    """
    images, length, _ = points.shape
    cells = images * triton.cdiv(height, CELL) * triton.cdiv(width, CELL)
    kind = torch.int32 if cells < 2**31 - 1 else torch.int64
    cell = points.new_empty(images * length, dtype=kind)
    block = 1024
    launch(
        rbf_rasterize_cells_kernel, triton.cdiv(images * length, block), 4, points, bandwidth, cell, minus_log(cutoff),
        images * length, length, height, width, cells, POINTS=block, CELL=CELL,
    )  # fmt: skip
    # A stable sort keeps the order of the points of a cell, and so the order of the sums.
    cell, order = cell.sort(stable=True)
    starts = torch.searchsorted(cell, torch.arange(cells + 1, dtype=kind, device=points.device), out_int32=True)
    return order, starts
