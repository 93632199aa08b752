"""Rounding for the Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def round_to_even(position):
    """Round to the nearest integer, and halves to the even one, as on the CPU."""
    below = tl.floor(position)
    fraction = position - below
    odd = below * 0.5 != tl.floor(below * 0.5)
    return tl.where((fraction > 0.5) | ((fraction == 0.5) & odd), below + 1, below)


@triton.jit
def rounded_product(a, b):
    """Return a * b, which the compiler does not fuse with a following sum into one multiply-add.

    Use it for the terms of a sum over lanes. The lanes of a pair both compute v + shuffle(v). If v is a fused product,
    each lane adds its own unrounded product to the other's rounded one, and the two get different bits.

    It is a multiply-add with +0. The compiler may not replace this by a product, because the results differ in the sign
    of a zero: -0 + 0 is +0.
    """
    return tl.fma(a, b, 0.0)
