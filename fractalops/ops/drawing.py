"""What the ops that draw map indices share: their checks, and how they are traced and mapped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fractalops.ops.folding import fold, unfold
from fractalops.ops.library import LIBRARY


def register_drawing(op: str) -> None:
    """Register the fake kernel and `vmap` of an op of weight (S, N) and uniform (S, ...) -> index (S, ...)."""
    name = f"fractalops::{op}"
    draw = getattr(torch.ops.fractalops, op)

    @torch.library.register_fake(name, lib=LIBRARY)
    def fake(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
        return uniform.new_empty(uniform.shape, dtype=torch.uint8 if weight.shape[1] <= 256 else torch.int32)

    @torch.library.register_vmap(name, lib=LIBRARY)
    def vmap(
        info: Any, dims: tuple[int | None, ...], weight: Tensor, uniform: Tensor, floor: float
    ) -> tuple[Tensor, int]:
        weight, uniform = fold(info.batch_size, (weight, dims[0]), (uniform, dims[1]))
        return unfold(info.batch_size, draw(weight, uniform, floor)), 0


def check_drawing(op: str, weight: Tensor, uniform: Tensor, shape: str) -> Tensor:
    """`weight` (S, N) in float64, detached.

    Raises `ValueError` or `TypeError` unless `uniform` has the dimensions that `shape` names, "(S, M)" or "(S, K, T)",
    and both the dtypes of numbers.
    """
    fits = weight.dim() == 2 and uniform.dim() == shape.count(",") + 1
    if not fits or len(weight) != len(uniform) or weight.shape[1] == 0:
        shapes = f"{tuple(weight.shape)} and {tuple(uniform.shape)}"
        raise ValueError(f"{op}: weight and uniform must be (S, N) and {shape}, got {shapes}")
    if not weight.is_floating_point():
        raise TypeError(f"{op}: weight must be floating-point, got {weight.dtype}")
    if uniform.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{op}: uniform must be float32 or float64, got {uniform.dtype}")
    return weight.detach().double()
