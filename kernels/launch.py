"""Launch the package's Triton kernels."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

OPTIONS = {
    # Registers of a thread. Without this limit the compiler chooses fewer, for a higher occupancy, and spills the rest.
    "maxnreg": 240,
    # Compute a product and a sum in one instruction. This is Triton's default up to 3.9, but not from 3.10 on.
    "enable_fp_fusion": True,
    # Loads are not pipelined. Triton would pipeline only the forward of images that are one tile. This takes up to 240
    # registers, and Triton 3.6 spills. Which is faster has not been measured.
    "num_stages": 1,
}


def launch(kernel: Any, programs: int, warps: int, *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the current stream of its first argument's device.

    The grid has one dimension, because the first dimension can have 2^31 - 1 programs and the others only 65,535.

    Args:
        kernel: The kernel, a function with `triton.jit`.
        programs: The number of programs.
        warps: The number of warps of a program.
        *arguments: The kernel's arguments. The first is a tensor.
        **constants: The kernel's `tl.constexpr` arguments.
    """
    first: Tensor = arguments[0]
    # Triton launches on the current device, which may not be the device of the arguments.
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[(programs,)](*arguments, **constants, num_warps=warps, **OPTIONS)
