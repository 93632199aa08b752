"""Random drawing of map indices, as an op. The caller draws the random numbers. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_floating, check_precision
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import draw_index as reference
from fractalops.reference.without_autocast import in_float32


def fake_index(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    """Return an empty index with the shape of `uniform`: uint8 if N <= 256, else int32."""
    return uniform.new_empty(uniform.shape, dtype=torch.uint8 if weight.shape[1] <= 256 else torch.int32)


_native = define("draw_index", fake_index)


def check_drawing(function: str, weight: Tensor, uniform: Tensor, shape: str) -> None:
    """Raise `ValueError` or `TypeError` if arguments are not valid for the ops that draw map indices.

    `weight` must be (S, N) of a floating dtype. `uniform` must be float32 or float64 and have the dimensions in
    `shape`, which is "(S, M)" or "(S, K, T)".
    """
    fits = weight.dim() == 2 and uniform.dim() == shape.count(",") + 1
    if not fits or len(weight) != len(uniform) or weight.shape[1] == 0:
        shapes = f"{tuple(weight.shape)} and {tuple(uniform.shape)}"
        raise ValueError(f"{function}: weight and uniform must be (S, N) and {shape}, got {shapes}")
    check_floating(function, weight=weight)
    check_precision(function, "uniform", uniform)


def run_draw_index(weight: Tensor, uniform: Tensor, floor: float, backend: Backend | None = None) -> Tensor:
    """Run `draw_index` on checked arguments."""
    run = _native if choose("draw_index", uniform.device, backend) == "native" else reference.draw_index
    index: Tensor = run(weight.detach().double(), uniform, floor)
    return index


@in_float32
def draw_index(weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: Backend | None = None) -> Tensor:
    """Draw map indices independently, by inverting the cumulative distribution of the maps.

    Args:
        weight: Weights of the maps, not negative; shape (S, N), any floating dtype.
        uniform: Random numbers in [0, 1); shape (S, M), dtype float32 or float64.
        floor: Smallest share of a map, in [0, 1). The shares `weight / sum` are raised to at least this value, then
            divided by their sum to give the probabilities. If the weights of a system are all zero or not all finite,
            its maps have equal probabilities. Default: 0.
        backend: See `affine_chain`.

    Returns:
        Map indices in [0, N); shape (S, M), dtype uint8 if N <= 256, else int32.

    Raises:
        ValueError: If a shape or `backend` is invalid.
        TypeError: If a dtype is invalid.
        BackendError: If the requested backend can't run.
    """
    check_drawing("draw_index", weight, uniform, "(S, M)")
    return run_draw_index(weight, uniform, floor, backend)
