"""Drawing map indices evenly, as an op. The random numbers are drawn before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fractalops.dispatch import choose
from fractalops.ops.folding import fold, unfold
from fractalops.ops.library import LIBRARY
from fractalops.reference import draw_even_index as reference


@torch.library.register_fake("fractalops::draw_even_index", lib=LIBRARY)
def _fake(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    return uniform.new_empty(uniform.shape, dtype=torch.uint8 if weight.shape[1] <= 256 else torch.int32)


@torch.library.register_vmap("fractalops::draw_even_index", lib=LIBRARY)
def _vmap(info: Any, dims: tuple[int | None, ...], weight: Tensor, uniform: Tensor, floor: float) -> tuple[Tensor, int]:
    weight, uniform = fold(info.batch_size, (weight, dims[0]), (uniform, dims[1]))
    return unfold(info.batch_size, torch.ops.fractalops.draw_even_index(weight, uniform, floor)), 0


def draw_even_index(weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: str | None = None) -> Tensor:
    """Sequences of maps in [0, N), each of which spreads its points evenly; the rule stands at the reference.

    weight (S, N) of any float dtype, not negative, uniform (S, K, T) in [0, 1), float32 or float64 -> index (S, K, T),
    uint8 when N <= 256, else int32. Probabilities are `weight / sum`, at least `floor` before they are scaled to sum 1;
    equal ones for a row whose weights are all zero or not all finite. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for a wrong dtype and `BackendError` where the backend asked for can't run.
    """
    if weight.dim() != 2 or uniform.dim() != 3 or len(weight) != len(uniform) or weight.shape[1] == 0:
        shapes = f"{tuple(weight.shape)} and {tuple(uniform.shape)}"
        raise ValueError(f"draw_even_index: weight and uniform must be (S, N) and (S, K, T), got {shapes}")
    if not weight.is_floating_point():
        raise TypeError(f"draw_even_index: weight must be floating-point, got {weight.dtype}")
    if uniform.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"draw_even_index: uniform must be float32 or float64, got {uniform.dtype}")
    weight = weight.detach().double()
    if choose("draw_even_index", uniform.device, backend) == "reference":
        return reference.draw_even_index(weight, uniform, floor)
    index: Tensor = torch.ops.fractalops.draw_even_index(weight, uniform, floor)
    return index
