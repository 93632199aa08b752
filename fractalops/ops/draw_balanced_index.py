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
        weight: weights of the maps of each system, (S, N), not negative; any floating dtype.
        uniform: random numbers in [0, 1), (S, K, T); float32 or float64.
        floor: smallest share of a map, in [0, 1). The shares `weight / sum` are raised to at least this value, then
            divided by their sum to give the probabilities. If the weights of a system are all zero or not all finite,
            its maps have equal probabilities.
        backend: as in `affine_chain`.

    Returns:
        The map indices, (S, K, T), in [0, N); uint8 if N <= 256, else int32.

    Raises:
        ValueError: if a shape or `backend` is invalid.
        TypeError: if a dtype is invalid.
        BackendError: if the requested backend can't run.
    """
    check_drawing("draw_balanced_index", weight, uniform, "(S, K, T)")
    return run_draw_balanced_index(weight, uniform, floor, backend)
