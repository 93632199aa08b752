"""Drawing of map indices by inverting a cumulative distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.reference.probabilities import floored_shares


def draw_index(weight: Tensor, uniform: Tensor, floor: float) -> Tensor:
    """Return a map for each number in [0, 1): weight (S, N) in float64, uniform (S, M) -> index (S, M) in [0, N).

    The probabilities are those of `raise_to_floor`. The index is uint8 if N <= 256, else int32. The function never
    waits for a GPU.
    """
    sums = floored_shares(weight, floor).cumsum(1)  # (S, N)
    bounds = (sums[:, :-1] / sums[:, -1:]).to(uniform.dtype).contiguous()  # (S, N - 1)
    index = torch.searchsorted(bounds, uniform.contiguous(), right=True, out_int32=True)
    return index.to(torch.uint8) if weight.shape[1] <= 256 else index
