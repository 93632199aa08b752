"""Fractal dimensions: the similarity dimension of a system, and the box-counting dimension of a cloud of points."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fractalops._checks import check_floating, check_tensor, shape_error
from fractalops.systems.system import System

_TOLERANCE = 1e-5  # relative error of a similarity, for rounded float32 coefficients
_LEAST_POINTS = 1000
_COARSEST, _FINEST = 2, 32  # range of k; the side of a box is 2^(-k / 2) times the longest side of the cloud
_SCALES = 7  # number of scales for the slope: three octaves
_LONELY = 0.1  # largest share of the occupied boxes that may contain a single point
_SHIFTS = (0.0, 0.5)  # shifts of the grid, in boxes


def similarity_dimension(system: System) -> float | None:
    """Return the similarity dimension of a system: the solution d of `sum_n r_n^d = 1` (Moran 1946).

    r_n is the ratio of map n, a similarity. Maps of probability 0 don't count. If the open set condition is true, d is
    the fractal dimension of the attractor (Hutchinson 1981). The condition is: there is an open set that contains its
    images under all maps, and these images don't overlap. It isn't checked. If it is false, d is an upper bound, and
    can be above 2 or 3.

    Args:
        system: The system.

    Returns:
        d, or None if a map is not a similarity with a ratio in (0, 1).

    Examples:
        >>> from fractalops.systems import classic, similarity_dimension
        >>> round(similarity_dimension(classic("triangle")), 4)
        1.585
    """
    matrix = system.matrix[system.probabilities > 0].double()  # (N, D, D)
    gram = matrix.mT @ matrix  # (N, D, D), for a similarity the squared ratio times the identity
    square = gram.diagonal(dim1=1, dim2=2).mean(1)  # (N,)
    identity = torch.eye(system.dimensions, dtype=gram.dtype, device=gram.device)
    error = (gram - square[:, None, None] * identity).abs().amax((1, 2))  # (N,)
    if not bool(((square > 0) & (square < 1 - _TOLERANCE) & (error <= _TOLERANCE * square)).all()):
        return None
    logarithm = square.log() / 2  # (N,), negative
    low, high = 0.0, math.log(len(logarithm)) / -float(logarithm.amax())  # bounds of d
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float((middle * logarithm).exp().sum()) > 1 else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def box_dimension(points: Tensor) -> float:
    """Estimate the box-counting dimension of a cloud of points.

    The estimate is the slope of `log(number of boxes with points)` as a function of `log(1 / side of a box)`. The
    smallest boxes are those for which at most a tenth of the boxes with points contain a single point. The largest have
    eight times that side, with a factor of the square root of 2 from each side to the next. The number of the
    attractor's boxes without a point is estimated and added (Chao 1984). Numbers are means over two grids, shifted by
    half a box.

    More points give a better estimate. With 200,000 points the estimate for the attractors in
    `fractalops.systems.CLASSICS` is too low by at most 0.04, with these exceptions: 0.08 for the snowflake and Menger's
    sponge, and 0.2 for the dragon and Levy's curve, whose area has a ragged outline. It is 0.2 too low for a solid
    cube. A point has dimension 0, a straight line 1.

    Args:
        points: Points of shape (T, D) with D = 2 or 3, floating-point. At least 1000 must be finite; the others are
            left out.

    Returns:
        The dimension, at least 0.

    Raises:
        ValueError: If the shape is wrong or there are too few finite points.
        TypeError: If `points` is not a floating-point tensor.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> line = torch.linspace(0, 1, 100_000)[:, None].expand(-1, 2)
        >>> round(fractalops.box_dimension(line), 1)
        1.0
    """
    check_tensor("box_dimension", points=points)
    check_floating("box_dimension", points=points)
    if points.dim() != 2 or points.shape[1] not in (2, 3):
        raise shape_error("box_dimension", "points", "(T, 2) or (T, 3)", points)
    cloud = points.detach()[points.isfinite().all(1)].double().cpu()  # (P, D)
    if len(cloud) < _LEAST_POINTS:
        raise ValueError(f"box_dimension: points must have at least {_LEAST_POINTS} finite points, got {len(cloud)}")
    cloud = cloud - cloud.amin(0)
    longest = float(cloud.amax())
    if longest == 0:
        return 0.0
    cloud /= longest
    low, high = _COARSEST + _SCALES - 1, _FINEST
    while low < high:  # a search for the finest scale at which few boxes contain a single point
        middle = (low + high + 1) // 2
        boxes, single, _ = _count(cloud, middle, 0.0)
        low, high = (middle, high) if single <= _LONELY * boxes else (low, middle - 1)
    scales = range(low - _SCALES + 1, low + 1)
    logarithms = [math.log(sum(_estimate(cloud, scale, shift) for shift in _SHIFTS)) for scale in scales]
    sides = [scale * math.log(2) / 2 for scale in scales]
    middle_side = sum(sides) / _SCALES
    slope = sum((side - middle_side) * value for side, value in zip(sides, logarithms, strict=True))
    return max(0.0, slope / sum((side - middle_side) ** 2 for side in sides))


def _count(cloud: Tensor, scale: int, shift: float) -> tuple[int, int, int]:
    """Return the numbers of boxes with points, with one point, and with two points, of a cloud (P, D) in [0, 1]."""
    cells = (cloud * 2 ** (scale / 2) + shift).long()  # (P, D)
    side = int(2 ** (scale / 2)) + 2
    key = cells[:, 0]
    for axis in range(1, cells.shape[1]):
        key = key * side + cells[:, axis]
    counts = np.unique(key.numpy(), return_counts=True)[1]  # NumPy sorts several times faster than torch
    return len(counts), int((counts == 1).sum()), int((counts == 2).sum())


def _estimate(cloud: Tensor, scale: int, shift: float) -> float:
    """Estimate how many boxes a set intersects, from a cloud (P, D) of points of the set (Chao 1984)."""
    boxes, single, double = _count(cloud, scale, shift)
    return boxes + single * (single - 1) / (2 * (double + 1))
