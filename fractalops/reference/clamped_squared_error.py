"""The loss of a fit: the pixels' squared error after the clamp (paper sections 4.1 and 4.3)."""

from __future__ import annotations

from torch import Tensor


def clamped_squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """The mean of `(clamp(images, 0, 1) - targets)^2`: images (S, K, P), targets (S, P) -> (S,)."""
    return (images.clamp(0, 1) - targets[:, None]).square().mean(dim=(1, 2))
