"""The loss of `fit`: the squared error of clamped pixels (paper sections 4.1 and 4.3)."""

from __future__ import annotations

from torch import Tensor

from fractalops.reference.unit_interval import limit_to_unit


def clamped_squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of `(clamp(images, 0, 1) - targets)^2`: images (S, K, P), targets (S, P) -> (S,).

    The gradient of the clamp is 1 in [0, 1], borders included, and 0 outside (`limit_to_unit`).
    """
    return (limit_to_unit(images) - targets[:, None]).square().mean(dim=(1, 2))
