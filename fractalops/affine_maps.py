"""What follows from the matrices of affine maps: probabilities and fixed points."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def squash(values: Tensor, singular_values: str) -> Tensor:
    return values.sigmoid() if singular_values == "sigmoid" else values.clamp(0, 1)


def determinant_probabilities(matrix: Tensor, floor: float = 1e-3) -> Tensor:
    """Detached probabilities (S, N) proportional to `|det A|` of `matrix` (S, N, 2, 2) (paper section 3).

    A map gets at least about `floor`, so that one that flattens the plane is still drawn; the rows are then
    scaled to sum 1. A system whose determinants are all zero, or not all finite, gets equal probabilities.
    Raises `ValueError`.
    """
    if matrix.dim() != 4 or matrix.shape[2:] != (2, 2):
        raise ValueError(f"determinant_probabilities: matrix must have shape (S, N, 2, 2), got {tuple(matrix.shape)}")
    check_floor("determinant_probabilities", "floor", floor)
    a00, a01, a10, a11 = matrix.detach().flatten(-2).unbind(-1)  # each (S, N)
    return with_floor((a00 * a11 - a01 * a10).abs(), floor)


def check_floor(function: str, argument: str, floor: float) -> None:
    if not isinstance(floor, int | float) or isinstance(floor, bool):
        raise TypeError(f"{function}: {argument} must be a float, got {type(floor).__name__}")
    if not 0 <= floor < 1:
        raise ValueError(f"{function}: {argument} must be in [0, 1), got {floor}")


def with_floor(weights: Tensor, floor: float) -> Tensor:
    total = weights.sum(-1, keepdim=True)  # (S, 1): NaN or infinite where a weight is
    usable = (total > 0) & (total < math.inf)
    raised = torch.where(usable, weights / total, 1 / weights.shape[-1]).clamp(min=floor)  # (S, N)
    return raised / raised.sum(-1, keepdim=True)


def fixed_point(matrix: Tensor, offset: Tensor) -> Tensor:
    """The detached solution x (..., 2) of `x = A x + b` for `matrix` (..., 2, 2) and `offset` (..., 2).

    Where I - A is singular or the solution isn't finite it is the offset, with zeros for what isn't finite
    there. Raises `ValueError`.
    """
    if matrix.dim() < 2 or matrix.shape[-2:] != (2, 2):
        raise ValueError(f"fixed_point: matrix must have shape (..., 2, 2), got {tuple(matrix.shape)}")
    if offset.shape != matrix.shape[:-1]:
        raise ValueError(f"fixed_point: offset must have shape {tuple(matrix.shape[:-1])}, got {tuple(offset.shape)}")
    matrix, offset = matrix.detach(), offset.detach()
    identity = torch.eye(2, dtype=matrix.dtype, device=matrix.device)
    r00, r01, r10, r11 = (identity - matrix).flatten(-2).unbind(-1)  # each (...)
    x, y = offset.unbind(-1)  # each (...)
    # Cramer's rule: as fast as LAPACK on one system, and no thread pool to wait for on many.
    numerator = torch.stack((r11 * x - r01 * y, r00 * y - r10 * x), -1)  # (..., 2)
    solution = numerator / (r00 * r11 - r01 * r10).unsqueeze(-1)  # (..., 2)
    finite = (solution * 0).sum(-1, keepdim=True) == 0  # (..., 1)
    return torch.where(finite, solution, offset.nan_to_num(0, 0, 0))
