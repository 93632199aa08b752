"""Probabilities of maps from their weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def floored_shares(weight: Tensor, floor: float) -> Tensor:
    """Return `weight / sum`, raised to at least `floor`, not scaled to sum 1: weight (S, N), not negative -> (S, N).

    A row whose weights are all zero or not all finite gets equal shares. Weights are added in order, as in the native
    op.
    """
    total = weight.cumsum(-1)[..., -1:]  # (S, 1): NaN or infinite if a weight is
    usable = (total > 0) & (total < math.inf)
    return torch.where(usable, weight / total, 1 / weight.shape[-1]).clamp(min=floor)


def raise_to_floor(weight: Tensor, floor: float) -> Tensor:
    """Return the probabilities of `floored_shares`, scaled to sum 1: weight (S, N) -> (S, N)."""
    shares = floored_shares(weight, floor)
    return shares / shares.sum(-1, keepdim=True)
