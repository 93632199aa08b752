"""Tests of the compiled CUDA kernels: no spills, no local memory, registers and shared memory within budget.

A kernel's budget is in its source, in the comment before `__launch_bounds__`. The compiler's report needs nvcc, but no
GPU. The shared memory of a launch is measured by the emulation.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.support import emulation
from tests.support.cases import ChainCase
from tests.support.cuda_chain import SCAN, SEQUENTIAL, Device, inputs_of, upstream
from tests.support.requirements import find_binutil, find_nvcc, setup_functions, skip_or_fail

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "csrc" / "cuda"
SOURCES = sorted(FOLDER.glob("*.cu"))
ARCHITECTURES = ("8.0", "8.6", "9.0", "12.0")
BUDGET = (
    r"// Budget: ([^\n]+)\n// Shared memory: ([^\n]+)\n(template <typename T\b)?"
    r"(?:(?!// Budget)[\s\S])*?__launch_bounds__\([^()]*\)\s+(\w+)\("
)
# A kernel in the compiler's report, with demangled names.
ENTRY = (
    r"^'(?:void )?(?:\w+::)*(\w+(?:<[^>]*>)?)\(.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?"
)


@dataclass(frozen=True)
class Kernel:
    """The compiler's report of one instance of a kernel."""

    name: str
    registers: int
    stack: int
    spills: int
    shared: int  # static; the kernels use only dynamic memory, which the launch limits


@dataclass(frozen=True)
class Budget:
    """The limits of an instance of a kernel."""

    registers: int
    shared: int  # bytes of dynamic shared memory, without tables that are put there if they fit


def budgets() -> dict[tuple[str, str], Budget]:
    """Return the budgets by the kernel's name and type. The type is "" if the kernel is not a template."""
    found = {}
    for path in FOLDER.glob("*.h"):
        for kernel in re.finditer(BUDGET, path.read_text()):
            registers, shared = numbers(kernel[1], "registers"), numbers(kernel[2], "bytes")
            for place, kind in ((0, "float"), (-1, "double")) if kernel[3] else ((0, ""),):
                found[kernel[4], kind] = Budget(registers[place], shared[place])
    return found


def numbers(budget: str, unit: str) -> list[int]:
    """Return one number for both types, or one for each."""
    found = [int(number.replace(",", "")) for number in re.findall(rf"([\d,]+)(?= {unit}| \(float64\))", budget)]
    assert len(found) in (1, 2), f"a budget must name {unit}, got {budget!r}"
    return found


def nvcc_command(source: Path) -> list[str]:
    """Return the command that compiles the source as setup.py does, except for the architecture and the output."""
    build = setup_functions()
    if build["find_compiler"]() is None:
        skip_or_fail("compiler", "no C++ compiler was found")
    command = [find_nvcc(), "-ccbin", *build["find_compiler"](), *build["LANGUAGE"].split(), "-DUSE_CUDA"]
    return [*command, "-Xcompiler", "-fPIC", "-isystem", str(build["torch_folder"]() / "include"), str(source)]


