"""Count the instructions of the CPU kernels with callgrind.

The counts are the same in every run, also on a busy machine. `python -m bench instructions` compares the counts with
the record, bench/instructions.json. It exits with 1 if a count is more than 3 % above the record and the compiler is
that of the record. `--record` replaces the record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fractalops.backends import installed_version
from fractalops.io.files import atomic_path

from .suites import PAPER, PRETRAINING, Case
from .table import aligned

SOURCE = Path(__file__).with_suffix(".cpp")
RECORD = Path(__file__).with_suffix(".json")
ROOT = SOURCE.parent.parent
LIMIT = 3.0  # largest accepted growth, in percent
ARCHITECTURE = "x86-64 with AVX2 and FMA"
# Makes memset avoid `rep stosb`. Valgrind's processor has this instruction, and callgrind counts it once per byte.
TUNABLES = "glibc.cpu.hwcaps=-ERMS"


class Counted(NamedTuple):
    """A counted op and case, in the order of the arguments of `count`."""

    op: str
    direction: str
    case: Case


CASES = {case.name: case for case in (PAPER, PRETRAINING)}
RECORDED = [
    Counted(op, direction, case)
    for case in CASES.values()
    for op in ("affine_chain", "rbf_rasterize")
    for direction in ("forward", "backward")
]


def find_compiler() -> list[str]:
    """Return the command of the C++ compiler: $CXX or the first on the path, as in setup.py. Empty if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    candidates = [named] if named else [["c++"], ["g++"], ["clang++"]]
    return next((command for command in candidates if shutil.which(command[0])), [])


def find_problem() -> str:
    """Return why nothing can be counted here, or an empty string."""
    cpuinfo = Path("/proc/cpuinfo")
    features = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if platform.machine() != "x86_64" or not {"avx2", "fma"} <= set(features):
        return f"counting requires {ARCHITECTURE}, which this processor doesn't have"
    if not (ROOT / "csrc").exists():
        return "the kernels' source was not found; run this in a clone of the repository"
    if not find_compiler():
        return "no C++ compiler was found (set CXX, or install g++ or clang++)"
    if shutil.which("valgrind") is None:
        return "valgrind was not found; the system's packages have it (apt install valgrind)"
    return ""


def compiler_version() -> str:
    """Return the first line of the compiler's `--version`.

    GCC's line begins with the name of its command, which is replaced by "g++".
    """
    done = subprocess.run([*find_compiler(), "--version"], check=True, capture_output=True, text=True)
    return re.sub(r"^\S*\+\+ ", "g++ ", done.stdout.splitlines()[0])


def library_flags() -> list[str]:
    """Return the options with which setup.py compiles the CPU library. Read them as text: running it would build."""
    text = (ROOT / "setup.py").read_text()
    values = re.findall(r'^(?:LANGUAGE|HOST|CPU) = "([^"]*)"', text, re.MULTILINE)
    if len(values) != 3:
        raise RuntimeError(f"library_flags: setup.py must set LANGUAGE, HOST and CPU, got {len(values)} of them")
    return " ".join(values).split()


def compile_program(folder: Path, source: Path = SOURCE) -> Path:
    """Compile a program, by default instructions.cpp, into the folder and return its path."""
    program = folder / source.stem
    # `-z now` makes the linker resolve all functions at the start. Otherwise, its instructions would be counted.
    command = [*find_compiler(), *library_flags(), "-Wl,-z,now", str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"compile_program: {source.name} must compile, got\n{done.stderr}")
    return program


def count(program: Path, op: str, direction: str, case: Case) -> int:
    """Return the instructions of one call of the op's kernels, forward or backward, on one thread."""
    sizes = (case.sequences, case.points, case.maps, case.side, case.bandwidth)
    return run_counted(program, op, direction, *map(str, sizes))[1]


def run_counted(program: Path, *arguments: str) -> tuple[str, int]:
    """Return what a program prints under callgrind, and the instructions of its function `counted`."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind.out"
        options = ["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counted"]
        command = ["valgrind", *options, f"--callgrind-out-file={output}", str(program), *arguments]
        environment = {**os.environ, "GLIBC_TUNABLES": TUNABLES, "VALGRIND_OPTS": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"count: {' '.join(arguments[:2])} must run under valgrind, got\n{done.stderr}")
        return done.stdout, parse_total(output.read_text())


def parse_total(output: str) -> int:
    """Return the total in callgrind's output, in which instructions are the only event."""
    found = re.search(r"^totals: (\d+)$", output, re.MULTILINE)
    if found is None or int(found[1]) == 0:
        raise RuntimeError(f"parse_total: output must contain instructions, got {found and found[0]!r}")
    return int(found[1])


def count_all(expected: Sequence[Counted]) -> dict[Counted, int]:
    """Return the number of instructions for each entry."""
    with TemporaryDirectory() as folder:
        program = compile_program(Path(folder))
        return {each: count(program, *each) for each in expected}


def record(counts: Mapping[Counted, int]) -> None:
    """Write the counts to the record, with the compiler and the version of the package."""
    content = {
        "compiler": compiler_version(),
        "architecture": ARCHITECTURE,
        "fractalops": installed_version(),
        "rows": [
            {"op": op, "direction": direction, "case": case.name, "instructions": instructions}
            for (op, direction, case), instructions in counts.items()
        ],
    }
    with atomic_path(RECORD) as file:
        file.write_text(json.dumps(content, indent=2) + "\n")


def read_record() -> tuple[str, dict[Counted, int]]:
    """Return the compiler of the record and the instructions of each entry. Both are empty if there is no record."""
    if not RECORD.exists():
        return "", {}
    content = json.loads(RECORD.read_text())
    counts = {Counted(row["op"], row["direction"], CASES[row["case"]]): row["instructions"] for row in content["rows"]}
    return content["compiler"], counts


def growth(of: Counted, counted: int) -> float | None:
    """Return the growth of a count against the record in percent, or None if the record doesn't have it."""
    recorded = read_record()[1].get(of)
    return None if recorded is None else 100 * (counted - recorded) / recorded


def table(counts: Mapping[Counted, int]) -> str:
    """Return a table of the counts and those of the record."""
    _, recorded = read_record()
    lines = [("op", "direction", "case", "a point", "instructions", "recorded", "change")]
    for of, counted in counts.items():
        grown = growth(of, counted)
        beside = ("-", "-") if grown is None else (f"{recorded[of]:,}", f"{grown:+.2f} %")
        a_point = f"{counted / of.case.all_points:.1f}"
        lines.append((of.op, of.direction, of.case.name, a_point, f"{counted:,}", *beside))
    return "\n".join(aligned(lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code.

    It is 1 if a count grew by more than LIMIT under the same compiler, 2 if this machine can't count, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m bench instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the counts to the record, and exit with 0")
    options = parser.parse_args(argv)
    problem = find_problem()
    if problem:
        print(f"instructions: {problem}", file=sys.stderr)
        return 2
    counts = count_all(RECORDED)
    print(table(counts))
    if options.record:
        record(counts)
        return 0
    recorded_by, compiler = read_record()[0], compiler_version()
    if recorded_by != compiler:
        print(f"not compared: the compiler of the record is {recorded_by or 'unknown'}, this one is {compiler}")
        return 0
    return int(any((growth(of, counted) or 0) > LIMIT for of, counted in counts.items()))
