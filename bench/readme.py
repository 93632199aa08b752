"""`python -m bench readme`: the README's section on speed, written anew from bench/measured.json.

The figures are those of one `fractalops bench` on the machine that they name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from fractalops.io.files import atomic_path

from .instructions import CASES, Counted, read_record
from .rows import Figures, Row, find
from .suites import BACKWARD, BOTH, COUNTED, FORWARD, GRID, PAPER, PRETRAINED
from .table import number, shape_text

ROOT = Path(__file__).parent.parent
MEASURED = Path(__file__).with_name("measured.json")
BEGIN = "<!-- By `python -m bench readme`, from bench/measured.json: begin -->"
END = "<!-- end -->"
BASELINES = ("dense", "separable", "compiled", "reference")
SHOWN = (
    ("render", FORWARD),
    ("render", BOTH),
    ("rbf_rasterize", FORWARD),
    ("rbf_rasterize", BACKWARD),
    ("affine_chain", FORWARD),
    ("affine_chain", BACKWARD),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite the README; with --check, return 1 where it says something else."""
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
    """Return the README with the text between the two marks."""
    head, _, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"replaced: readme must hold the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def section(figures: Figures) -> str:
    """Return the figures in Markdown."""
    measured = [row for row in figures.rows if row.device == "cpu" and row.milliseconds]
    day = date.fromisoformat(measured[0].date)
    begin = "at most, "
    most = [f"{name.removeprefix(begin)}: {text}" for name, text in figures.machine.items() if name.startswith(begin)]
    parts = [
        f"{figures.machine['processor']} ({'; '.join(most)}), torch {measured[0].torch}, float32, "
        f"{day.day} {day:%B %Y}. Medians of rounds in which all backends took their turn; "
        "`x` is how many times as long a baseline took.",
        _paper(measured),
        _grid(measured),
        _learning(measured),
        _counting(measured),
        _pretraining(measured),
        _spreading(measured),
        "Nothing has been measured on a GPU yet.",
        "Instructions that the CPU kernels take for a point, on AVX2, by `python -m bench instructions`:",
        _instructions(),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table, or nothing where it would have no lines."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) if lines else ""


def _paper(rows: Sequence[Row]) -> str:
    """Return each op at the paper's shape, against the baselines."""
    lines = []
    for op, direction in SHOWN:
        for row in find(rows, op=op, direction=direction, case=PAPER.name, backend="native"):
            own = f"**{_time(row)}**, {number(row.nanoseconds_a_point or 0)} ns a point"
            others = [_against(rows, row, backend) for backend in BASELINES]
            lines.append([f"`{op}`, {direction}, {row.where}", own, *others])
    return _table([shape_text(PAPER), "fractalops", *BASELINES], lines)


def _grid(rows: Sequence[Row]) -> str:
    """Return the native ops on the other shapes."""
    lines = []
    for case in GRID[1:]:
        name = f"{case.sequences:,} x {case.points:,} points on {case.side} x {case.side}"
        op = "render" if find(rows, op="render", case=case.name) else "affine_chain"
        for row in find(rows, op=op, direction=BOTH, case=case.name, backend="native"):
            rate = number((row.points_per_second or 0) / 1e6)
            memory = "" if row.peak_bytes is None else f"{number(row.peak_bytes / 1e6)} MB"
            lines.append([name, f"`{op}`, {row.where}", _time(row), rate, memory, _against(rows, row, "separable")])
    return _table(["forward and backward", "op", "time", "million points a second", "memory", "separable"], lines)


def _learning(rows: Sequence[Row]) -> str:
    lines = []
    for row in find(rows, op="step", backend="native"):
        others = [_against(rows, row, backend) for backend in ("ops alone", "reference")]
        lines.append([f"one optimization step, {row.where}", _time(row), *others, ""])
    for row in find(rows, op="fit", backend="native"):
        settings = "" if "settings" in row.direction else ", published settings"
        one_thread = _against(rows, row, "one thread")
        lines.append([f"`fit` of {row.direction}{settings}, {row.where}", _time(row), "", "", one_thread])
    return _table(["learning", "fractalops", "its ops alone", "reference", "one thread"], lines)


def _counting(rows: Sequence[Row]) -> str:
    lines = []
    for drawn in COUNTED:
        for row in find(rows, op="rasterize_points", direction=drawn, backend="native"):
            others = find(rows, op="rasterize_points", direction=drawn, backend="numba")
            rates = [number(each.images_per_second or 0) for each in (row, *others)]
            lines.append([drawn, *rates, *map(_ratio, others)])
    head = ["`rasterize_points`, 100,000 points on 256 x 256, images a second, 1 thread", "fractalops", "numba", ""]
    return _table(head, [[*line, "", ""][: len(head)] for line in lines])


def _pretraining(rows: Sequence[Row]) -> str:
    lines = []
    for rules in PRETRAINED:
        for row in find(rows, op="pretrain", direction=rules, backend="native"):
            others = [find(rows, op="pretrain", direction=rules, backend=each)[0] for each in ("numba", "python")]
            rates = [number(each.images_per_second or 0) for each in (row, *others)]
            lines.append([f'`rules="{rules}"`', *rates, *map(_ratio, others)])
    head = ["`FractalDataset`, 200,000 points on 362 x 362, patches, images a second, 1 thread", "fractalops"]
    return _table([*head, "a loop by numba", "in Python", "", ""], lines)


def _spreading(rows: Sequence[Row]) -> str:
    lines = [
        [row.where, _time(row), _against(rows, row, "finufft")]
        for row in find(rows, op="spreading", direction=FORWARD, backend="native")
    ]
    return _table(["`rbf_rasterize`, forward, 1,000,000 points on 256 x 256", "fractalops", "finufft"], lines)


def _instructions() -> str:
    compiler, counts = read_record()
    ways = [(op, way) for op in ("affine_chain", "rbf_rasterize") for way in (FORWARD, BACKWARD)]
    lines = [
        [shape_text(case), *(number(counts[Counted(op, way, case)] / case.all_points) for op, way in ways)]
        for case in CASES.values()
    ]
    return _table([compiler, *(f"`{op}`, {way}" for op, way in ways)], lines)


def _against(rows: Sequence[Row], row: Row, backend: str) -> str:
    """Return the time of another backend, and how many times as long it took."""
    others = find(rows, op=row.op, direction=row.direction, case=row.case, backend=backend, threads=row.threads)
    return f"{_time(others[0])}, {_ratio(others[0])}" if others else ""


def _time(row: Row) -> str:
    median = row.milliseconds.median if row.milliseconds else 0
    return f"{number(median / 1e3)} s" if median >= 1e3 else f"{number(median)} ms"


def _ratio(row: Row) -> str:
    return f"{number(row.times.median)} x" if row.times else ""
