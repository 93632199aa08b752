"""The chain of affine maps: `v_t = A[z_t] v_(t-1) + b[z_t]` (paper section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Apply the maps in `index` one after the other and return all points.

    matrix (N, D, D), offset (N, D), index (B, T) of any integer dtype in [0, N), T >= 1, start (B, D)
    -> points (B, T, D). Any floating dtype; differentiable by autograd in matrix, offset and start.
    """
    point = start  # (B, D)
    points = []
    for step in index.long().unbind(dim=1):  # (B,)
        point = (matrix[step] * point[:, None, :]).sum(dim=-1) + offset[step]
        points.append(point)
    return torch.stack(points, dim=1)
