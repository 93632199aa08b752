"""Tests of the Triton kernels compiled for each architecture: no spills, and the expected instructions.

They need no GPU: the compiler is in Triton's package.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cases import RasterCase
from tests.support.ptx import BUFFER, Program
from tests.support.tolerances import assert_all_match
from tests.support.triton_compilation import fused_shuffles

ROOT = Path(__file__).parents[2]
# Shared memory of a block, in bytes: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
# Limit that lets a multiprocessor run several blocks at a time: a fifth of the smallest size above.
BUDGET = 20 * 1024
WITH_TF32 = (80, 90)
INTERPRETED = ("published", "color")  # cases whose compiled backward runs on the CPU
SOURCE = "".join(path.read_text() for path in (ROOT / "kernels").glob("*.py"))
KERNELS = set(re.findall(r"^def (\w+_kernel)\(", SOURCE, re.MULTILINE))


def compiled(architecture: int, folder: Path, *cases: str, packages: Path | None = None) -> list[dict[str, Any]]:
    """Return the rows that tests/support/triton_compilation.py prints, compiled without a cache.

    `packages` is the folder of another Triton.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_compilation", str(architecture), *cases],
        # This is the default of Triton 3.10. The kernels must not depend on it.
        env=environment | {"TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def check(architecture: int, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert "error" not in row, row
        assert (row["STACK"], row["LOCAL"]) == (0, 0), row
        # Its atomics add whole numbers only, so the sum does not depend on the order.
        assert (row["atomics"] > 0) == (row["kernel"] == "rasterize_points_count_kernel"), row
        assert row["shared"] <= min(BUDGET, SHARED[architecture]), row
        assert row["REG"] <= 240, row
        if row["kernel"] not in ("rbf_rasterize_fwd_kernel", "rbf_rasterize_bwd_kernel"):
            continue
        # The exponential unit has no double precision.
        assert (row["exponentials"] > 0) == (row["type"] == "float32"), row
        if row["kernel"] == "rbf_rasterize_bwd_kernel":  # the forward adds only in its matrix product
            assert row["fused"] > 0, row
            # Otherwise lanes that have the same sum would have different bits.
            assert row["fused shuffles"] == 0 < row["shuffles"], row
        elif row["type"] == "float32":
            assert row["constants"]["PRECISION"] == ("tf32x3" if architecture in WITH_TF32 else "ieee"), row
            assert (row["tensor cores"] > 0) == (architecture in WITH_TF32), row


def check_gradients(rows: list[dict[str, Any]]) -> int:
    """Run the compiled backward on the CPU and compare its gradients with the reference. Return the number of kernels.

    The interpreter raises an error if threads that have the same sum store different bits.
    """
    kernels = [row for row in rows if row["kernel"] == "rbf_rasterize_bwd_kernel" and row["case"] in INTERPRETED]
    for row, tau in itertools.product(kernels, (1.0, 9.0)):  # windows of at most 16 columns, and of more
        channels, needs_bandwidth = 3 if row["constants"]["WEIGHTED"] else 0, row["constants"]["NEEDS_BANDWIDTH"]
        case = RasterCase("compiled", batch=2, points=40, size=32, bandwidth=tau, channels=channels or None)
        inputs = case.inputs(torch.float32)
        inputs[0][:, 5, 0], inputs[0][:, 6, 1], inputs[0][:, 9] = math.nan, 1e30, -60.0  # points that reach no pixel
        dtype = np.dtype(row["type"])
        points, bandwidth = (inputs[k].numpy().astype(dtype) for k in (0, 2))
        weight = np.zeros(0, dtype) if inputs[1] is None else inputs[1].numpy().astype(dtype)
        image, expected = case.expected(inputs)
        generator = torch.Generator().manual_seed(1)
        grad = torch.randn(image.shape, generator=generator, dtype=torch.float64).numpy().astype(dtype)
        blocks = -(-case.points // row["constants"]["POINTS"])
        grad_points, grad_weight = np.full_like(points, np.nan), np.full_like(weight, np.nan)
        partial = np.full((case.batch, blocks), np.nan)
        buffers = [grad, points, weight, bandwidth, grad_points, grad_weight, partial]
        pointers = [np.uint64((number + 1) * BUFFER) for number in range(len(buffers))]
        # Triton leaves out a size of 1, and adds two pointers to memory that the kernel does not use.
        sizes = [np.int32(size) for size in (case.points, channels, 32, 32) if size]
        values = [*pointers, np.float64(-math.log(1e-6)), *sizes, np.uint64(0), np.uint64(0)]
        program = Program(row["ptx"], buffers)
        for number in range(case.batch * blocks):
            program.run(number, values)
        got = [grad_points, *[grad_weight] * bool(channels), *[partial.sum(1) / bandwidth**2] * needs_bandwidth]
        assert_all_match([torch.from_numpy(each.astype(dtype)) for each in got], expected[: len(got)])
    return len(kernels)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("FADD R2, R2, R3", 0),
        ("FFMA R2, R4, R5, R3", 1),
        ("@!P0 FFMA R2, R4, R5, R3", 1),
        ("FFMA R2, R4, R5, RZ", 0),
        ("FFMA2 R8, R4, R6, R2", 1),  # of the registers R2 and R3
        ("MOV R6, R3 ; /*0020*/ FFMA R2, R4, R5, R6", 1),
        ("MOV R3, R6 ; /*0020*/ FFMA R2, R4, R5, R3", 0),
        ("@P0 MOV R3, R6 ; /*0020*/ FFMA R2, R4, R5, R3", 1),
        ("LDS.64 R2, [R6] ; /*0020*/ FFMA R2, R4, R5, R3", 0),
        ("CS2R R2, SRZ ; /*0020*/ FFMA R2, R4, R5, R3", 0),  # which clears the registers R2 and R3
        ("CS2R.32 R2, SRZ ; /*0020*/ FFMA R2, R4, R5, R3", 1),
        ("EXIT ; /*0020*/ FFMA R2, R4, R5, R3", 0),
        ("BRA.U !UP0, 0x40 ; /*0020*/ FFMA R2, R4, R5, R3", 1),
    ],
)
def test_fused_shuffles_are_counted(instruction: str, expected: int) -> None:
    assert fused_shuffles(f"/*0000*/ SHFL.BFLY PT, R3, R2, 0x8, 0x1f ; /*0010*/ {instruction} ;") == expected


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return compiled(90, tmp_path_factory.mktemp("triton"), *INTERPRETED)


