"""Tests of the native libraries' files and their use of torch and Python, and of the CPU kernels under sanitizers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fractalops import backends
from tests.support.requirements import find_binutil, setup_functions, skip_or_fail

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "sanitizers"
SANITIZERS = {
    "address": ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}
# For each program, the level that minimizes the compiler's and the program's time together.
OPTIMIZATION = {"kernels": "-O0", "rasters": "-O0", "learner": "-O0", "orbits": "-O1", "strips": "-O1"}
FLAGS = ["-std=c++20", "-g1", "-Wno-psabi", "-pthread", "-DFRACTALOPS_BASELINE_ONLY"]
AVX2 = ["-mavx2", "-mfma"]
# Options that compile a whole program like one of the library's copies of a kernel. The third copy has vectors of 64
# bytes. Here they are split into halves, so the processor need not have AVX-512.
SETS = {"baseline": [], "avx2": AVX2, "64 bytes": [*AVX2, "-DFRACTALOPS_BASELINE_BYTES=64"]}

# C++ names that a stable ABI must not need: c10::, at:: and torch::, mangled, whole or as a part of a name.
UNSTABLE = re.compile(r"_Z\w*?(3c10|NK?2at|5torch)")
OF_PYTHON = re.compile(r"_?Py[A-Z_]\w+")


@pytest.fixture(params=backends.DEVICES)
def library(request: pytest.FixtureRequest) -> Path:
    """Return the file of each library."""
    if request.param == "cpu":
        request.getfixturevalue("native")
    path = backends.STATE.libraries[request.param]
    if request.param == "cuda" and not path.exists():
        skip_or_fail("nvcc", "the CUDA library was not built (FRACTALOPS_BUILD=all)")
    return path


def inspect(library: Path, tool: str, *options: str) -> str:
    """Return the output of a tool of binutils for the library."""
    command = [find_binutil(tool), *options, str(library)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_patterns_find_what_they_look_for() -> None:
    for name in ("_ZN3c105ErrorC1Ev", "_ZNK2at10TensorBase4sizeEv", "_ZN5torch8autograd3runEv", "_ZTIN3c105ErrorE"):
        assert UNSTABLE.match(name)
    assert not UNSTABLE.match("_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC1Ev")
    for name in ("PyObject_Call", "_Py_Dealloc", "Py_None"):
        assert OF_PYTHON.match(name)


def test_needs_only_c_names_of_torch_and_none_of_python(library: Path) -> None:
    names = [line.split()[-1] for line in inspect(library, "nm", "-D", "--undefined-only").splitlines()]
    assert any(name.startswith("aoti_torch_") for name in names)
    assert [name for name in names if UNSTABLE.match(name) or OF_PYTHON.match(name)] == []


def test_shows_no_names_of_its_own_nor_of_the_cuda_runtime_in_it(library: Path) -> None:
    names = [line.split()[-1] for line in inspect(library, "nm", "-D", "--defined-only").splitlines()]
    assert [name for name in names if "fractalops" in name or name.startswith("cuda")] == []


def test_finds_a_loaded_torch_by_name_and_no_folder_of_the_machine_that_built_it(library: Path) -> None:
    dynamic = inspect(library, "readelf", "-d")
    assert "Shared library: [libtorch.so]" in dynamic
    assert "libcuda" not in dynamic  # the runtime is linked statically, the driver is loaded by torch
    assert "libtorch_cuda" not in dynamic
    assert "python" not in dynamic
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic


def test_a_library_that_was_built_for_other_schemas_is_not_taken(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels would get other arguments than they expect."""
    assert setup_functions()["OP_TABLE"]["SCHEMAS_SYMBOL"] == backends.SCHEMAS_SYMBOL
    assert "cpu" not in backends.BackendState().load_errors
    monkeypatch.setattr(backends, "SCHEMAS_SYMBOL", "schemas_of_another_version")
    assert str(backends.BackendState().load_errors["cpu"]) == "it was built from another version of the source"


@pytest.mark.parametrize("library", ["cuda"], indirect=True)
def test_a_cuda_build_of_torch_takes_the_cuda_library(library: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "support" / "load_cuda_library.py"), str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    if torch.version.cuda is None:
        assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "failed: this torch was built without CUDA")
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("fractalops::draw_balanced_index has a kernel for CUDA: True\n")


def test_the_loader_of_the_cuda_library_has_a_help_text() -> None:
    command = [sys.executable, str(ROOT / "tests" / "support" / "load_cuda_library.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exits with 1 and the reason" in " ".join(done.stdout.split())


def find_compiler(sanitizers: list[str], folder: Path) -> str:
    """Return a C++ compiler whose programs run under these sanitizers."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        skip_or_fail("compiler", "no C++ compiler was found")
    (folder / "empty.cpp").write_text("int main() {}\n")
    command = [compiler, *sanitizers, str(folder / "empty.cpp"), "-o", str(folder / "empty")]
    if any(subprocess.run(each, capture_output=True).returncode != 0 for each in (command, [folder / "empty"])):
        skip_or_fail("sanitizers", f"{compiler} doesn't have {' '.join(sanitizers)}")
    return compiler


def can_run_avx2() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "avx2" in flags and "fma" in flags


SANITIZED = [
    pytest.param("kernels", "address", "avx2", marks=pytest.mark.slow),
    pytest.param("rasters", "address", "avx2", marks=pytest.mark.slow),
    pytest.param("learner", "address", "avx2", marks=pytest.mark.slow),
    ("orbits", "address", "avx2"),
    *(
        pytest.param(*each, marks=pytest.mark.slow)
        for each in (
            ("kernels", "address", "baseline"),
            ("kernels", "address", "64 bytes"),
            ("rasters", "address", "baseline"),
            ("rasters", "address", "64 bytes"),
            ("learner", "address", "64 bytes"),
            ("orbits", "address", "baseline"),
            ("learner", "thread", "avx2"),
            ("strips", "address", "avx2"),
            ("strips", "thread", "avx2"),
        )
    ),
]


@pytest.mark.parametrize(("program", "sanitizer", "instruction_set"), SANITIZED)
def test_kernels_under_the_sanitizers(program: str, sanitizer: str, instruction_set: str, tmp_path: Path) -> None:
    """Each instruction set is compared with plain loops in double, so they also agree with each other."""
    if instruction_set != "baseline" and not can_run_avx2():
        pytest.skip("this processor doesn't have AVX2")
    options = [*SANITIZERS[sanitizer], *SETS[instruction_set], OPTIMIZATION[program]]
    built = tmp_path / program
    command = [find_compiler(SANITIZERS[sanitizer], tmp_path), *FLAGS, *options, "-o", str(built)]
    subprocess.run([*command, str(PROGRAMS / f"{program}.cpp")], check=True)
    done = subprocess.run([built], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.stdout, done.returncode) == ("0 differences\n", 0)
