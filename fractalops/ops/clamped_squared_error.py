"""The loss of `fit` as a differentiable op (paper sections 4.1 and 4.3).

Forward and backward each read the pixels once.
"""

from __future__ import annotations

from torch import Tensor

from fractalops._checks import check_floating, shape_error
from fractalops.backends import Backend
from fractalops.ops._define import define, takes_native
from fractalops.ops._differentiate import differentiate
from fractalops.reference import clamped_squared_error as reference
from fractalops.reference.without_autocast import in_float32

_forward = define("clamped_squared_error_fwd", lambda images, targets: images.new_empty(images.shape[0]))
_backward = define("clamped_squared_error_bwd", lambda grad, images, targets: images.new_empty(images.shape))
_native = differentiate(
    lambda images, targets: _forward(images, targets),
    lambda needed, grad, error, images, targets: (_backward(grad, images, targets), None),
    reference.clamped_squared_error,
)


@in_float32
def clamped_squared_error(images: Tensor, targets: Tensor, *, backend: Backend | None = None) -> Tensor:
    """Return the mean of `(clamp(images, 0, 1) - targets)^2` over the pixels, channels and sequences of each system.

    The result is differentiable in images. The gradient of the clamp is 1 in [0, 1], borders included, and 0 outside.

    Args:
        images: Images of K sequences of each system; shape (S, K, H, W), or (S, K, C, H, W) in color, dtype float32 or
            float64.
        targets: Target of each system; shape (S, H, W), or (S, C, H, W) in color, dtype of `images`.
        backend: See `affine_chain`.

    Returns:
        Loss of each system; shape (S,), dtype and device of `images`.

    Raises:
        ValueError: If a shape or `backend` is invalid.
        TypeError: If a dtype is invalid.
        BackendError: If the requested backend can't run.
    """
    if images.dim() not in (4, 5) or 0 in images.shape[1:]:
        raise shape_error("clamped_squared_error", "images", "(S, K, H, W) or (S, K, C, H, W), not empty", images)
    if targets.shape != (images.shape[0], *images.shape[2:]):
        expected = f"{(images.shape[0], *images.shape[2:])}"
        raise shape_error("clamped_squared_error", "targets", expected, targets)
    check_floating("clamped_squared_error", images=images, targets=targets)
    native = takes_native("clamped_squared_error", "images", images, backend)
    run = _native if native else reference.clamped_squared_error
    return run(images.flatten(2), targets.detach().flatten(1))
