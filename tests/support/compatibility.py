"""Try the versions of Python, torch and Triton that the package supports; `docs/compatibility.md` has the results.

`python -m tests.support.compatibility` tries all rows of TRITONS and TORCHES, and updates the table.

- For each Triton: the kernels are compiled ahead of time for each architecture, with every set of constants.
- For each torch: both native libraries are built from the tracked files in a separate environment, and the tests of
  the ops run there, with the Triton kernels in the interpreter. The CUDA library is compiled, and loaded if torch has
  CUDA.

`triton` or `torch` and some versions as arguments restrict it to these. `--quick` creates no environment: it compiles
one case of the kernels with the oldest Triton for one architecture, and both libraries, without optimization, against
the oldest torch. It downloads these two packages, 2 GB unpacked.

Needs nvcc and, except for `--quick`, `python3.10`, ... on the path. An environment takes up to 6 GB in
build/compatibility. The packages are kept there.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.native.test_triton_resources import SHARED, check, check_gradients, compiled
from tests.support.check_wheel import TESTS
from tests.support.requirements import ROOT, quick_compilers, setup_functions

FOLDER = ROOT / "build" / "compatibility"
TABLE = ROOT / "docs" / "compatibility.md"
TITLE = """# Tried versions

`python -m tests.support.compatibility` writes this table. [Verification without a GPU](verification.md) explains it.

