"""Masks of 3 x 3 pixels as Python's `random` draws them."""

from __future__ import annotations

import random

import torch
from torch import Tensor


def draw_masks(seed: Tensor, count: int) -> Tensor:
    """Return masks (B, count), int16: `random.randrange(1, 512)` after `random.seed` of each of `seed` (B,)."""
    rows = []
    for number in seed.tolist():
        generator = random.Random(number)
        rows.append([generator.randrange(1, 512) for _ in range(count)])
    return torch.tensor(rows, dtype=torch.int16, device=seed.device).view(len(rows), count)
