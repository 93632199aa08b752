"""Fixed points of affine maps, where chains start (not differentiable)."""

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
    """Run `fixed_point` on arguments that are known to be right."""
    if backend is None and matrix.dtype not in (torch.float32, torch.float64):
        backend = "reference"
    run = _native if takes_native("fixed_point", "matrix", matrix, backend) else reference.fixed_point
    point: Tensor = run(matrix.detach().reshape(-1, 2, 2), offset.detach().reshape(-1, 2))  # (M, 2)
    return point.view(offset.shape)


@in_float32
def fixed_point(matrix: Tensor, offset: Tensor, *, backend: Backend | None = None) -> Tensor:
    """Return the detached solution x (..., 2) of `x = A x + b` for `matrix` (..., 2, 2) and `offset` (..., 2).

    Where I - A is singular or the solution isn't finite it is the offset, with zeros for what isn't finite there. Any
    float dtype; the native backend takes float32 and float64. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for unequal dtypes and `BackendError` where the backend asked for can't run.
    """
    check_tensor("fixed_point", matrix=matrix, offset=offset)
    check_floating("fixed_point", matrix=matrix, offset=offset)
    if matrix.dim() < 2 or matrix.shape[-2:] != (2, 2):
        raise shape_error("fixed_point", "matrix", "(..., 2, 2)", matrix)
    if offset.shape != matrix.shape[:-1]:
        raise shape_error("fixed_point", "offset", f"{tuple(matrix.shape[:-1])}", offset)
    return run_fixed_point(matrix, offset, backend)
