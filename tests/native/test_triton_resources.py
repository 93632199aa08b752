"""Tests of the Triton kernels compiled for each architecture: no spills, and the expected instructions.

They need no GPU: the compiler is in Triton's package.
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

ROOT = Path(__file__).parents[2]
# Shared memory of a block, in bytes: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
# Limit that lets a multiprocessor run several blocks at a time: a fifth of the smallest size above.
BUDGET = 20 * 1024
WITH_TF32 = (80, 90)
SOURCE = "".join(path.read_text() for path in (ROOT / "kernels").glob("*.py"))
KERNELS = set(re.findall(r"^def (\w+_kernel)\(", SOURCE, re.MULTILINE))


def compiled(architecture: int, folder: Path, *cases: str) -> list[dict[str, Any]]:
    """Return the rows that tests/support/triton_compilation.py prints, compiled without a cache."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
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
        assert (row["STACK"], row["LOCAL"]) == (0, 0), row
        # Its atomics add whole numbers only, so the sum does not depend on the order.
        assert (row["atomics"] > 0) == (row["kernel"] == "rasterize_points_count_kernel"), row
        assert row["shared"] <= min(BUDGET, SHARED[architecture]), row
        assert row["REG"] <= 240, row
        if row["kernel"] not in ("rbf_rasterize_fwd_kernel", "rbf_rasterize_bwd_kernel"):
            continue
        # The exponential unit has no double precision.
        assert (row["exponentials"] > 0) == (row["type"] == "float32"), row
        assert row["fused"] > 0 or row["kernel"] == "rbf_rasterize_fwd_kernel", row  # its matrix product adds
        if row["kernel"] == "rbf_rasterize_fwd_kernel" and row["type"] == "float32":
            assert row["precision"] == ("tf32x3" if architecture in WITH_TF32 else "ieee"), row
            assert (row["tensor cores"] > 0) == (architecture in WITH_TF32), row


def test_kernels_compile_without_spills(tmp_path: Path) -> None:
    rows = compiled(90, tmp_path, "published")
    assert {(row["kernel"], row["type"]) for row in rows} == {
        (f"rbf_rasterize_{direction}_kernel", dtype) for direction in ("fwd", "bwd") for dtype in ("float32", "float64")
    }
    check(90, rows)


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
