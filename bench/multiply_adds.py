"""A Triton kernel of float32 multiply-adds, which measures the peak rate of a GPU."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

CHAINS = 8  # independent chains in a thread, which hide the latency of a multiply-add
BLOCK, WARPS = 256, 8  # one element per thread of a program
ROUNDS = 4096


@triton.jit
def multiply_adds_kernel(  # type: ignore[no-untyped-def]  # Triton's types
    result,  # (programs * BLOCK,)
    factor,
    term,
    rounds,
    BLOCK: tl.constexpr,
):
    """Store in each element the sum of eight chains x -> factor x + term; a program owns BLOCK elements."""
    element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # All chains differ. Otherwise, the compiler would compute equal ones only once.
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
    """Fill `result`, whose size is a multiple of BLOCK, with 2 * CHAINS * `rounds` operations per element."""
    multiply_adds_kernel[(result.numel() // BLOCK,)](result, 0.5, 1.0, rounds, BLOCK=BLOCK, num_warps=WARPS)
