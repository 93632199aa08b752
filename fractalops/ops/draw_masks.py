"""Random masks of 3 x 3 pixels from Python's `random`, as an op. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import can_read, check_integer, check_tensor, shape_error
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import draw_masks as reference

_native = define("draw_masks", lambda seed, count: seed.new_empty(len(seed), count, dtype=torch.int16))


def draw_masks(seed: Tensor, count: int, *, backend: Backend | None = None) -> Tensor:
    """Draw masks of 3 x 3 pixels with the random numbers of Python's `random` module.

    Row b of the result has the values of `count` calls of `random.randrange(1, 512)` after `random.seed(seed[b])`. The
    nine bits of a mask are its pixels, row by row, the highest bit first.

    Args:
        seed: Seed of each row, at least 0; shape (B,), dtype int64.
        count: Number of masks in each row, at least 1.
        backend: See `affine_chain`.

    Returns:
        Masks in [1, 511]; shape (B, count), dtype int16.

    Raises:
        ValueError: If the shape or a value of `seed`, `count` or `backend` is invalid.
        TypeError: If a dtype or type is invalid.
        BackendError: If the requested backend can't run.
    """
    check_tensor("draw_masks", seed=seed)
    if seed.dtype != torch.int64:
        raise TypeError(f"draw_masks: seed must be int64, got {seed.dtype}")
    if seed.dim() != 1:
        raise shape_error("draw_masks", "seed", "(B,)", seed)
    if can_read(seed) and bool((seed < 0).any()):
        raise ValueError(f"draw_masks: seed must be at least 0, got {int(seed.min())}")
    count = check_integer("draw_masks", "count", count, 1)
    native = choose("draw_masks", seed.device, backend) == "native"
    masks: Tensor = (_native if native else reference.draw_masks)(seed, count)  # (B, count)
    return masks
