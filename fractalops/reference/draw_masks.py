"""Random masks of 3 x 3 pixels from Python's `random`."""

from __future__ import annotations

import random

import torch
from torch import Tensor


def draw_masks(seed: Tensor, count: int) -> Tensor:
    """Return masks (B, count), int16: in each row, `random.randrange(1, 512)` after seeding with `seed` (B,)."""
    rows = []
    for number in seed.tolist():
        generator = random.Random(number)
        rows.append([generator.randrange(1, 512) for _ in range(count)])
    return torch.tensor(rows, dtype=torch.int16, device=seed.device).view(len(rows), count)
