"""Launching the package's Triton kernels."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

OPTIONS = {
    # What a thread may hold. Left alone, the compiler stops at the next round occupancy, and spills what is over.
    "maxnreg": 240,
    # A product and a sum in one instruction: Triton's default up to 3.9, not from 3.10 on.
    "enable_fp_fusion": True,
    # Loads are not pipelined. Triton 3.6 spills registers when it pipelines the forward of one large tile.
    "num_stages": 1,
}


def launch(kernel: Any, programs: int, warps: int, *arguments: Any, **constants: Any) -> None:
    """Run `programs` programs of a kernel on the device, and its current stream, of the first argument.

    One dimension of the grid holds them all: it takes 2^31 - 1 where the other two take 65,535.
    """
    first: Tensor = arguments[0]
    # Triton launches on the current device, whatever its arguments'.
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[(programs,)](*arguments, **constants, num_warps=warps, **OPTIONS)
