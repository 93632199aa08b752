"""The clamp to [0, 1], with the same gradient in every version of torch."""

from __future__ import annotations

import torch
from torch import Tensor


def limit_to_unit(values: Tensor) -> Tensor:
    """Return `values` limited to [0, 1]; the gradient is 1 in [0, 1], borders included, and 0 outside.

    At the borders, the gradient of `torch.clamp` is 1 before torch 2.14, and 0 from then on.
    """
    inside = (values >= 0) & (values <= 1)
    return torch.where(inside, values, values.detach().clamp(0, 1))
