"""The kernels' tests against the reference, again in a process for each copy that doesn't run here by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fractalops import backends

TESTS = {
    "ops/test_affine_chain.py": "native",
    "ops/test_draw_index.py": "test_native_equals_the_reference and draw_balanced_index",
    "ops/test_every_op.py": "(affine_chain or k_means) and native and not gradcheck",
    "fitting/test_native_steps.py": "draws or sizes",
}


@pytest.mark.parametrize("file", TESTS)
@pytest.mark.parametrize("name", backends.STATE.instruction_sets[:-1])
@pytest.mark.usefixtures("native")
def test_each_copy_passes_the_tests_of_its_op(name: str, file: str) -> None:
    """What runs here by itself is the best copy that the processor has."""
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parents[1] / file), "-k", TESTS[file]]
    environment = {**os.environ, "FRACTALOPS_INSTRUCTION_SET": name}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
