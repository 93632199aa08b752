"""Rounding that the Triton kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def round_to_even(position):
    """Round to the nearest whole number; halves go to the even one, as on the CPU."""
    below = tl.floor(position)
    fraction = position - below
    odd = below * 0.5 != tl.floor(below * 0.5)
    return tl.where((fraction > 0.5) | ((fraction == 0.5) & odd), below + 1, below)
