"""Fixed points of affine maps, at which chains start, as an op. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_floating, check_tensor, shape_error
from fractalops.backends import Backend
from fractalops.ops._define import define, takes_native
from fractalops.reference import fixed_point as reference
from fractalops.reference.without_autocast import in_float32

_native = define("fixed_point", lambda matrix, offset: offset.new_empty(offset.shape))


def run_fixed_point(matrix: Tensor, offset: Tensor, backend: Backend | None = None) -> Tensor:
    """Run `fixed_point` on checked arguments."""
    if backend is None and matrix.dtype not in (torch.float32, torch.float64):
        backend = "reference"
    run = _native if takes_native("fixed_point", "matrix", matrix, backend) else reference.fixed_point
    point: Tensor = run(matrix.detach().reshape(-1, 2, 2), offset.detach().reshape(-1, 2))  # (M, 2)
    return point.view(offset.shape)


@in_float32
def fixed_point(matrix: Tensor, offset: Tensor, *, backend: Backend | None = None) -> Tensor:
    """Return the fixed points of affine maps, the solutions of `x = A x + b`.

    If I - A is singular or the solution is not finite, the result is the offset, in which 0 replaces numbers that are
    not finite.

    Args:
        matrix: Linear parts A of the maps; shape (..., 2, 2), any floating dtype.
        offset: Translations b of the maps; shape (..., 2), dtype of `matrix`.
        backend: See `affine_chain`. None (default) means the reference for dtypes other than float32 and float64.

    Returns:
        Fixed points, detached; shape (..., 2), dtype and device of `matrix`.

    Raises:
        ValueError: If a shape or `backend` is invalid.
        TypeError: If a dtype is invalid.
        BackendError: If the requested backend can't run.
    """
    check_tensor("fixed_point", matrix=matrix, offset=offset)
    check_floating("fixed_point", matrix=matrix, offset=offset)
    if matrix.dim() < 2 or matrix.shape[-2:] != (2, 2):
        raise shape_error("fixed_point", "matrix", "(..., 2, 2)", matrix)
    if offset.shape != matrix.shape[:-1]:
        raise shape_error("fixed_point", "offset", f"{tuple(matrix.shape[:-1])}", offset)
    return run_fixed_point(matrix, offset, backend)
