"""Matrices whose largest singular value is below 1, by parameters without bounds."""

from __future__ import annotations

import torch
from torch import Tensor

# Rounding must not bring a singular value to 1, nor a chain to forget its start more slowly than it takes to draw one.
LARGEST_SINGULAR_VALUE = 0.99


def contraction(parameters: Tensor) -> Tensor:
    """Return contractions `0.99 M L^-T` with `L L^T = I + M^T M` (Cholesky): (..., D, D) -> (..., D, D).

    `A A^T = M (I + M^T M)^-1 M^T`: a singular value s of M becomes `s / sqrt(1 + s^2)`. Every matrix with singular
    values below 1 comes from just one M, also one that mirrors or flattens space, so that no signs are needed as in
    the paper's equation 10, and no formula for the rotations of each dimension. Clouds were learned as well as by two
    rotations and signed singular values between them. Differentiable.

    Worked out in float64: in float32 the identity drowns in an M of some thousands.
    """
    exact = parameters.double()
    identity = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device)
    factor = torch.linalg.cholesky(identity + exact.mT @ exact)  # (..., D, D), lower
    matrix: Tensor = torch.linalg.solve_triangular(factor.mT, exact, upper=True, left=False)
    return (LARGEST_SINGULAR_VALUE * matrix).to(parameters.dtype)


def contraction_parameters(matrix: Tensor) -> Tensor:
    """Return the M for which `contraction` returns `matrix`, of singular values below 0.99: (..., D, D) -> (..., D, D).

    `M = A K^-T` with `K K^T = I - A^T A`.
    """
    matrix = matrix / LARGEST_SINGULAR_VALUE
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor = torch.linalg.cholesky(identity - matrix.mT @ matrix)  # (..., D, D), lower
    parameters: Tensor = torch.linalg.solve_triangular(factor.mT, matrix, upper=True, left=False)
    return parameters