| Python | torch | Triton | date | result |
| --- | --- | --- | --- | --- |
"""
TRITONS = ("3.6.0", "3.7.1", "3.8.0", "3.9.0")
# Python, torch, and the Triton that torch's CUDA build requires.
TORCHES = (("3.10", "2.11.0", "3.6.0"), ("3.11", "2.13.0", "3.7.1"), ("3.12", "2.14.1", "3.8.0"))
KERNEL_TESTS = ("test_rbf_rasterize_triton.py", "test_rasterize_points_triton.py")
TOOLS = ("hypothesis", "ninja", "pytest", "pytest-benchmark", "pytest-xdist", "setuptools>=77", "wheel")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """Return a command's output. Exit with the output if the command fails."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} was not found")
    done = subprocess.run(command, cwd=cwd, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


def install_alone(package: str, version: str) -> Path:
    """Return a folder with one package and none of its dependencies."""
    folder = FOLDER / f"{package}-{version}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        run(sys.executable, *PIP, "--no-deps", "--target", partial, f"{package}=={version}")
        partial.rename(folder)
    return folder


def try_triton(version: str, architectures: Sequence[int], *cases: str) -> str:
    """Return the result of compiling the kernels of some or all cases. Raise `AssertionError` if a check fails."""
    rows, interpreted = [], 0
    for architecture in architectures:
        with tempfile.TemporaryDirectory() as cache:
            found = compiled(architecture, Path(cache), *cases, packages=install_alone("triton", version))
        check(architecture, found)
        interpreted += check_gradients(found)
        rows += found
    registers = max(row["REG"] for row in rows)
    names = ", ".join(f"sm_{each}" for each in architectures)
    return (
        f"{len(rows)} kernels for {names}: all compile, no spills, at most {registers} registers, no fused shuffles; "
        f"{interpreted} compiled backwards interpreted, gradients match"
    )


def copy_source(folder: Path) -> Path:
    """Copy the tracked files to a folder, so that a build leaves nothing in the working tree. Return the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in run("git", "ls-files").splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(python: str | Path, source: Path, **variables: str) -> Path:
    """Build a wheel with both libraries. Return its path."""
    nvcc = setup_functions()["find_nvcc"]()
    if nvcc is None:
        raise SystemExit(setup_functions()["NVCC_MISSING"])
    variables |= {"FRACTALOPS_BUILD": "all", "CUDA_HOME": str(Path(nvcc).parents[1])}
    variables.setdefault("TORCH_CUDA_ARCH_LIST", os.environ.get("TORCH_CUDA_ARCH_LIST", "8.6"))
    wheels = source / "wheels"
    options = ("--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels)
    run(python, "-m", "pip", "wheel", *options, source, **variables)
    return next(wheels.glob("*.whl"))


def try_torch(version: str, python: str, triton: str) -> str:
    """Return the result of building the libraries against a version of torch and running the tests with it."""
    folder = FOLDER / f"python-{python}-torch-{version}"
    executable = folder / "bin" / "python"
    if not executable.exists():
        run(f"python{python}", "-m", "venv", folder)
    run(executable, *PIP, f"torch=={version}", f"triton=={triton}", *TOOLS)
    wheel = build(executable, copy_source(folder / "source"))
    run(executable, *PIP, wheel)
    run(executable, *PIP, "--no-deps", "--force-reinstall", wheel)
    tried = folder / "tried"  # without the package, so that the installed one is imported
    shutil.rmtree(tried, ignore_errors=True)
    for name in ("tests", "examples"):
        shutil.copytree(folder / "source" / name, tried / name)
    shutil.copy(ROOT / "pyproject.toml", tried)
    libraries = "CPU library tested, CUDA library compiled"
    if run(executable, "-c", "import torch; print(torch.version.cuda or '')").strip():
        library = next(folder.glob("lib/python*/site-packages/fractalops/_cuda.so"))
        run(executable, ROOT / "tests" / "support" / "load_cuda_library.py", library)
        libraries += " and loaded"
    tests = [f"tests/ops/{name}" for name in (*TESTS, *KERNEL_TESTS)]
    lines = run(executable, "-m", "pytest", "-q", "-m", "not gpu and not slow", *tests, cwd=tried).splitlines()
    passed = re.match(r"\d+ passed", lines[-1])
    return f"{libraries}; tests of the ops: {passed[0] if passed else lines[-1]}"


def write(python: str, torch: str, triton: str, result: str) -> None:
    """Write a row of the table. It replaces an earlier one of the same versions."""
    key = f"| {python} | {torch} | {triton} |"
    rows = TABLE.read_text().splitlines()[TITLE.count("\n") :] if TABLE.exists() else []
    rows = [row for row in rows if not row.startswith(key)]
    rows.append(f"{key} {datetime.date.today().isoformat()} | {result} |")
    TABLE.write_text(TITLE + "\n".join(sorted(rows)) + "\n")
    print(rows[-1], flush=True)


def main() -> None:
    """Try the versions that the arguments name, up to the first failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("triton", "torch"), help="default: both")
    parser.add_argument("versions", nargs="*", help="some of the versions of that part; default: all")
    parser.add_argument("--architectures", nargs="+", type=int, default=list(SHARED), help="default: all, %(default)s")
    parser.add_argument("--quick", action="store_true", help="compile with the oldest versions only; write no table")
    arguments = parser.parse_args()
    if arguments.quick:
        print(f"Triton {TRITONS[0]}: {try_triton(TRITONS[0], [86], 'published')}", flush=True)
        source, torch = copy_source(FOLDER / "source"), install_alone("torch", TORCHES[0][1])
        wheel = build(sys.executable, source, PYTHONPATH=str(torch), **quick_compilers(source))
        print(f"torch {TORCHES[0][1]}: built {wheel.name}")
        return
    known = {"triton": list(TRITONS), "torch": [torch for _, torch, _ in TORCHES]}
    parts = [arguments.part] if arguments.part else list(known)
    if unknown := set(arguments.versions) - set(known[parts[0]]):
        parser.error(f"versions must be some of {', '.join(known[parts[0]])}, got {', '.join(sorted(unknown))}")
    for version in arguments.versions or known["triton"] if "triton" in parts else ():
        write("-", "-", version, try_triton(version, arguments.architectures))
    for python, version, triton in TORCHES if "torch" in parts else ():
        if version in (arguments.versions or known["torch"]):
            write(python, version, triton, try_torch(version, python, triton))


if __name__ == "__main__":
    main()
