"""What a test may lack: it then skips with a reason, or fails where FRACTALOPS_TEST_REQUIRE says it must be there."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any, NoReturn

import pytest
import setuptools

ROOT = Path(__file__).parent.parent
NAMES = ("nvcc", "gpu")


def skip_or_fail(name: str, reason: str) -> NoReturn:
    """Skip the test for want of `name`; fail it when FRACTALOPS_TEST_REQUIRE, "nvcc,gpu" say, lists the name."""
    required = os.environ.get("FRACTALOPS_TEST_REQUIRE", "").replace(",", " ").split()
    unknown = set(required) - set(NAMES)
    if unknown:
        pytest.fail(f"FRACTALOPS_TEST_REQUIRE must list some of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    if name in required:
        pytest.fail(f"FRACTALOPS_TEST_REQUIRE={','.join(required)}: {reason}")
    pytest.skip(reason)


def setup_functions() -> dict[str, Any]:
    """What setup.py defines; it builds nothing here."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(setuptools, "setup", lambda **arguments: None)
        context.setenv("FRACTALOPS_BUILD", "none")
        return runpy.run_path(str(ROOT / "setup.py"))


def find_nvcc() -> str:
    """The nvcc that the build takes; without one the test skips or fails."""
    functions = setup_functions()
    return functions["find_nvcc"]() or skip_or_fail("nvcc", functions["NVCC_MISSING"])
