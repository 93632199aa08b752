"""The kernels' tests against the reference, repeated for each copy that is not the default of this processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fractalops import backends

TESTS = Path(__file__).parents[1]
SELECTED = {
    "ops/test_affine_chain.py": "native",
    "ops/test_draw_index.py": "test_native_equals_the_reference and draw_balanced_index",
    "ops/test_every_op.py": "(affine_chain or k_means) and native and not gradcheck",
    "ops/test_rasterize_orbit.py": "native and not error",
    "fitting/test_native_steps.py": "draws or sizes",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", backends.STATE.instruction_sets[:-1])
@pytest.mark.usefixtures("native")
def test_each_copy_passes_the_tests_of_its_ops(name: str) -> None:
    """The default is the best copy that the processor supports."""
    chosen = " or ".join(f"({Path(file).name} and ({selection}))" for file, selection in SELECTED.items())
    command = [sys.executable, "-m", "pytest", "-v", *(str(TESTS / file) for file in SELECTED), "-k", chosen]
    environment = {**os.environ, "FRACTALOPS_INSTRUCTION_SET": name}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for file in SELECTED:  # tests of each file were selected
        assert f"{file}::" in done.stdout
