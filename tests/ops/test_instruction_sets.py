"""The ops' tests against the reference, again in a process that takes the kernels' copy for any processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = {
    "test_affine_chain.py": "native",
    "test_draw_index.py": "test_native_equals_the_reference and draw_balanced_index",
    "test_every_op.py": "affine_chain and native and not gradcheck",
}


@pytest.mark.parametrize("file", TESTS)
@pytest.mark.usefixtures("native")
def test_the_baseline_passes_the_tests_of_its_op(file: str) -> None:
    """What runs here by itself is the best copy that the processor has."""
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).with_name(file)), "-k", TESTS[file]]
    environment = {**os.environ, "FRACTALOPS_INSTRUCTION_SET": "baseline"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
