"""Requirements of tests. If one is missing, tests skip, or fail if FRACTALOPS_TEST_REQUIRE lists it."""

from __future__ import annotations

import os
import runpy
import shlex
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
    """Return the names in FRACTALOPS_TEST_REQUIRE, for example "nvcc,gpu"."""
    return os.environ.get(VARIABLE, "").replace(",", " ").split()


def check_required() -> None:
    """Refuse a name that no test uses: a misspelled name would let tests skip."""
    unknown = sorted(set(required()) - set(NAMES))
    if unknown:
        raise pytest.UsageError(f"{VARIABLE} must list some of {', '.join(NAMES)}, got {', '.join(unknown)}")


def skip_or_fail(name: str, reason: str) -> NoReturn:
    """Skip the test because `name`, one of NAMES, is missing. Fail it if FRACTALOPS_TEST_REQUIRE lists the name."""
    assert name in NAMES
    if name in required():
        pytest.fail(f"{VARIABLE}={','.join(required())}: {reason}")
    pytest.skip(reason)


def need_gpu() -> None:
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")


def open_triton_device(name: str) -> str:
    """Return the device for tensors of Triton kernels: a GPU for the name "gpu", the interpreter's for "cpu"."""
    if name == "gpu":
        need_gpu()
        return "cuda"
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU in this process, not in the interpreter")
    return "cpu"


def find_binutil(name: str) -> str:
    """Return a program of binutils. Without it, skip or fail the test."""
    return shutil.which(name) or skip_or_fail("binutils", f"{name} was not found")


def need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        skip_or_fail("matplotlib", "matplotlib is not installed")


def need_laspy() -> None:
    if find_spec("laspy") is None or find_spec("lazrs") is None:
        skip_or_fail("laspy", "laspy or lazrs is not installed")


def setup_functions() -> dict[str, Any]:
    """Return the definitions of setup.py. Nothing is built."""
    return runpy.run_path(str(ROOT / "setup.py"))


def find_nvcc() -> str:
    """Return the nvcc that the build uses. Without one, skip or fail the test."""
    functions = setup_functions()
    return functions["find_nvcc"]() or skip_or_fail("nvcc", functions["NVCC_MISSING"])


def quick_compilers(folder: Path) -> dict[str, str]:
    """Return variables that make a build skip slow optimizations. The speed of the libraries does not matter then."""
    compiler, command = folder / "c++", shlex.join(setup_functions()["find_compiler"]() or ["c++"])
    compiler.write_text(f'#!/bin/sh\nexec {command} "$@" -O0\n')
    compiler.chmod(0o755)
    return {"CXX": str(compiler), "NVCC_APPEND_FLAGS": "-Xcicc -O0 -Xptxas -O0"}
