"""Matrices with singular values below 1, as functions of unbounded parameters."""

from __future__ import annotations

import torch
from torch import Tensor

# Less than 1 by a margin: rounding must not reach 1, and the influence of a chain's start must vanish within the chain.
LARGEST_SINGULAR_VALUE = 0.99


def contraction(parameters: Tensor) -> Tensor:
    """Return contractions `0.99 M L^-T`, where `L L^T = I + M^T M` (Cholesky).

    The matrix `B = M L^-T` satisfies `B B^T = M (I + M^T M)^-1 M^T`: a singular value s of M becomes
    `s / sqrt(1 + s^2)`. Every matrix with singular values below 1 corresponds to exactly one M. This includes matrices
    that reflect or flatten space. Therefore no signs are needed, unlike in the paper's equation 10, and no separate
    formula for the rotations of each dimension. In experiments, two rotations with signed singular values between them
    learned clouds no better. The function is differentiable.

    It computes in float64: in float32, rounding loses the identity when M has entries of several thousand.

    Args:
        parameters: M, (..., D, D).

    Returns:
        The matrices, (..., D, D), with the dtype of `parameters`.
    """
    exact = parameters.double()
    identity = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device)
    factor = torch.linalg.cholesky(identity + exact.mT @ exact)  # (..., D, D), lower
    matrix: Tensor = torch.linalg.solve_triangular(factor.mT, exact, upper=True, left=False)
    return (LARGEST_SINGULAR_VALUE * matrix).to(parameters.dtype)


def contraction_parameters(matrix: Tensor) -> Tensor:
    """Return the parameters M for which `contraction` returns `matrix`.

    `M = B K^-T`, where `B = matrix / 0.99` and `K K^T = I - B^T B` (Cholesky).

    Args:
        matrix: (..., D, D), with singular values below 0.99.

    Returns:
        M, (..., D, D).
    """
    matrix = matrix / LARGEST_SINGULAR_VALUE
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor = torch.linalg.cholesky(identity - matrix.mT @ matrix)  # (..., D, D), lower
    parameters: Tensor = torch.linalg.solve_triangular(factor.mT, matrix, upper=True, left=False)
    return parameters
