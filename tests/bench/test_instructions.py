"""Tests of instruction counts of the CPU kernels: they repeat, they grow as stated, and are close to the record."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression

import pytest

from bench import instructions
from bench.instructions import (
    LIMIT,
    RECORDED,
    Counted,
    count,
    growth,
    parse_total,
    read_record,
    record,
    run_counted,
    table,
)
from bench.suites import Case
from tests.support.requirements import find_binutil, setup_functions, skip_or_fail

# Registers that only AVX-512 has: registers of 64 bytes, those from number 16, and masks.
OF_AVX512 = re.compile(r"%(zmm|[xy]mm(1[6-9]|2\d|3[01])|k[0-7])")
DIRECTIONS = ("forward", "backward")
PAPER = [each for each in RECORDED if each.case.name == "paper"]
LARGE = [each for each in RECORDED if each not in PAPER]


def shape(sequences: int, points: int, side: int = 32, bandwidth: float = 1) -> Case:
    """Return a case. The chain's counts do not depend on the image, the rasterizer's not on the maps."""
    return Case("", sequences, points, maps=10, side=side, bandwidth=bandwidth)


@dataclass(frozen=True)
class Growth:
    """A claim: `count` grows with `quantity` to the power of `exponent`, within `tolerance`."""

    op: str
    quantity: str
    values: tuple[int, ...]
    start: Case
    exponent: float
    tolerance: float

    def case(self, value: int) -> Case:
        if self.quantity != "radius":
            return replace(self.start, **{self.quantity: value})
        # The radius is ceil(sqrt(-bandwidth ln(cutoff)) - 1/2): the bandwidth is a little less than the exact one.
        return replace(self.start, bandwidth=0.999 * (value + 0.5) ** 2 / -math.log(1e-6))


# Counts are exact. The tolerances allow for parts that do not grow, such as a call's start and its last odd vectors.
GROWTH = [
    # Sequences are walked separately. The sizes are whole groups of 5: a remaining sequence takes more instructions.
    Growth("affine_chain", "sequences", (10, 20, 40, 80), shape(10, 512), 1, 0.03),
    # A point takes one step, not the log T of a scan.
    Growth("affine_chain", "points", (256, 512, 1024, 2048), shape(10, 256), 1, 0.03),
    # A step reads one map, for any number of maps. The backward clears and adds one table of sums for each block of
    # sequences: N entries, far less than a block's points.
    Growth("affine_chain", "maps", (2, 8, 32), shape(10, 1024), 0, 0.01),
    # Images are drawn one by one.
    Growth("rbf_rasterize", "sequences", (2, 4, 8), shape(2, 512), 1, 0.01),
    # A point has one window. The canvas, cleared and copied once, is 1 % of the smallest image's count.
    Growth("rbf_rasterize", "points", (512, 1024, 2048), shape(2, 512), 1, 0.02),
    # A point's window has the same size everywhere. The canvas grows with the side squared, to 1 % of the largest
    # count.
    Growth("rbf_rasterize", "side", (32, 64, 128), shape(1, 16384), 0, 0.01),
    # A window has 2r + 1 rows of (2r + 8) / 8 vectors, so the exponent is below 2. The window's exponentials, one for
    # each row and vector, and the cost of a point at any radius lower it towards 1. At these radii the vectors fill
    # whole passes of 4.
    Growth("rbf_rasterize", "radius", (12, 28, 44), shape(1, 512, side=128), 1.4, 0.2),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled program, if instructions can be counted."""
    problem = instructions.find_problem()
    if problem:
        skip_or_fail("valgrind", problem)
    return instructions.compile_program(tmp_path_factory.mktemp("instructions"))


