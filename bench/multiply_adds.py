"""The most float32 multiply-adds that a GPU does in a second, by a loop in Triton that does nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from .cuda_timing import CudaClock

CHAINS = 8  # independent ones in a thread, which hide the latency of a multiply-add
BLOCK, WARPS = 256, 8  # a lane of a program has one element
ROUNDS, PROGRAMS_OF_MULTIPROCESSOR = 4096, 32


@triton.jit
def multiply_adds_kernel(  # type: ignore[no-untyped-def]  # of Triton's types
    result,  # (programs * BLOCK,)
    factor,
    term,
    rounds,
    BLOCK: tl.constexpr,
):
    """A program owns BLOCK elements; each is the sum of eight chains x -> factor x + term."""
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
    """Fill `result`, whose elements are a multiple of BLOCK; 2 CHAINS `rounds` operations for each."""
    multiply_adds_kernel[(result.numel() // BLOCK,)](result, 0.5, 1.0, rounds, BLOCK=BLOCK, num_warps=WARPS)


def multiply_add_rate(clock: CudaClock) -> float:
    """Float32 operations a second of the GPU that is there."""
    programs = torch.cuda.get_device_properties().multi_processor_count * PROGRAMS_OF_MULTIPROCESSOR
    result = torch.empty(programs * BLOCK, device="cuda")
    with clock:
        seconds = min(clock.time({"it": [lambda: multiply_adds(result, ROUNDS)]}, 3)["it"])
    return 2 * CHAINS * ROUNDS * result.numel() / seconds
