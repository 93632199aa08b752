"""What comes out when the Triton kernels are compiled for each architecture: no spills, the expected instructions.

Needs no GPU; the compiler is in Triton's package.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.triton_compilation import fused_shuffles

ROOT = Path(__file__).parents[2]
# Shared memory of a block, in bytes: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
# What a multiprocessor has for several blocks at a time: a fifth of the least of the above.
BUDGET = 20 * 1024
WITH_TF32 = (80, 90)
SOURCE = "".join(path.read_text() for path in (ROOT / "kernels").glob("*.py"))
KERNELS = set(re.findall(r"^def (\w+_kernel)\(", SOURCE, re.MULTILINE))


def compiled(architecture: int, folder: Path, *cases: str) -> list[dict[str, Any]]:
    """What tests/support/triton_compilation.py prints, compiled afresh."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_compilation", str(architecture), *cases],
        # The default of Triton 3.10, which the kernels are not to depend on.
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
        # Of whole numbers only, whose sum doesn't depend on the order.
        assert (row["atomics"] > 0) == (row["kernel"] == "rasterize_points_count_kernel"), row
        assert row["shared"] <= min(BUDGET, SHARED[architecture]), row
        assert row["REG"] <= 240, row
        if row["kernel"] not in ("rbf_rasterize_fwd_kernel", "rbf_rasterize_bwd_kernel"):
            continue
        # Or the lanes that hold one sum would hold different bits.
        assert row["fused shuffles"] == 0, row
        assert row["shuffles"] > 0 or row["kernel"] == "rbf_rasterize_fwd_kernel", row  # which sums in its product
        # The exponential unit has no double precision.
        assert (row["exponentials"] > 0) == (row["type"] == "float32"), row
        assert row["fused"] > 0 or row["kernel"] == "rbf_rasterize_fwd_kernel", row  # which adds in its product
        if row["kernel"] == "rbf_rasterize_fwd_kernel" and row["type"] == "float32":
            assert row["constants"]["PRECISION"] == ("tf32x3" if architecture in WITH_TF32 else "ieee"), row
            assert (row["tensor cores"] > 0) == (architecture in WITH_TF32), row


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("FADD R2, R2, R3", 0),
        ("FFMA R2, R4, R5, R3", 1),
        ("@!P0 FFMA R2, R4, R5, R3", 1),
        ("FFMA R2, R4, R5, RZ", 0),
        ("MOV R6, R3 ; /*0020*/ FFMA R2, R4, R5, R6", 1),
        ("MOV R3, R6 ; /*0020*/ FFMA R2, R4, R5, R3", 0),
        ("LDS.64 R2, [R6] ; /*0020*/ FFMA R2, R4, R5, R3", 0),
        ("EXIT ; /*0020*/ FFMA R2, R4, R5, R3", 0),
    ],
)
def test_fused_shuffles_are_counted(instruction: str, expected: int) -> None:
    assert fused_shuffles(f"/*0000*/ SHFL.BFLY PT, R3, R2, 0x8, 0x1f ; /*0010*/ {instruction} ;") == expected


def test_kernels_compile_without_spills(tmp_path: Path) -> None:
    rows = compiled(90, tmp_path, "published")
    assert {(row["kernel"], row["type"]) for row in rows} == {
        (f"rbf_rasterize_{direction}_kernel", dtype) for direction in ("fwd", "bwd") for dtype in ("float32", "float64")
    }
    check(90, rows)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """All kernels, for all architectures."""
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
