"""Compile the Triton kernels for an architecture, without a GPU, and print their resources as JSON.

Run as `python -m tests.support.triton_compilation 90 [CASE...]`. It needs its own process because Triton decides only
once whether to interpret kernels.

The launchers run as on a GPU, but with tensors without memory, and a launch only compiles. So each kernel is compiled
with the constants and specializations of its plan.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from fractalops.kernels import rasterize_points, rbf_rasterize
from fractalops.kernels.launch import OPTIONS

# name, images, points, size, channels (0: no weight)
RASTERS = [
    ("published", 50, 300, (32, 32), 0),
    ("many images", 2000, 300, (28, 28), 0),
    ("color", 50, 300, (32, 32), 3),
    ("color, many images", 600, 300, (63, 100), 3),
    ("binned", 1, 100_000, (1024, 1024), 0),
    ("binned, color", 1, 100_000, (1024, 1024), 3),
    ("odd sizes", 1, 1, (1, 7), 1),
    ("one of everything", 1, 1, (1, 1), 0),
    ("64-bit sizes", 3, 2**31 + 1, (63, 100), 3),
]
DOUBLES = ("published", "binned, color", "odd sizes")  # float64 kernels have one tile size, so they need fewer cases


class NoDevice:
    """A replacement for Triton's driver, which names the architecture. There is no device to launch on."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def resources(cubin: bytes) -> dict[str, int]:
    """Return the resources of a kernel by cuobjdump: REG, STACK, SHARED, LOCAL."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", done.stdout)}


def compile_all(architecture: int, cases: list[str]) -> list[dict[str, Any]]:
    """Return the resources and instruction counts of all kernels that the launchers would run for the cases."""
    driver.set_active(NoDevice(architecture))
    capability = (architecture // 10, architecture % 10)
    rbf_rasterize._capability = lambda tensor: capability
    rows: list[dict[str, Any]] = []
    case = ""

    def compile_only(kernel: Any, programs: int, warps: int, *arguments: Any, **constants: Any) -> None:
        made = kernel.warmup(*arguments, grid=(programs,), num_warps=warps, **OPTIONS, **constants)
        code = made.asm["ptx"]
        rows.append(
            {
                "case": case,
                "kernel": kernel.__name__,
                "type": str(arguments[0].dtype).removeprefix("torch."),
                "precision": constants.get("PRECISION"),
                "shared": made.metadata.shared,
                "exponentials": code.count("ex2.approx"),
                "tensor cores": len(re.findall(r"\b(?:mma\.sync|wgmma|tcgen05\.mma)", code)),
                "fused": code.count("fma.rn.f"),
                "atomics": len(re.findall(r"\b(?:atom|red)\.", code)),
                **resources(made.asm["cubin"]),
            }
        )

    rbf_rasterize.launch = rasterize_points.launch = compile_only
    for dtype in (torch.float32, torch.float64):
        for name, images, length, (height, width), channels in RASTERS:
            if (cases and name not in cases) or (dtype == torch.float64 and name not in DOUBLES):
                continue
            case = name
            points = torch.empty(images, length, 2, dtype=dtype, device="meta")
            bandwidth = torch.empty(images, dtype=dtype, device="meta")
            weight = points.new_zeros(images, length, channels) if channels else None
            image = rbf_rasterize.rbf_rasterize_fwd(points, weight, bandwidth, height, width, 1e-6)
            for needs_bandwidth in (False, True):
                rbf_rasterize.rbf_rasterize_bwd(image, points, weight, bandwidth, 1e-6, needs_bandwidth)
        case, points = "counted", torch.empty(50, 100_000, 2, dtype=dtype, device="meta")
        if case in cases or not cases:
            for side, binary in ((1, False), (3, True)):
                patch = torch.empty(50, side, side, dtype=torch.uint8, device="meta")
                rasterize_points.rasterize_points(points, patch, 256, 256, binary)
    return rows


if __name__ == "__main__":
    assert Path(triton.knobs.nvidia.cuobjdump.path).exists()
    print(json.dumps(compile_all(int(sys.argv[1]), sys.argv[2:])))
