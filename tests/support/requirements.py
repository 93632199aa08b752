"""What a test may lack: it then skips with a reason, or fails where FRACTALOPS_TEST_REQUIRE says it must be there."""

from __future__ import annotations

import os
import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

ROOT = Path(__file__).parents[2]
VARIABLE = "FRACTALOPS_TEST_REQUIRE"
NAMES = ("compiler", "sanitizers", "valgrind", "binutils", "matplotlib", "laspy", "nvcc", "chromium", "gpu")


def required() -> list[str]:
    """The names that FRACTALOPS_TEST_REQUIRE, "nvcc,gpu" say, lists."""
    return os.environ.get(VARIABLE, "").replace(",", " ").split()


def check_required() -> None:
    """Refuse a name that no test asks for: a misspelt one would let tests skip."""
    unknown = sorted(set(required()) - set(NAMES))
    if unknown:
        raise pytest.UsageError(f"{VARIABLE} must list some of {', '.join(NAMES)}, got {', '.join(unknown)}")


def skip_or_fail(name: str, reason: str) -> NoReturn:
    """Skip the test for want of `name`, one of NAMES; fail it when FRACTALOPS_TEST_REQUIRE lists the name."""
    assert name in NAMES
    if name in required():
        pytest.fail(f"{VARIABLE}={','.join(required())}: {reason}")
    pytest.skip(reason)


def need_gpu() -> None:
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")


def open_triton_device(name: str) -> str:
    """The device of the tensors that Triton's kernels take: by the name "gpu", or "cpu" for their interpreter."""
    if name == "gpu":
        need_gpu()
        return "cuda"
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU in this process, not in the interpreter")
    return "cpu"


def find_binutil(name: str) -> str:
    """A program of binutils; without it the test skips or fails."""
    return shutil.which(name) or skip_or_fail("binutils", f"{name} was not found")


def need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        skip_or_fail("matplotlib", "matplotlib is not installed")


def need_laspy() -> None:
    if find_spec("laspy") is None or find_spec("lazrs") is None:
        skip_or_fail("laspy", "laspy or lazrs is not installed")


def setup_functions() -> dict[str, Any]:
    """Return what setup.py defines; it builds nothing here."""
    return runpy.run_path(str(ROOT / "setup.py"))


def find_nvcc() -> str:
    """The nvcc that the build takes; without one the test skips or fails."""
    functions = setup_functions()
    return functions["find_nvcc"]() or skip_or_fail("nvcc", functions["NVCC_MISSING"])