def compile_for(architecture: str, folder: Path, source: Path, command: list[str]) -> list[Kernel]:
    """Return the report of each kernel of the source, compiled by its `nvcc_command`.

    The PTX is written to a folder named after the architecture.
    """
    own = folder / architecture
    own.mkdir(exist_ok=True)
    kept = ["--keep", "--keep-dir", str(own), "-o", str(own / f"{source.stem}.cubin")]
    output = ["--resource-usage", "-cubin", f"-arch=sm_{architecture.replace('.', '')}", *kept]
    done = subprocess.run([*command, *output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout + done.stderr)


def parse(report: str) -> list[Kernel]:
    report = subprocess.run([find_binutil("c++filt")], input=report, check=True, capture_output=True, text=True).stdout
    kernels = []
    for entry in report.split("Compiling entry function ")[1:]:
        found = re.search(ENTRY, entry, re.S)
        assert found, entry
        stack, stores, loads, registers, shared = (int(number or 0) for number in found.groups()[1:])
        kernels.append(Kernel(found[1], registers, stack, stores + loads, shared))
    return kernels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which `reports` creates a folder for each architecture."""
    return tmp_path_factory.mktemp("cubins")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, list[Kernel]]:
    # Not in a thread: this can skip the test.
    commands = {source: nvcc_command(source) for source in SOURCES}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = {
            architecture: [
                pool.submit(compile_for, architecture, folder, source, command) for source, command in commands.items()
            ]
            for architecture in ARCHITECTURES
        }
        return {
            architecture: [kernel for report in reports for kernel in report.result()]
            for architecture, reports in compiled.items()
        }


def test_every_kernel_states_its_budget() -> None:
    source = "".join(path.read_text() for path in FOLDER.iterdir())
    assert len({name for name, _ in budgets()}) == source.count("__global__ void") > 0


def test_the_report_is_read_as_the_compiler_writes_it() -> None:
    report = """ptxas info    : Compiling entry function '_ZN1a4walkIfLi2EEEvPf' for 'sm_80'
ptxas info    : Function properties for _ZN1a4walkIfLi2EEEvPf
    8 bytes stack frame, 16 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 43 registers, used 1 barriers, 128 bytes smem, 392 bytes cmem[0]
"""
    assert parse(report) == [Kernel("walk<float, 2>", 43, 8, 52, 128)]
    plain = report.replace("_ZN1a4walkIfLi2EEEvPf", "_ZN1a4walkEPf")
    assert parse(plain) == [Kernel("walk", 43, 8, 52, 128)]


SCANNED = ["affine_chain_scan_compose", "affine_chain_scan_link"]
# Forward, then backward.
LAUNCHED_BY_THE_CHAIN = {
    SEQUENTIAL: ["affine_chain_forward_sequential", "affine_chain_backward_sequential", "sum_slots"],
    SCAN: [*SCANNED, "affine_chain_forward_scan", *SCANNED, "affine_chain_backward_scan", "sum_slots"],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"])
def test_the_chain_asks_for_the_shared_memory_that_is_stated(dtype: torch.dtype) -> None:
    """The case has 3 dimensions, more than one chunk, and more maps than fit into shared memory."""
    case = ChainCase("large", 1, 5121, 2**12, 3, torch.int32)
    device, inputs, grad = Device.open("cpu"), inputs_of(case, dtype), upstream(case)
    asked: dict[str, int] = {}
    for form, kernels in LAUNCHED_BY_THE_CHAIN.items():
        launches = emulation.shared_bytes(Device.op, lambda form=form: device.both(inputs, form, grad))
        for kernel, shared in zip(kernels, launches, strict=True):
            asked[kernel] = max(asked.get(kernel, 0), shared)
    kind = {torch.float32: "float", torch.float64: "double"}[dtype]
    stated = {name: budget.shared for (name, each), budget in budgets().items() if each == kind}
    assert asked == {name: shared for name, shared in stated.items() if not name.startswith("draw_balanced_index")}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_within_their_budgets(architecture: str, reports: dict[str, list[Kernel]]) -> None:
    allowed = budgets()
    kernels = reports[architecture]
    seen = set()
    for kernel in kernels:
        stem, _, arguments = kernel.name.partition("<")
        kind = arguments.rstrip(">").split(",")[0]
        seen.add((stem, kind))
        assert (kernel.stack, kernel.spills, kernel.shared) == (0, 0, 0), kernel
        assert kernel.registers <= allowed[stem, kind].registers, kernel
    assert seen == set(allowed)


@pytest.mark.slow
@pytest.mark.usefixtures("reports")
def test_the_chain_reads_and_writes_global_memory_in_words_of_16_bytes(folder: Path) -> None:
    """The chain loads an index of each width, upstream gradients and points by words, and stores points by words."""
    code = (folder / "8.0" / "affine_chain.ptx").read_text()
    entries = re.findall(r"\.entry \w*affine_chain_(forward|backward)_\w+\((.*?)^\}", code, re.M | re.S)
    assert len(entries) == 2 * 2 * 2 * 2  # directions, forms, types, dimensions
    for direction, code in entries:
        loads = re.findall(r"\bld\.global(?:\.nc)?\.(?:v4\.\w32|v2\.\w64)\b", code)
        stores = re.findall(r"\bst\.global(?:\.cg)?\.(?:v4\.\w32|v2\.\w64)\b", code)
        assert len(loads) >= {"forward": 3, "backward": 5}[direction]
        assert len(stores) >= {"forward": 1, "backward": 0}[direction]
