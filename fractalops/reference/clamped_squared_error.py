"""The loss of a fit: the pixels' squared error after the clamp (paper sections 4.1 and 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def clamped_squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """The mean of `(clamp(images, 0, 1) - targets)^2`: images (S, K, P), targets (S, P) -> (S,).

    The gradient is that of the squared error in [0, 1], borders included, and zero outside; `torch.clamp` itself treats
    the borders one way or the other, by its version.
    """
    inside = (images >= 0) & (images <= 1)  # (S, K, P)
    clamped = torch.where(inside, images, images.detach().clamp(0, 1))
    return (clamped - targets[:, None]).square().mean(dim=(1, 2))
