"""A loop in Triton that does nothing but float32 multiply-adds: how many a GPU does in a second at most."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

CHAINS = 8  # independent ones in a thread, which hide the latency of a multiply-add
BLOCK, WARPS = 256, 8  # a lane of a program has one element
ROUNDS = 4096


@triton.jit
def multiply_adds_kernel(  # type: ignore[no-untyped-def]  # of Triton's types
    result,  # (programs * BLOCK,)
    factor,
    term,
    rounds,
    BLOCK: tl.constexpr,
):
    """Store in each element the sum of eight chains x -> factor x + term; a program owns BLOCK elements."""
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # No two alike, or the compiler would run one for all.
    a = element.to(tl.float32) * 0.001
    b, c, d, e, f, g, h = a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7
    for _ in range(rounds):
        a = a * factor + term
        b = b * factor + term
        c = c * factor + term
        d = d * factor + term
        e = e * factor + term
        f = f * factor + term
        g = g * factor + term
        h = h * factor + term
    tl.store(result + element, a + b + c + d + e + f + g + h)


def multiply_adds(result: Tensor, rounds: int) -> None:
    """Fill `result`, whose elements are a multiple of BLOCK; each takes 2 CHAINS `rounds` operations."""
    multiply_adds_kernel[(result.numel() // BLOCK,)](result, 0.5, 1.0, rounds, BLOCK=BLOCK, num_warps=WARPS)
