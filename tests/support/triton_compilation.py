"""Compile the Triton kernels for an architecture, without a GPU, and print their resources as JSON.

Run as `python -m tests.support.triton_compilation 90 [CASE...]`. It needs a separate process, because Triton chooses
between its compiler and its interpreter only once per process.

The launchers run as on a GPU, but with tensors without memory, and a launch only compiles. So each kernel is compiled
with the constants and specializations of its plan.
"""

from __future__ import annotations

import itertools
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

from fractalops.kernels import rasterize_points, rbf_rasterize, rbf_rasterize_points
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
# Small and large tiles, one and several to an image, with and without bins; one and several runs of points; channels.
EVERY_PLAN = "every plan"
DOUBLES = ("published", "binned, color", "odd sizes", EVERY_PLAN)  # float64 has one tile size and takes fewer cases
RASTERS += [
    (EVERY_PLAN, images, length, (side, side), channels)
    for images, side in ((50, 16), (50, 32), (16, 96), (600, 32), (600, 64), (600, 100))
    for length, channels in itertools.product((4000, 5000), (0, 1, 2, 4))
]


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


def inspect(cubin: bytes, *options: str) -> str:
    """Return what cuobjdump prints about a kernel: its resources, and what the options select."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", *options, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fused_shuffles(code: str) -> int:
    """Return the number of fused multiply-adds that read a value from a shuffle, in machine instructions.

    A sum over lanes adds each lane's value to its partner's: v + shuffle(v). If v is a product and the compiler fuses
    it, the lane adds its unrounded product to its partner's rounded one, and the two lanes get different bits.

    Instructions are read in the order of the code. A register counts as shuffled from a SHFL, or a copy of its result,
    until an instruction without a condition writes to it, or until a jump without a condition. Values that a loop
    carries to its next iteration, or that pass through shared memory, are not followed.
    """
    shuffled: set[int] = set()
    fused = 0
    for guard, operation, operands in re.findall(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+ )?([A-Z][\w.]*) ([^;]*);", code):
        guard = guard or re.search(r"^!?UP\d", operands)  # BRA.U has its condition as an operand
        if not guard and operation.startswith(("EXIT", "BRA", "RET")):
            shuffled.clear()
        shuffles = operation.startswith("SHFL")
        # A shuffle writes a predicate first. A store, a branch and a comparison write no register.
        target = re.match(r"U?P\w+, R(\d+)" if shuffles else r"R(\d+)", operands)
        sources = {int(number) for number in re.findall(r"\bR(\d+)", operands.partition(",")[2])}
        pairs = re.match(r"D|CS2R(?!\.32)|F\w+2\b|.*(64|WIDE)", operation)
        words = 4 if re.search("128|MMA", operation) else 2 if pairs else 1
        if operation.startswith(("FFMA", "DFMA")):
            fused += any(source + word in shuffled for source in sources for word in range(words))
        if target is None:
            continue
        copies = operation.startswith(("MOV", "IMAD.MOV")) and not shuffled.isdisjoint(sources)
        written = range(int(target[1]), int(target[1]) + words)
        if shuffles or copies:
            shuffled.update(written)
        elif not guard:
            shuffled.difference_update(written)
    return fused


def compile_all(architecture: int, cases: list[str]) -> list[dict[str, Any]]:
    """Return the resources and instruction counts of all kernels that the launchers would run for the cases.

    Each kernel is compiled once. If one does not compile, its row has the reason in "error" instead.
    """
    driver.set_active(NoDevice(architecture))
    capability = (architecture // 10, architecture % 10)
    rbf_rasterize._capability = lambda tensor: capability
    rows: dict[str, dict[str, Any]] = {}
    case = ""

    def compile_only(kernel: Any, programs: int, warps: int, *arguments: Any, **constants: Any) -> None:
        row = {
            "kernel": kernel.__name__,
            "type": str(arguments[0].dtype).removeprefix("torch."),
            "constants": constants,
        }
        if case == EVERY_PLAN and any(row.items() <= other.items() for other in rows.values()):
            return
        row["case"] = case
        try:
            made = kernel.warmup(*arguments, grid=(programs,), num_warps=warps, **OPTIONS, **constants)
        except RuntimeError as error:
            rows[f"failure {len(rows)}"] = row | {"error": str(error)}
            return
        if made.hash in rows:
            return
        code = made.asm["ptx"]
        # Only this kernel sums floating-point numbers over lanes. Disassembling the others takes minutes.
        sums = kernel is rbf_rasterize.rbf_rasterize_bwd_kernel
        report = inspect(made.asm["cubin"], *["--dump-sass"] * sums)
        rows[made.hash] = {
            **row,
            "ptx": code if sums else "",
            "shared": made.metadata.shared,
            "exponentials": code.count("ex2.approx"),
            "tensor cores": len(re.findall(r"\b(?:mma\.sync|wgmma|tcgen05\.mma)", code)),
            # Only those that add a register: a rounded product adds the constant 0.
            "fused": len(re.findall(r"fma\.rn\.f[^;]*, %\w+;", code)),
            "shuffles": report.count("SHFL"),
            "fused shuffles": fused_shuffles(report),
            "atomics": len(re.findall(r"\b(?:atom|red)\.", code)),
            **{name: int(number) for name, number in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", report)},
        }

    rbf_rasterize.launch = rbf_rasterize_points.launch = rasterize_points.launch = compile_only
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
    return list(rows.values())


if __name__ == "__main__":
    assert Path(triton.knobs.nvidia.cuobjdump.path).exists()
    print(json.dumps(compile_all(int(sys.argv[1]), sys.argv[2:])))
