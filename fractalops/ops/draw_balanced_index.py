"""Drawing balanced map indices, as an op. The random numbers are drawn before it."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.backends import choose
from fractalops.ops.drawing import check_drawing, register_drawing
from fractalops.reference import draw_balanced_index as reference

register_drawing("draw_balanced_index")


def draw_balanced_index(weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: str | None = None) -> Tensor:
    """Sequences of maps in [0, N), each of which is balanced; the rule stands at the reference.

    weight (S, N) of any float dtype, not negative, uniform (S, K, T) in [0, 1), float32 or float64 -> index (S, K, T),
    uint8 when N <= 256, else int32. Probabilities are `weight / sum`, at least `floor` before they are scaled to sum 1;
    equal ones for a row whose weights are all zero or not all finite. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for a wrong dtype and `BackendError` where the backend asked for can't run.
    """
    weight = check_drawing("draw_balanced_index", weight, uniform, "(S, K, T)")
    if choose("draw_balanced_index", uniform.device, backend) == "reference":
        return reference.draw_balanced_index(weight, uniform, floor)
    index: Tensor = torch.ops.fractalops.draw_balanced_index(weight, uniform, floor)
    return index
