"""Drawing map indices by inverting a cumulative distribution, as an op. The random numbers are drawn before it."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.dispatch import choose
from fractalops.ops.library import LIBRARY
from fractalops.reference import search_cumulative as reference


@torch.library.register_fake("fractalops::search_cumulative", lib=LIBRARY)
def _fake(cumulative: Tensor, uniform: Tensor) -> Tensor:
    return uniform.new_empty(uniform.shape, dtype=torch.uint8 if cumulative.shape[1] < 256 else torch.int32)


def search_cumulative(cumulative: Tensor, uniform: Tensor, *, backend: str | None = None) -> Tensor:
    """How many cumulative probabilities don't exceed each number.

    cumulative (S, N - 1) ascending, uniform (S, M) of the same dtype, float32 or float64 -> (S, M), uint8 when N <=
    256, else int32; in [0, N). Raises `ValueError` for a wrong shape or backend, `TypeError` for a wrong dtype and
    `BackendError` where the backend asked for can't run.
    """
    if cumulative.dim() != 2 or uniform.dim() != 2 or len(cumulative) != len(uniform):
        shapes = f"{tuple(cumulative.shape)} and {tuple(uniform.shape)}"
        raise ValueError(f"search_cumulative: cumulative and uniform must be (S, N - 1) and (S, M), got {shapes}")
    if cumulative.dtype != uniform.dtype or uniform.dtype not in (torch.float32, torch.float64):
        dtypes = f"{cumulative.dtype} and {uniform.dtype}"
        raise TypeError(f"search_cumulative: cumulative and uniform must be both float32 or float64, got {dtypes}")
    if choose("search_cumulative", uniform.device, backend) == "reference":
        return reference.search_cumulative(cumulative, uniform)
    index: Tensor = torch.ops.fractalops.search_cumulative(cumulative, uniform)
    return index
