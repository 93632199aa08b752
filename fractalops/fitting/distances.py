"""Differentiable distances between point clouds, computed in blocks so that no matrix of all pairs is in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fractalops._checks import check_floating, check_number, check_precision, check_tensor, shape_error

_PAIRS = 2**20  # distances in memory at the same time: a few megabytes, which fit in the cache


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _PAIRS // max(columns, 1))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _squared(points: Tensor, target: Tensor) -> Tensor:
    """Return the squared distances of all pairs: (M, D) and (P, D) -> (M, P).

    They are computed from the differences. The usual formula |x|^2 + |y|^2 - 2 x y is slightly faster, but wrong for
    points that are close.
    """
    total = points.new_zeros(len(points), len(target))
    for x, y in zip(points.unbind(1), target.unbind(1), strict=True):
        difference = x[:, None] - y
        total.addcmul_(difference, difference)
    return total


def _kernel_sums(points: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the sums over j of `k(x_i, y_j)`, (M,), and their gradients with respect to x_i, (M, D)."""
    value = points.new_empty(len(points))
    slope = torch.empty_like(points)
    columns = torch.cat((target, torch.ones_like(target[:, :1])), 1)  # (P, D + 1)
    for rows in _blocks(len(points), len(target)):
        kernel = _squared(points[rows], target).add_(scale**2).rsqrt_().mul_(scale)  # (R, P)
        value[rows] = kernel.sum(1)
        # The derivative of k with respect to x_i is (y_j - x_i) k^3 / scale^2. One product computes its sum over j.
        sums = kernel.pow_(3) @ columns  # (R, D + 1)
        slope[rows] = (sums[:, :-1] - points[rows] * sums[:, -1:]) / scale**2
    return value, slope


class _KernelDistance(torch.autograd.Function):
    """The part of `kernel_distance` that depends on the points. Its forward pass also computes the gradient."""

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
    """Return the unbiased squared maximum mean discrepancy of two clouds (Gretton et al. 2012, equation 3).

    It is `E k(x, x') + E k(y, y') - 2 E k(x, y)`, where each mean is over pairs of different points, and k is the
    inverse multiquadric kernel `k(x, y) = scale / sqrt(scale^2 + |x - y|^2)`. The kernel is sharp near 0, so that
    details count. Its tail is long, so that distant parts attract each other. The expected value is 0 for two clouds of
    the same distribution; a single value may be negative.

    Args:
        points: First cloud; shape (M, D), dtype float32 or float64.
        target: Second cloud; shape (P, D), dtype of `points`. It gets no gradient.
        scale: Distance up to which the kernel is about 1, above 0, in the units of the points. Default: 0.05.
        spread: Value of `E k(y, y')`, if it is known; see `mean_kernel`. None (default) computes it.

    Returns:
        The distance; shape (). It is differentiable once, in `points`.

    Raises:
        ValueError: If a shape or a value is wrong.
        TypeError: If a type or a dtype is wrong.
    """
    _check("kernel_distance", points, target)
    check_number("kernel_distance", "scale", scale, above=0)
    distance: Tensor = _KernelDistance.apply(points, target.detach(), float(scale))[0]
    return distance + (mean_kernel(target, scale) if spread is None else spread)


@torch.no_grad()
def mean_kernel(points: Tensor, scale: float = 0.05) -> Tensor:
    """Return the mean kernel of pairs of different points, as `kernel_distance` uses it.

    Args:
        points: Points; shape (P, D), dtype float32 or float64.
        scale: See `kernel_distance`. Default: 0.05.

    Returns:
        The mean; shape (). It is 0 for a single point.
    """
    _check("mean_kernel", points, points)
    pairs = len(points) * max(len(points) - 1, 1)
    return (_kernel_sums(points, points, scale)[0] - 1).sum() / pairs


def chamfer_distance(points: Tensor, target: Tensor) -> Tensor:
    """Return the symmetric Chamfer distance of two clouds.

    It is the mean distance from a point to the nearest point of the other cloud, averaged over both directions.

    Args:
        points: First cloud; shape (M, D), dtype float32 or float64.
        target: Second cloud; shape (P, D), dtype of `points`.

    Returns:
        The distance in the units of the points; shape (). It is differentiable in both clouds. The gradient between
        points that coincide is 0.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If a type or a dtype is wrong.
    """
    _check("chamfer_distance", points, target)
    near_points, near_target = nearest(points, target)  # (M,), (P,)
    there = _distance(points, target[near_points])  # (M,)
    back = _distance(points[near_target], target)  # (P,)
    return (there.mean() + back.mean()) / 2


@torch.no_grad()
def nearest(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the nearest point of the other cloud, for each point of both clouds.

    Args:
        points: First cloud; shape (M, D).
        target: Second cloud; shape (P, D).

    Returns:
        Indices into `target`, shape (M,), and indices into `points`, shape (P,); dtype int64.
    """
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
    """Return the distances (P,) of pairs of points (P, D). The gradient of a distance that is 0 is 0."""
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