@pytest.mark.slow
def test_avx512_is_in_its_copies_only(program: Path) -> None:
    """A processor without AVX-512 must not reach such an instruction, also not in a function that the linker shares."""
    command = [find_binutil("objdump"), "-d", "-C", "--no-show-raw-insn", str(program)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wide = {True: 0, False: 0}  # instructions, by whether they are in a copy for AVX-512
    for function in listing.split("\n\n"):
        name, *lines = function.splitlines() or [""]
        wide["::avx512::" in name] += sum(OF_AVX512.search(line) is not None for line in lines)
    assert wide[True] > 1000
    assert wide[False] == 0


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("op", ["affine_chain", "rbf_rasterize"])
def test_counts_repeat_exactly(op: str, direction: str, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = shape(3, 70, side=17, bandwidth=2)  # a width that the backward pads
    first = count(program, op, direction, case)
    monkeypatch.setenv("FRACTALOPS_A_LONGER_ENVIRONMENT", 1000 * "x")  # this moves the stack
    assert count(program, op, direction, case) == first


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("growth", GROWTH, ids=lambda growth: f"{growth.op}-{growth.quantity}")
def test_counts_grow_as_stated(growth: Growth, direction: str, program: Path) -> None:
    counts = [count(program, growth.op, direction, growth.case(value)) for value in growth.values]
    exponent = linear_regression(*([math.log(value) for value in values] for values in (growth.values, counts))).slope
    assert exponent == pytest.approx(growth.exponent, abs=growth.tolerance), counts


@pytest.mark.slow
def test_partial_sums_move_only_the_pixels_that_points_reached(program: Path) -> None:
    """The image has fewer rows than a window has. After each 4096 points, its rows must not be moved whole."""
    few, many = (
        run_counted(program, "rbf_rasterize", "forward", "1", str(points), "1", "1000000", "1", "2")[1]
        for points in (5000, 25_000)
    )
    assert many - few < 400 * 20_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "expected",
    [pytest.param(PAPER, id="paper"), pytest.param(LARGE, id="large")],
)
def test_counts_are_those_of_the_record(expected: list[Counted], program: Path) -> None:
    """Fewer instructions fail, too: the record must state how fast the kernels are."""
    recorded_by, compiler = read_record()[0], instructions.compiler_version()
    if recorded_by != compiler:
        pytest.skip(f"the counts were recorded with {recorded_by}, and this is {compiler}")
    counts = {each: count(program, *each) for each in expected}
    grown = [growth(each, counted) for each, counted in counts.items()]
    assert all(each is not None and abs(each) <= LIMIT for each in grown), (
        f"{table(counts)}\nif that is meant: python -m bench instructions --record"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [[], ["affine_chain", "sideways", *"11111"], ["affine_chain", "forward", *"10111"]]
)
def test_the_program_refuses_what_it_does_not_know(arguments: list[str], program: Path) -> None:
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "arguments: affine_chain|rbf_rasterize" in done.stderr or "above 0" in done.stderr


@pytest.mark.slow
def test_a_run_that_fails_says_so(program: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^count: nonsense forward must run under valgrind, got\n"):
        count(program, "nonsense", "forward", shape(1, 1))


def test_the_record_holds_every_case() -> None:
    compiler, counts = read_record()
    assert compiler
    assert list(counts) == RECORDED
    assert min(counts.values()) > 0


def test_the_build_is_that_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_functions()
    assert sorted(instructions.library_flags()) == sorted(f"{setup['LANGUAGE']} {setup['HOST']} {setup['CPU']}".split())
    for named in ("", "sh -c", "no-such-compiler"):
        monkeypatch.setenv("CXX", named)
        found, expected = instructions.find_compiler(), setup["find_compiler"]() or []
        assert [shutil.which(word) or word for word in found] == [shutil.which(word) or word for word in expected]


@pytest.mark.parametrize(
    ("first_line", "version"),
    [
        ("c++ (Debian 12.2.0-14) 12.2.0", "g++ (Debian 12.2.0-14) 12.2.0"),
        ("x86_64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0", "g++ (Debian 12.2.0-14) 12.2.0"),
        ("Debian clang version 14.0.6", "Debian clang version 14.0.6"),
    ],
)
def test_a_compiler_has_one_name_however_it_is_called(
    first_line: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho '{first_line}'\necho 'Copyright'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert instructions.compiler_version() == version


def test_the_total_of_a_file_of_callgrind() -> None:
    assert parse_total("# callgrind format\nevents: Ir\nsummary: 12\n\nfn=(1) counted\n3 4\n\ntotals: 1234\n") == 1234
    for nothing in ("events: Ir\n", "totals: 0\n"):
        with pytest.raises(RuntimeError, match=r"^parse_total: output must contain instructions, got "):
            parse_total(nothing)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Create a record with one entry of 1000 instructions by a compiler "g++ 1". Return the entry."""
    case = replace(shape(2, 50), name="small")
    entry = Counted("affine_chain", "forward", case)
    monkeypatch.setattr(instructions, "CASES", {"small": case})
    monkeypatch.setattr(instructions, "RECORD", tmp_path / "instructions.json")
    monkeypatch.setattr(instructions, "RECORDED", [entry])
    monkeypatch.setattr(instructions, "compiler_version", lambda: "g++ 1")
    monkeypatch.setattr(instructions, "find_problem", lambda: "")
    assert read_record() == ("", {})
    record({entry: 1000})
    return entry


def test_comparing_with_the_record(recorded: Counted) -> None:
    other = recorded._replace(direction="backward")
    assert read_record() == ("g++ 1", {recorded: 1000})
    assert growth(recorded, 1020) == pytest.approx(2)
    assert growth(other, 5) is None
    lines = table({recorded: 1020, other: 5}).splitlines()
    assert [line.split()[3:] for line in lines[1:]] == [
        ["10.2", "1,020", "1,000", "+2.00", "%"],
        ["0.1", "5", "-", "-"],
    ]


@pytest.mark.parametrize(("counted", "compiler", "code"), [(1030, 1, 0), (1031, 1, 1), (900, 1, 0), (2000, 2, 0)])
def test_the_command_fails_when_a_count_grew_under_the_same_compiler(
    counted: int,
    compiler: int,
    code: int,
    recorded: Counted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(instructions, "count_all", lambda expected: dict.fromkeys(expected, counted))
    monkeypatch.setattr(instructions, "compiler_version", lambda: f"g++ {compiler}")
    assert instructions.main([]) == code
    shown = capsys.readouterr().out
    assert f"  {counted:,}  " in shown
    assert ("not compared: the compiler of the record is g++ 1, this one is g++ 2" in shown) == (compiler == 2)
    assert instructions.main(["--record"]) == 0
    assert read_record() == (f"g++ {compiler}", {recorded: counted})


def test_where_nothing_can_be_counted_the_command_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert instructions.main([]) == 2
    assert capsys.readouterr().err == (
        "instructions: counting requires x86-64 with AVX2 and FMA, which this processor doesn't have\n"
    )


@pytest.mark.usefixtures("program")
def test_what_can_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "valgrind" else which(name))
    assert instructions.find_problem().startswith("valgrind was not found")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert instructions.find_problem().startswith("no C++ compiler was found")
    monkeypatch.setattr(instructions, "ROOT", tmp_path)
    assert instructions.find_problem().startswith("the kernels' source was not found")
