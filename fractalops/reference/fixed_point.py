"""Fixed points of affine maps."""

from __future__ import annotations

import torch
from torch import Tensor


def fixed_point(matrix: Tensor, offset: Tensor) -> Tensor:
    """Return the solution of `x = A x + b` by Cramer's rule: matrix (M, 2, 2), offset (M, 2) -> (M, 2).

    If the solution is not finite, return the offset, in which 0 replaces numbers that are not finite.
    """
    a00, a01, a10, a11 = matrix.flatten(-2).unbind(-1)  # each (M,)
    x, y = offset.unbind(-1)  # each (M,)
    numerator = torch.stack(((1 - a11) * x + a01 * y, (1 - a00) * y + a10 * x), -1)  # (M, 2)
    solution = numerator / ((1 - a00) * (1 - a11) - a01 * a10).unsqueeze(-1)  # (M, 2)
    finite = solution.isfinite().all(-1, keepdim=True)  # (M, 1)
    return torch.where(finite, solution, offset.nan_to_num(0, 0, 0))
