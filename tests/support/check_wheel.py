"""Test a wheel as a user installs it: `python -m tests.support.check_wheel WHEEL TORCH...`.

For each version of torch, install torch and the wheel into a new environment without a compiler on its path, run the
demo, and run the tests of the ops. Exit with 1 if one fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.support.requirements import ROOT

TESTS = ("test_affine_chain.py", "test_rbf_rasterize.py", "test_rasterize_points.py", "test_every_op.py")


def check(wheel: Path, torch: str, folder: Path) -> str:
    """Return a line about the wheel with a version of torch. Raise `CalledProcessError` if something fails."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    tools = ["pytest", "pytest-benchmark", "hypothesis", "pytest-xdist"]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"torch=={torch}", str(wheel), *tools], check=True)
    for name in ("tests", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHONPATH")}
    environment["PATH"] = str(folder / "venv" / "bin")  # no compiler
    fit = [python, "-m", "fractalops", "fit", "examples/leaf.png", "--preset", "draft", "--quiet", "-o", "fractals"]
    subprocess.run(fit, cwd=folder, env=environment, check=True)
    native = "import fractalops; print({each.backend for each in fractalops.list_backends() if each.device == 'cpu'})"
    found = subprocess.run(
        [python, "-c", native], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    if found.stdout != "{'native'}\n":
        raise RuntimeError(f"check: wheel must bring all native CPU ops, got {found.stdout}")
    tests = [python, "-m", "pytest", "-q", "-m", "not gpu and not slow", *(f"tests/ops/{name}" for name in TESTS)]
    done = subprocess.run(tests, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return f"torch {torch}: demo ran, ops: {done.stdout.strip().splitlines()[-1]}"


def main(argv: Sequence[str]) -> int:
    """Print a line for each version of torch. Return 1 if one fails."""
    wheel, *versions = argv
    failed = 0
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(check(Path(wheel).resolve(), version, Path(folder)), flush=True)
            except (subprocess.CalledProcessError, RuntimeError) as error:
                output = getattr(error, "stdout", None) or ""
                print(f"torch {version}: {error}\n{output}", flush=True)
                failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
