"""Balanced drawing of map indices, as an op. The caller draws the random numbers. Not differentiable."""

from __future__ import annotations

from torch import Tensor

from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.ops.draw_index import check_drawing, fake_index
from fractalops.reference import draw_balanced_index as reference
from fractalops.reference.without_autocast import in_float32

_native = define("draw_balanced_index", fake_index)


def run_draw_balanced_index(weight: Tensor, uniform: Tensor, floor: float, backend: Backend | None = None) -> Tensor:
    """Run `draw_balanced_index` on checked arguments."""
    native = choose("draw_balanced_index", uniform.device, backend) == "native"
    run = _native if native else reference.draw_balanced_index
    index: Tensor = run(weight.detach().double(), uniform, floor)
    return index


@in_float32
def draw_balanced_index(
    weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: Backend | None = None
) -> Tensor:
    """Draw sequences of map indices that spread the points evenly over the attractor.

    In each sequence, each map and each run of maps occurs about as often as expected.
    `fractalops.reference.draw_balanced_index` defines the rule.

    Args:
        weight: Weights of the maps, not negative; shape (S, N), any floating dtype.
        uniform: Random numbers in [0, 1); shape (S, K, T), dtype float32 or float64.
        floor: Smallest share of a map, in [0, 1). The shares `weight / sum` are raised to at least this value, then
            divided by their sum to give the probabilities. If the weights of a system are all zero or not all finite,
            its maps have equal probabilities. Default: 0.
        backend: See `affine_chain`.

    Returns:
        Map indices in [0, N); shape (S, K, T), dtype uint8 if N <= 256, else int32.

    Raises:
        ValueError: If a shape or `backend` is invalid.
        TypeError: If a dtype is invalid.
        BackendError: If the requested backend can't run.
    """
    check_drawing("draw_balanced_index", weight, uniform, "(S, K, T)")
    return run_draw_balanced_index(weight, uniform, floor, backend)
