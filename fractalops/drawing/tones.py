"""The tones of drawings: from densities of points, over several powers of ten, to brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def tone_map(density: Tensor, least: float | Tensor, gamma: float) -> Tensor:
    """Return the brightness in [0, 1] of densities of any shape, of which the densest twentieth is white.

    Of those above `least`, that is; the others are dark. A `gamma` below 1 lifts thin parts against dense ones.
    """
    lit = density[density > least]  # (P,)
    if lit.numel() == 0:
        return torch.zeros_like(density)
    white = lit.kthvalue(math.ceil(0.95 * lit.numel())).values  # torch.quantile refuses large pictures
    return (density / white).clamp(max=1.0) ** gamma
