"""Drawing map indices by inverting a cumulative distribution, as an op. The random numbers are drawn before it."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_floating, check_precision
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import draw_index as reference
from fractalops.reference.without_autocast import in_float32


def fake_index(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    """Return an index of the shape of `uniform`: uint8 when N <= 256, else int32."""
    return uniform.new_empty(uniform.shape, dtype=torch.uint8 if weight.shape[1] <= 256 else torch.int32)


_native = define("draw_index", fake_index)


def check_drawing(function: str, weight: Tensor, uniform: Tensor, shape: str) -> None:
    """Check what ops that draw map indices take.

    Raises `ValueError` or `TypeError` unless `uniform` has the dimensions that `shape` names, "(S, M)" or "(S, K, T)",
    and both the dtypes of numbers.
    """
    fits = weight.dim() == 2 and uniform.dim() == shape.count(",") + 1
    if not fits or len(weight) != len(uniform) or weight.shape[1] == 0:
        shapes = f"{tuple(weight.shape)} and {tuple(uniform.shape)}"
        raise ValueError(f"{function}: weight and uniform must be (S, N) and {shape}, got {shapes}")
    check_floating(function, weight=weight)
    check_precision(function, "uniform", uniform)


def run_draw_index(weight: Tensor, uniform: Tensor, floor: float, backend: Backend | None = None) -> Tensor:
    """Run `draw_index` on arguments that are known to be right."""
    run = _native if choose("draw_index", uniform.device, backend) == "native" else reference.draw_index
    index: Tensor = run(weight.detach().double(), uniform, floor)
    return index


@in_float32
def draw_index(weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: Backend | None = None) -> Tensor:
    """Return the map that each number stands for, in [0, N).

    weight (S, N) of any float dtype, not negative, uniform (S, M) in [0, 1), float32 or float64 -> index (S, M), uint8
    when N <= 256, else int32. Probabilities are `weight / sum`, at least `floor` before they are scaled to sum 1; equal
    ones for a row whose weights are all zero or not all finite. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for a wrong dtype and `BackendError` where the backend asked for can't run.
    """
    check_drawing("draw_index", weight, uniform, "(S, M)")
    return run_draw_index(weight, uniform, floor, backend)
