"""Masks of 3 x 3 pixels as Python's `random` draws them, as an op. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import can_read, check_integer, check_tensor, shape_error
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import draw_masks as reference

_native = define("draw_masks", lambda seed, count: seed.new_empty(len(seed), count, dtype=torch.int16))


def draw_masks(seed: Tensor, count: int, *, backend: Backend | None = None) -> Tensor:
    """Return masks (B, `count`), int16 in [1, 511], of which `random.randrange(1, 512)` draws a row after each seed.

    The seeds (B,), int64 and at least 0, are those of `random.seed`. A mask's bits are 3 x 3 pixels, row by row, the
    highest first.

    Raises `ValueError` for a wrong shape, seed, count or backend, `TypeError` for a wrong dtype or type and
    `BackendError` where the backend asked for can't run.
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
