"""What the compiler says of the CUDA kernels: no spills, no local memory, registers and shared memory within budget.

A kernel's budget stands in its source, in the comment before `__launch_bounds__`. Needs nvcc, but no GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.requirements import find_binutil, find_nvcc, setup_functions, skip_or_fail

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "csrc" / "cuda"
SOURCE = FOLDER / "affine_chain.cu"
ARCHITECTURES = ("8.0", "8.6", "9.0", "12.0")
BUDGET = r"// Budget: ([^\n]+)\n(?:(?!// Budget)[\s\S])*?__launch_bounds__\([^()]*\)\s+(\w+)\("


@dataclass(frozen=True)
class Kernel:
    """The compiler's report of one instance of a kernel."""

    name: str
    registers: int
    stack: int
    spills: int
    shared: int  # static; all of ours is dynamic, and the launch bounds it


def budgets() -> dict[tuple[str, str], int]:
    """Registers a kernel may take, by its name and type."""
    found = {}
    for path in FOLDER.glob("*.h"):
        for kernel in re.finditer(BUDGET, path.read_text()):
            numbers = [int(number) for number in re.findall(r"(\d+)(?= registers| \(float64\))", kernel[1])]
            assert len(numbers) in (1, 2), f"{path.name}: a budget must name registers, got {kernel[1]!r}"
            found[kernel[2], "float"], found[kernel[2], "double"] = numbers[0], numbers[-1]
    return found


def nvcc_command() -> list[str]:
    """What compiles the kernels as setup.py does, but for the architecture and the kind of output."""
    build = setup_functions()
    if build["find_compiler"]() is None:
        skip_or_fail("compiler", "no C++ compiler was found")
    command = [find_nvcc(), "-ccbin", *build["find_compiler"](), *build["LANGUAGE"].split(), "-DUSE_CUDA"]
    return [*command, "-Xcompiler", "-fPIC", "-isystem", str(build["torch_folder"]() / "include"), str(SOURCE)]


def compile_for(architecture: str, folder: Path, command: list[str]) -> list[Kernel]:
    """The compiler's report of each kernel."""
    number = architecture.replace(".", "")
    output = ["--resource-usage", "-cubin", f"-arch=sm_{number}", "-o", str(folder / f"{number}.cubin")]
    done = subprocess.run([*command, *output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout + done.stderr)


def parse(report: str) -> list[Kernel]:
    report = subprocess.run([find_binutil("c++filt")], input=report, check=True, capture_output=True, text=True).stdout
    kernels = []
    for entry in report.split("Compiling entry function ")[1:]:
        name = re.match(r"'(?:void )?(?:\w+::)*(\w+<[^>]*>)", entry)
        memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", entry)
        registers = re.search(r"Used (\d+) registers", entry)
        assert name, entry
        assert memory, entry
        assert registers, entry
        shared = re.search(r"(\d+) bytes smem", entry)
        kernels.append(
            Kernel(
                name[1],
                int(registers[1]),
                int(memory[1]),
                int(memory[2]) + int(memory[3]),
                int(shared[1]) if shared else 0,
            )
        )
    return kernels


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Kernel]]:
    command = nvcc_command()
    folder = tmp_path_factory.mktemp("cubins")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(lambda architecture: compile_for(architecture, folder, command), ARCHITECTURES)
        return dict(zip(ARCHITECTURES, compiled, strict=True))


def test_every_kernel_states_its_budget() -> None:
    source = "".join(path.read_text() for path in FOLDER.iterdir())
    assert len(budgets()) == 2 * source.count("__global__ void") > 0


def test_the_report_is_read_as_the_compiler_writes_it() -> None:
    report = """ptxas info    : Compiling entry function '_ZN1a4walkIfLi2EEEvPf' for 'sm_80'
ptxas info    : Function properties for _ZN1a4walkIfLi2EEEvPf
    8 bytes stack frame, 16 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 43 registers, used 1 barriers, 128 bytes smem, 392 bytes cmem[0]
"""
    assert parse(report) == [Kernel("walk<float, 2>", 43, 8, 52, 128)]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_within_their_budgets(architecture: str, reports: dict[str, list[Kernel]]) -> None:
    allowed = budgets()
    kernels = reports[architecture]
    seen = set()
    for kernel in kernels:
        stem, _, arguments = kernel.name.partition("<")
        seen.add((stem, arguments.split(",")[0]))
        assert (kernel.stack, kernel.spills, kernel.shared) == (0, 0, 0), kernel
        assert kernel.registers <= allowed[stem, arguments.split(",")[0]], kernel
    assert seen == set(allowed)


@pytest.mark.slow
def test_global_memory_is_read_and_written_in_words_of_16_bytes(tmp_path: Path) -> None:
    """An index of each width, upstream gradients and points come in by them, points go out by them."""
    path = tmp_path / "kernels.ptx"
    subprocess.run([*nvcc_command(), "-ptx", "-arch=compute_80", "-o", str(path)], check=True)
    entries = re.findall(r"\.entry \w*affine_chain_(forward|backward)_\w+\((.*?)^\}", path.read_text(), re.M | re.S)
    assert len(entries) == 2 * 2 * 2 * 2  # directions, forms, types, dimensions
    for direction, code in entries:
        loads = re.findall(r"\bld\.global(?:\.nc)?\.(?:v4\.\w32|v2\.\w64)\b", code)
        stores = re.findall(r"\bst\.global(?:\.cg)?\.(?:v4\.\w32|v2\.\w64)\b", code)
        assert len(loads) >= {"forward": 3, "backward": 5}[direction]
        assert len(stores) >= {"forward": 1, "backward": 0}[direction]
