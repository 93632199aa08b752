"""Drawing map indices evenly, as an op. The random numbers are drawn before it."""

from __future__ import annotations

from torch import Tensor

from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.ops.draw_index import check_drawing, fake_index
from fractalops.reference import draw_balanced_index as reference
from fractalops.reference.without_autocast import in_float32

_native = define("draw_balanced_index", fake_index)


def run_draw_balanced_index(weight: Tensor, uniform: Tensor, floor: float, backend: Backend | None = None) -> Tensor:
    """Run `draw_balanced_index` on arguments that are known to be right."""
    native = choose("draw_balanced_index", uniform.device, backend) == "native"
    run = _native if native else reference.draw_balanced_index
    index: Tensor = run(weight.detach().double(), uniform, floor)
    return index


@in_float32
def draw_balanced_index(
    weight: Tensor, uniform: Tensor, floor: float = 0.0, *, backend: Backend | None = None
) -> Tensor:
    """Return sequences of maps in [0, N), each of which spreads its points evenly; the rule stands at the reference.

    weight (S, N) of any float dtype, not negative, uniform (S, K, T) in [0, 1), float32 or float64 -> index (S, K, T),
    uint8 when N <= 256, else int32. Probabilities are `weight / sum`, at least `floor` before they are scaled to sum 1;
    equal ones for a row whose weights are all zero or not all finite. Raises `ValueError` for a wrong shape or backend,
    `TypeError` for a wrong dtype and `BackendError` where the backend asked for can't run.
    """
    check_drawing("draw_balanced_index", weight, uniform, "(S, K, T)")
    return run_draw_balanced_index(weight, uniform, floor, backend)
