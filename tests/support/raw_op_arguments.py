"""Small valid arguments of each raw op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rand(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


INDEX = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1], [1, 0, 0, 2]], dtype=torch.uint8)  # (B, T)
MASK = torch.tensor([[[1, 0, 1]], [[1, 1, 1]], [[0, 0, 1]]], dtype=torch.uint8)  # (B, 1, 3)

# The first dimension of every tensor is three, except for learn_steps.
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "affine_chain_fwd": [(rand(3, 2, 2), rand(3, 2), INDEX, rand(3, 2))],
    "affine_chain_bwd": [(rand(3, 4, 2), rand(3, 2, 2), INDEX, rand(3, 2), rand(3, 4, 2))],
    "rbf_rasterize_fwd": [
        (8 * rand(3, 5, 2), rand(3, 5, 2), rand(3) + 1, 7, 9, 1e-6),
        (8 * rand(3, 5, 2), None, rand(3) + 1, 7, 9, 0.0),
    ],
    "rbf_rasterize_bwd": [
        (rand(3, 2, 7, 9), 8 * rand(3, 5, 2), rand(3, 5, 2), rand(3) + 1, 1e-6, True),
        (rand(3, 1, 7, 9), 8 * rand(3, 5, 2), None, rand(3) + 1, 1e-6, False),
    ],
    "rasterize_points": [(8 * rand(3, 5, 2), MASK, 7, 9, binary) for binary in (False, True)],
    "svd_matrix_fwd": [(rand(3, 6), clamped) for clamped in (False, True)],
    "svd_matrix_bwd": [(rand(3, 2, 2), rand(3, 6), clamped) for clamped in (False, True)],
    "clamped_squared_error_fwd": [(2 * rand(3, 2, 20), rand(3, 20))],
    "clamped_squared_error_bwd": [(rand(3), 2 * rand(3, 2, 20), rand(3, 20))],
    "draw_index": [
        (rand(3, 10), rand(3, 30, dtype=torch.float32), 1e-3),
        (rand(3, 300), rand(3, 30), 0.0),
    ],
    "draw_balanced_index": [
        (rand(3, 10), rand(3, 2, 30, dtype=torch.float32), 1e-3),
        (rand(3, 300), rand(3, 2, 30), 0.0),
    ],
    "fixed_point": [(rand(3, 2, 2), rand(3, 2))],
    "learn_steps": [
        (
            rand(2, 1, 8, 8, dtype=torch.float32),
            *(rand(2, 32, dtype=torch.float32) for _ in range(3)),
            rand(2, 3, 2, 5, dtype=torch.float32),
            None,
            rand(3),
            *(0, 3, 2, 5, False),
            *(-2.5, -2.5, 2.5, 2.5, 1.0, 1e-6, 1e-3, 1.0, 0.9),
            *(True, False, True, True, True),
        )
    ],
    "k_means": [(rand(3, 20, 2), rand(3, 4, 2), 3)],
    "draw_masks": [(torch.arange(3), 20)],
    "rasterize_orbit": [
        (rand(3, 4, 2, 2), rand(3, 4, 2), rand(3, 4), rand(3, 9), mask, 20, 30, 6)
        for mask in (None, torch.ones(3, 10, dtype=torch.int16))
    ],
}
