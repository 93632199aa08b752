"""What follows from the matrices of affine maps: SVD parameters, probabilities, fixed points."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor


class _Tables(NamedTuple):
    """Constant matrices that make `svd_matrix` a few products. Their six rows are theta, phi, s1, s2, d1, d2.

    With `R(theta) diag(1, -1) R(phi) = diag(1, -1) R(phi - theta)`, mean `a = (s1 + s2) / 2` and half
    difference `b = (s1 - s2) / 2`, the unsigned matrix is `a R(theta + phi) + b diag(1, -1) R(phi - theta)`:
    four waves `a cos(theta + phi), b cos(theta - phi), a sin(theta + phi), b sin(theta - phi)`, added and
    subtracted.
    """

    quarter_turn: Tensor  # (4,): makes the first two sines cosines
    angles: Tensor  # (6, 4)
    amplitudes: Tensor  # (6, 4)
    entries: Tensor  # (4, 4): from the waves to A00, A01, A10, A11
    latents: Tensor  # (6, 4): the latent sign of each entry's column
    one: Tensor  # ()


def _constant(*rows: object) -> Tensor:
    # float64 whatever the parameters are: autocast and TF32, which would round the angles, leave it alone.
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


_NONE = [0.0, 0.0, 0.0, 0.0]
_CPU_TABLES = _Tables(
    quarter_turn=_constant(math.pi / 2, math.pi / 2, 0, 0),
    angles=_constant([1, 1, 1, 1], [1, -1, 1, -1], _NONE, _NONE, _NONE, _NONE),
    amplitudes=_constant(_NONE, _NONE, [0.5] * 4, [0.5, -0.5, 0.5, -0.5], _NONE, _NONE),
    entries=_constant([1, 0, 0, 1], [1, 0, 0, -1], [0, -1, 1, 0], [0, 1, 1, 0]),
    latents=_constant(_NONE, _NONE, _NONE, _NONE, [1, 0, 1, 0], [0, 1, 0, 1]),
    one=_constant(1)[0],
)


@functools.cache
def _tables_on(device: torch.device) -> _Tables:
    return _Tables(*(table.to(device) for table in _CPU_TABLES))


def squash(values: Tensor, singular_values: str) -> Tensor:
    return values.sigmoid() if singular_values == "sigmoid" else values.clamp(0, 1)


def svd_matrix(svd: Tensor, singular_values: str = "sigmoid") -> Tensor:
    """The matrices (..., 2, 2) of parameters (..., 6) = theta, phi (radians), s1, s2, d1, d2, differentiable.

    `A = R(theta) diag(s1, s2) R(phi) diag(d1, d2)` (paper eq. 10), R the rotation by an angle. s is the
    sigmoid of the parameter or its clamp to [0, 1], by `singular_values`; d is the sign of its latent (0
    counts as positive, -0.0 as negative), with the straight-through gradient: backward treats the sign as the
    identity. Any float dtype, computed in float64 and rounded once; a non-finite parameter spoils its own map
    only. Raises `ValueError`.
    """
    if svd.dim() < 1 or svd.shape[-1] != 6:
        raise ValueError(f"svd_matrix: svd must have shape (..., 6), got {tuple(svd.shape)}")
    if singular_values not in ("sigmoid", "clamp"):
        raise ValueError(f"svd_matrix: singular_values must be 'sigmoid' or 'clamp', got {singular_values!r}")
    tables = _CPU_TABLES if svd.device.type == "cpu" else _tables_on(svd.device)
    flat = svd.reshape(-1, 6).double()  # (M, 6)
    amplitudes = squash(flat, singular_values).mm(tables.amplitudes)  # (M, 4)
    waves = torch.addmm(tables.quarter_turn, flat, tables.angles).sin() * amplitudes  # (M, 4)
    latent = flat.mm(tables.latents)  # (M, 4)
    held = latent.detach()
    sign = latent + (torch.copysign(tables.one, held) - held)  # (M, 4): its gradient is that of the latent
    return (waves.mm(tables.entries) * sign).to(svd.dtype).view(*svd.shape[:-1], 2, 2)


def determinant_probabilities(matrix: Tensor, floor: float = 1e-3) -> Tensor:
    """Detached probabilities (S, N) proportional to `|det A|` of `matrix` (S, N, 2, 2) (paper section 3).

    A map gets at least about `floor`, so that one that flattens the plane is still drawn; the rows are then
    scaled to sum 1. A system whose determinants are all zero, or not all finite, gets equal probabilities.
    Raises `ValueError`.
    """
    if matrix.dim() != 4 or matrix.shape[2:] != (2, 2):
        raise ValueError(
            f"determinant_probabilities: matrix must have shape (S, N, 2, 2), got {tuple(matrix.shape)}"
        )
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
        raise ValueError(
            f"fixed_point: offset must have shape {tuple(matrix.shape[:-1])}, got {tuple(offset.shape)}"
        )
    matrix, offset = matrix.detach(), offset.detach()
    identity = torch.eye(2, dtype=matrix.dtype, device=matrix.device)
    r00, r01, r10, r11 = (identity - matrix).flatten(-2).unbind(-1)  # each (...)
    x, y = offset.unbind(-1)  # each (...)
    # Cramer's rule: as fast as LAPACK on one system, and no thread pool to wait for on many.
    numerator = torch.stack((r11 * x - r01 * y, r00 * y - r10 * x), -1)  # (..., 2)
    solution = numerator / (r00 * r11 - r01 * r10).unsqueeze(-1)  # (..., 2)
    finite = (solution * 0).sum(-1, keepdim=True) == 0  # (..., 1)
    return torch.where(finite, solution, offset.nan_to_num(0, 0, 0))
