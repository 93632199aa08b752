"""Drawing by inverting a cumulative distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def search_cumulative(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """How many cumulative probabilities don't exceed each number: cumulative (S, N - 1), uniform (S, M) -> (S, M).

    uint8 when N <= 256, else int32; in [0, N). It never waits for a GPU.
    """
    index = torch.searchsorted(cumulative, uniform, right=True, out_int32=True)
    return index.to(torch.uint8) if cumulative.shape[1] < 256 else index
