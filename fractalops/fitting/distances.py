"""Distances between clouds of points, computed in blocks, so that no matrix of all pairs exists; with gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fractalops._checks import check_floating, check_number, check_precision, check_tensor, shape_error

_PAIRS = 2**20  # distances that exist at a time: some megabytes, which stay in the cache


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _PAIRS // max(columns, 1))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _squared(points: Tensor, target: Tensor) -> Tensor:
    """Return squared distances of all pairs: (M, D) and (P, D) -> (M, P).

    From the differences: the usual |x|^2 + |y|^2 - 2 x y is faster by a little and wrong for points that are near.
    """
    total = points.new_zeros(len(points), len(target))
    for x, y in zip(points.unbind(1), target.unbind(1), strict=True):
        difference = x[:, None] - y
        total.addcmul_(difference, difference)
    return total


def _kernel_sums(points: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return sums over j of `k(x_i, y_j)` (M,), and their gradients (M, D) to x_i."""
    value = points.new_empty(len(points))
    slope = torch.empty_like(points)
    columns = torch.cat((target, torch.ones_like(target[:, :1])), 1)  # (P, D + 1)
    for rows in _blocks(len(points), len(target)):
        kernel = _squared(points[rows], target).add_(scale**2).rsqrt_().mul_(scale)  # (R, P)
        value[rows] = kernel.sum(1)
        # The derivative of k to x_i is (y_j - x_i) k^3 / scale^2: their sum as one product.
        sums = kernel.pow_(3) @ columns  # (R, D + 1)
        slope[rows] = (sums[:, :-1] - points[rows] * sums[:, -1:]) / scale**2
    return value, slope


class _KernelDistance(torch.autograd.Function):
    """The part of `kernel_distance` that depends on the points; its gradient is found on the way."""

    @staticmethod
    def forward(points: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        across, across_slope = _kernel_sums(points, target, scale)  # (M,), (M, D)
        within, within_slope = _kernel_sums(points, points, scale)
        pairs = len(points) * max(len(points) - 1, 1)
        crossing = len(points) * len(target)
        distance = (within - 1).sum() / pairs - 2 * across.sum() / crossing  # a point's kernel with itself is 1
        return distance, 2 * (within_slope / pairs - across_slope / crossing)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


def kernel_distance(
    points: Tensor, target: Tensor, *, scale: float = 0.05, spread: Tensor | float | None = None
) -> Tensor:
    """Return the squared maximum mean discrepancy of two clouds (Gretton et al. 2012, equation 3), unbiased.

    `E k(x, x') + E k(y, y') - 2 E k(x, y)`, the means over pairs of different points, with the inverse multiquadric
    `k(x, y) = scale / sqrt(scale^2 + |x - y|^2)`: sharp near 0, so that details count, with a long tail, so that parts
    that lie far apart attract each other. 0 on the average for clouds of one distribution only; it may be below 0.

    Args:
        points: (M, D); float32 or float64.
        target: (P, D), through which no gradient flows.
        scale: above 0, the distance up to which the kernel is about 1, in the units of the points.
        spread: `E k(y, y')`, where it is known: see `mean_kernel`.

    Returns:
        distance (), differentiable once, in the points.

    Raises:
        ValueError, TypeError: for a wrong shape, dtype, type or range.
    """
    _check("kernel_distance", points, target)
    check_number("kernel_distance", "scale", scale, above=0)
    distance: Tensor = _KernelDistance.apply(points, target.detach(), float(scale))[0]
    return distance + (mean_kernel(target, scale) if spread is None else spread)


@torch.no_grad()
def mean_kernel(points: Tensor, scale: float = 0.05) -> Tensor:
    """Return the mean kernel () of two different points of (P, D), as in `kernel_distance`; 0 for a single point."""
    _check("mean_kernel", points, points)
    pairs = len(points) * max(len(points) - 1, 1)
    return (_kernel_sums(points, points, scale)[0] - 1).sum() / pairs


def chamfer_distance(points: Tensor, target: Tensor) -> Tensor:
    """Return the symmetric Chamfer distance: the mean distance to the nearest point, averaged over both directions.

    points (M, D), target (P, D); float32 or float64 -> (), in the units of the points; differentiable in both, with
    gradient 0 between points that coincide. Raises `ValueError` and `TypeError`.
    """
    _check("chamfer_distance", points, target)
    near_points, near_target = nearest(points, target)  # (M,), (P,)
    there = _distance(points, target[near_points])  # (M,)
    back = _distance(points[near_target], target)  # (P,)
    return (there.mean() + back.mean()) / 2


@torch.no_grad()
def nearest(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return each point's nearest in the other cloud: (M, D), (P, D) -> indices (M,) into target, (P,) into points."""
    to_target = torch.empty(len(points), dtype=torch.int64, device=points.device)
    to_points = torch.zeros(len(target), dtype=torch.int64, device=points.device)
    least = target.new_full((len(target),), math.inf)
    for rows in _blocks(len(points), len(target)):
        squared = _squared(points[rows], target)  # (R, P)
        to_target[rows] = squared.argmin(1)
        lowest, row = squared.min(0)  # (P,), (P,)
        nearer = lowest < least
        least = torch.where(nearer, lowest, least)
        to_points = torch.where(nearer, row + rows.start, to_points)
    return to_target, to_points


def _distance(points: Tensor, target: Tensor) -> Tensor:
    """Return distances of points (P, D) to their partners (P, D): (P,), with gradient 0 where it is 0."""
    squared = (points - target).square().sum(1)
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def _check(function: str, points: Tensor, target: Tensor) -> None:
    check_tensor(function, points=points, target=target)
    check_precision(function, "points", points)
    check_floating(function, points=points, target=target)
    if points.dim() != 2 or 0 in points.shape:
        raise shape_error(function, "points", "(M, D) with M, D >= 1", points)
    if target.dim() != 2 or target.shape[1] != points.shape[1] or len(target) == 0:
        raise shape_error(function, "target", f"(P, {points.shape[1]}) with P >= 1", target)