def test_kernels_compile_without_spills(some: list[dict[str, Any]]) -> None:
    assert {(row["kernel"], row["type"]) for row in some} == {
        (f"rbf_rasterize_{direction}_kernel", dtype) for direction in ("fwd", "bwd") for dtype in ("float32", "float64")
    }
    check(90, some)


def test_compiled_gradients_match_the_reference(some: list[dict[str, Any]]) -> None:
    assert check_gradients(some) == 6


@pytest.mark.parametrize(
    "statement",
    ["popc.b32 %r2, %r1", "mul.hi.u32 %r2, %r1, %r1", "setp.lt.and.u32 %p1, %r1, 4, %p2", "add.u32 %r2,\n%r1, %r1"],
)
def test_the_interpreter_refuses_what_it_does_not_run(statement: str) -> None:
    ptx = f""".visible .entry add() .reqntid 32 .maxnreg 240
    {{
        mov.u32 %r1, %tid.x;
        {statement};
        ret;
    }}"""
    with pytest.raises(NotImplementedError):
        Program(ptx, []).run(0, [])


def test_threads_must_store_the_same_bits() -> None:
    ptx = """
        .visible .entry store(.param .u64 store_param_0) .reqntid 32 .maxnreg 240
        {
            ld.param.b64 %rd1, [store_param_0];
            mov.u32 %r1, %tid.x;
            and.b32 %r2, %r1, MASK;
            st.global.b32 [%rd1], { %r2 };
            ret;
        }"""
    buffer = np.ones(1, np.uint32)
    Program(ptx.replace("MASK", "0"), [buffer]).run(0, [np.uint64(BUFFER)])
    assert buffer == [0]
    with pytest.raises(ValueError, match="different bits"):
        Program(ptx.replace("MASK", "1"), [buffer]).run(0, [np.uint64(BUFFER)])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of all kernels, for all architectures."""
    folder = tmp_path_factory.mktemp("triton")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = pool.map(lambda architecture: compiled(architecture, folder / str(architecture)), SHARED)
        return dict(zip(SHARED, rows, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SHARED)
def test_kernels_compile_without_spills_for_every_plan(
    architecture: int, everything: dict[int, list[dict[str, Any]]]
) -> None:
    assert {row["kernel"] for row in everything[architecture]} == KERNELS
    check(architecture, everything[architecture])
    assert check_gradients(everything[architecture]) == 6
