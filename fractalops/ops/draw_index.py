"""Drawing map indices by inverting a cumulative distribution, as an op. The random numbers are drawn before it."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.backends import choose
from fractalops.ops.drawing import check_drawing, register_drawing
from fractalops.reference import draw_index as reference

register_drawing("draw_index")


def draw_index(weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: str | None = None) -> Tensor:
    """The map that each number stands for, in [0, N).

    weight (S, N) of any float dtype, not negative, uniform (S, M) in [0, 1), float32 or float64 -> index (S, M), uint8
    when N <= 256, else int32. Probabilities are `weight / sum`, at least `floor` before they are scaled to sum 1; equal
    ones for a row whose weights are all zero or not all finite. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for a wrong dtype and `BackendError` where the backend asked for can't run.
    """
    weight = check_drawing("draw_index", weight, uniform, "(S, M)")
    if choose("draw_index", uniform.device, backend) == "reference":
        return reference.draw_index(weight, uniform, floor)
    index: Tensor = torch.ops.fractalops.draw_index(weight, uniform, floor)
    return index
