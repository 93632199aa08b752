"""`python -m bench readme`: the README's section on speed, written anew from bench/measured.json.

The figures are those of one `fractalops bench` on the machine that they name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from fractalops.files import atomic_path

from .cases import GRID, PAPER, Case
from .instructions import CASES, Counted, read_record
from .rows import Figures, Row, find
from .subjects import BACKWARD, BOTH, COUNTED, FORWARD
from .table import number

ROOT = Path(__file__).parent.parent
MEASURED = Path(__file__).with_name("measured.json")
BEGIN = "<!-- By `python -m bench readme`, from bench/measured.json: begin -->"
END = "<!-- end -->"
BASELINES = ("dense", "separable", "compiled", "reference")
OPS = ("affine_chain", "rbf_rasterize")
SHOWN = (
    ("render", FORWARD),
    ("render", BOTH),
    ("rbf_rasterize", FORWARD),
    ("rbf_rasterize", BACKWARD),
    ("affine_chain", FORWARD),
    ("affine_chain", BACKWARD),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite the README; with --check, 1 where it says something else."""
    parser = argparse.ArgumentParser(prog="python -m bench readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the README differs")
    options = parser.parse_args(argv)
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = replaced(before, section(Figures.load(MEASURED)))
    if options.check:
        return int(before != after)
    with atomic_path(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return 0


def replaced(readme: str, text: str) -> str:
    """The README with the text between the two marks."""
    head, _, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"replaced: readme must hold the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def section(figures: Figures) -> str:
    """In Markdown."""
    measured = [row for row in figures.rows if row.device == "cpu" and row.milliseconds]
    day = date.fromisoformat(measured[0].date)
    versions = f"torch {measured[0].torch}, float32, {day.day} {day:%B %Y}"
    machine = figures.machine["processor"]
    most = "; ".join(
        f"{name.removeprefix('at most, ')}: {text}"
        for name, text in figures.machine.items()
        if name.startswith("at most, ")
    )
    parts = [
        f"{machine} ({most}), {versions}. Medians of rounds in which all backends took their turn; "
        f"`x` is how many times as long a baseline took.",
        "\n".join(_paper(measured)),
        "\n".join(_grid(measured)),
        "\n".join(_learning(measured)),
        "\n".join(_counting(measured)),
        "Nothing has been measured on a GPU yet.",
        "Instructions that the CPU kernels take for a point, on AVX2, by `python -m bench instructions`:",
        "\n".join(_instructions()),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    if lines:
        for line in (head, ["---"] * len(head), *lines):
            yield f"| {' | '.join(line)} |"


def _paper(rows: Sequence[Row]) -> Iterator[str]:
    """Each op at the paper's shape, against the baselines."""
    lines = []
    for op, direction in SHOWN:
        for row in find(rows, op=op, direction=direction, case=PAPER.name, backend="native"):
            what = f"`{op}`, {direction}, {row.where}"
            own = f"**{_time(row)}**, {_number(row.nanoseconds_a_point)} ns a point"
            lines.append([what, own, *(_against(rows, row, backend) for backend in BASELINES)])
    yield from _table([PAPER.shape, "fractalops", *(f"{name}" for name in BASELINES)], lines)


def _grid(rows: Sequence[Row]) -> Iterator[str]:
    """The native ops on the other shapes."""
    lines = []
    for case in GRID:
        op = "render" if find(rows, op="render", case=case.name) else "affine_chain"
        for row in find(rows, op=op, direction=BOTH, case=case.name, backend="native") if case != PAPER else ():
            separable = _against(rows, row, "separable")
            lines.append([_case(case), f"`{op}`, {row.where}", _time(row), _rate(row), _memory(row), separable])
    head = ["forward and backward", "op", "time", "million points a second", "memory", "separable"]
    yield from _table(head, lines)


def _learning(rows: Sequence[Row]) -> Iterator[str]:
    lines = []
    for row in find(rows, op="step", backend="native"):
        others = [_against(rows, row, backend) for backend in ("ops alone", "reference")]
        lines.append([f"one optimisation step, {row.where}", _time(row), *others])
    for row in find(rows, op="fit", backend="native"):
        settings = "" if "settings" in row.direction else ", published settings"
        lines.append([f"`fit` of {row.direction}{settings}, {row.where}", _time(row), "", ""])
    yield from _table(["learning", "fractalops", "its ops alone", "reference"], lines)


def _counting(rows: Sequence[Row]) -> Iterator[str]:
    lines = []
    for drawn in COUNTED:
        for row in find(rows, op="rasterize_points", direction=drawn, backend="native"):
            (other,) = find(rows, op="rasterize_points", direction=drawn, backend="numba") or (None,)
            rates = [each.images_per_second if each else None for each in (row, other)]
            lines.append([drawn, *map(_number, rates), _ratio(other)])
    head = ["`rasterize_points`, 100,000 points on 256 x 256, images a second, 1 thread", "fractalops", "numba", ""]
    yield from _table(head, lines)


def _instructions() -> Iterator[str]:
    compiler, counts = read_record()
    lines = []
    for case in CASES.values():
        each = [counts[Counted(op, way, case)] / case.all_points for op in OPS for way in (FORWARD, BACKWARD)]
        lines.append([case.shape, *(_number(count) for count in each)])
    head = [compiler, *(f"`{op}`, {way}" for op in OPS for way in (FORWARD, BACKWARD))]
    yield from _table(head, lines)


def _against(rows: Sequence[Row], row: Row, backend: str) -> str:
    others = find(rows, op=row.op, direction=row.direction, case=row.case, backend=backend, threads=row.threads)
    if not others:
        return ""
    return f"{_time(others[0])}, {_ratio(others[0])}"


def _time(row: Row) -> str:
    assert row.milliseconds
    median = row.milliseconds.median
    return f"{_number(median / 1e3)} s" if median >= 1e3 else f"{_number(median)} ms"


def _rate(row: Row) -> str:
    return _number((row.points_per_second or 0) / 1e6)


def _memory(row: Row) -> str:
    return "" if row.peak_bytes is None else f"{_number(row.peak_bytes / 1e6)} MB"


def _ratio(row: Row | None) -> str:
    return f"{_number(row.times.median)} x" if row and row.times else ""


def _case(case: Case) -> str:
    return f"{case.sequences:,} x {case.points:,} points on {case.side} x {case.side}"


def _number(value: float | None) -> str:
    return "" if value is None else number(value)
