"""Write the figures in README.md and docs/ from files of results.

`python -m bench documents` replaces each part between `<!-- numbers: NAME -->` and `<!-- end -->` by the text of the
function `PARTS[NAME]`. Figures of speed are read from bench/measured.json, a file of `fractalops bench`. Figures of
quality are read from docs/measured/ (`quality.Record`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path

from fractalops.io.files import atomic_path

from .instructions import CASES, Counted, read_record
from .quality import all_rows, pictures, small_images, small_images_in_short
from .rows import Figures, Row, find
from .suites import BACKWARD, BOTH, COUNTED, FORWARD, GRID, PAPER, PRETRAINED
from .table import markdown, number, shape_text

ROOT = Path(__file__).parent.parent
MEASURED = Path(__file__).with_name("measured.json")
BASELINES = ("dense", "separable", "compiled", "reference")
SHOWN = (
    ("render", FORWARD),
    ("render", BOTH),
    ("rbf_rasterize", FORWARD),
    ("rbf_rasterize", BACKWARD),
    ("affine_chain", FORWARD),
    ("affine_chain", BACKWARD),
)
_PART = re.compile(r"(?P<begin><!-- numbers: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite README.md and docs/, or with --check, return 1 if a page is out of date."""
    parser = argparse.ArgumentParser(prog="python -m bench documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if a page is out of date")
    options = parser.parse_args(argv)
    stale = 0
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        before = path.read_text(encoding="utf-8")
        after = with_numbers(before)
        stale += before != after
        if before != after and not options.check:
            with atomic_path(path) as temporary:
                temporary.write_text(after, encoding="utf-8")
    return int(options.check and stale > 0)


def with_numbers(page: str) -> str:
    """Return a page with new text in all of its parts. Raises `ValueError` for a name that is not in `PARTS`."""

    def written(part: re.Match[str]) -> str:
        if part["name"] not in PARTS:
            raise ValueError(f"with_numbers: page must have parts of {sorted(PARTS)}, got {part['name']!r}")
        return f"{part['begin']}\n{PARTS[part['name']]()}\n\n{part['end']}"

    return _PART.sub(written, page)


def _figures() -> Figures:
    return Figures.load(MEASURED)


def speed(figures: Figures) -> str:
    """Return all figures of speed in Markdown."""
    measured = [row for row in figures.rows if row.device == "cpu" and row.milliseconds]
    day = date.fromisoformat(measured[0].date)
    begin = "at most, "
    most = [f"{name.removeprefix(begin)}: {text}" for name, text in figures.machine.items() if name.startswith(begin)]
    parts = [
        f"{figures.machine['processor']} ({'; '.join(most)}), torch {measured[0].torch}, float32, "
        f"{day.day} {day:%B %Y}. All backends run in turn in each round; the figures are medians over rounds. "
        "`x` is the time of a baseline divided by the time of fractalops.",
        _paper(measured),
        _grid(measured),
        _learning(measured),
        _counting(measured),
        _pretraining(measured),
        _spreading(measured),
        "Nothing has been measured on a GPU yet.",
        "Instructions of the CPU kernels per point, on AVX2, by `python -m bench instructions`:",
        _instructions(),
    ]
    return "\n\n".join(part for part in parts if part)


def _paper(rows: Sequence[Row]) -> str:
    """Return a table of each op on the paper's shape against the baselines."""
    lines = []
    for op, direction in SHOWN:
        for row in find(rows, op=op, direction=direction, case=PAPER.name, backend="native"):
            own = f"**{_time(row)}**, {number(row.nanoseconds_a_point or 0)} ns a point"
            others = [_against(rows, row, backend) for backend in BASELINES]
            lines.append([f"`{op}`, {direction}, {row.where}", own, *others])
    return markdown([shape_text(PAPER), "fractalops", *BASELINES], lines)


def _grid(rows: Sequence[Row]) -> str:
    """Return a table of the native ops on the other shapes."""
    lines = []
    for case in GRID[1:]:
        name = f"{case.sequences:,} x {case.points:,} points on {case.side} x {case.side}"
        op = "render" if find(rows, op="render", case=case.name) else "affine_chain"
        for row in find(rows, op=op, direction=BOTH, case=case.name, backend="native"):
            rate = number((row.points_per_second or 0) / 1e6)
            memory = "" if row.peak_bytes is None else f"{number(row.peak_bytes / 1e6)} MB"
            lines.append([name, f"`{op}`, {row.where}", _time(row), rate, memory, _against(rows, row, "separable")])
    return markdown(["forward and backward", "op", "time", "million points a second", "memory", "separable"], lines)


def _learning(rows: Sequence[Row]) -> str:
    lines = []
    for row in find(rows, op="step", backend="native"):
        others = [_against(rows, row, backend) for backend in ("ops alone", "reference")]
        lines.append([f"one optimization step, {row.where}", _time(row), *others, ""])
    for row in find(rows, op="fit", backend="native"):
        settings = "" if "settings" in row.direction else ", published settings"
        one_thread = _against(rows, row, "one thread")
        lines.append([f"`fit` of {row.direction}{settings}, {row.where}", _time(row), "", "", one_thread])
    return markdown(["learning", "fractalops", "its ops alone", "reference", "one thread"], lines)


def _counting(rows: Sequence[Row]) -> str:
    lines = []
    for drawn in COUNTED:
        for row in find(rows, op="rasterize_points", direction=drawn, backend="native"):
            others = find(rows, op="rasterize_points", direction=drawn, backend="numba")
            rates = [number(each.images_per_second or 0) for each in (row, *others)]
            lines.append([drawn, *rates, *map(_ratio, others)])
    head = ["`rasterize_points`, 100,000 points on 256 x 256, images a second, 1 thread", "fractalops", "numba", ""]
    return markdown(head, [[*line, "", ""][: len(head)] for line in lines])


def _pretraining(rows: Sequence[Row]) -> str:
    lines = []
    for rules in PRETRAINED:
        for row in find(rows, op="pretrain", direction=rules, backend="native"):
            others = [find(rows, op="pretrain", direction=rules, backend=each)[0] for each in ("numba", "python")]
            rates = [number(each.images_per_second or 0) for each in (row, *others)]
            lines.append([f'`rules="{rules}"`', *rates, *map(_ratio, others)])
    head = ["`FractalDataset`, 200,000 points on 362 x 362, patches, images a second, 1 thread", "fractalops"]
    return markdown([*head, "a loop by numba", "in Python", "", ""], lines)


def _spreading(rows: Sequence[Row]) -> str:
    lines = [
        [row.where, _time(row), _against(rows, row, "finufft")]
        for row in find(rows, op="spreading", direction=FORWARD, backend="native")
    ]
    return markdown(["`rbf_rasterize`, forward, 1,000,000 points on 256 x 256", "fractalops", "finufft"], lines)


def _instructions() -> str:
    compiler, counts = read_record()
    ways = [(op, way) for op in ("affine_chain", "rbf_rasterize") for way in (FORWARD, BACKWARD)]
    lines = [
        [shape_text(case), *(number(counts[Counted(op, way, case)] / case.all_points) for op, way in ways)]
        for case in CASES.values()
    ]
    return markdown([compiler, *(f"`{op}`, {way}" for op, way in ways)], lines)


def _against(rows: Sequence[Row], row: Row, backend: str) -> str:
    """Return the time of another backend and its ratio to the native time."""
    others = find(rows, op=row.op, direction=row.direction, case=row.case, backend=backend, threads=row.threads)
    return f"{_time(others[0])}, {_ratio(others[0])}" if others else ""


def _time(row: Row) -> str:
    median = row.milliseconds.median if row.milliseconds else 0
    return f"{number(median / 1e3)} s" if median >= 1e3 else f"{number(median)} ms"


def _ratio(row: Row) -> str:
    return f"{number(row.times.median)} x" if row.times else ""


def speed_in_short(figures: Figures) -> str:
    """Return the figures of one thread on the paper's shape and for learning one image."""
    rows = [row for row in figures.rows if row.device == "cpu" and row.milliseconds and row.threads == 1]
    day = date.fromisoformat(rows[0].date)
    lines = []
    for op, direction in (("render", BOTH), ("affine_chain", FORWARD), ("rbf_rasterize", FORWARD)):
        for row in find(rows, op=op, direction=direction, case=PAPER.name, backend="native"):
            others = [_against(rows, row, backend) for backend in ("dense", "separable", "compiled")]
            lines.append([f"`{op}`, {direction}", f"**{_time(row)}**", *others])
    for row in find(rows, op="fit", backend="native"):
        lines.append([f"`fit` of {row.direction}", f"**{_time(row)}**", "", "", ""])
    machine = f"{figures.machine['processor']}, one thread, torch {rows[0].torch}, float32, {day.day} {day:%B %Y}"
    head = [shape_text(PAPER), "fractalops", "dense", "separable", "`torch.compile`"]
    ratio = "`x` is the time of a baseline in plain PyTorch divided by the time of fractalops"
    return f"{markdown(head, lines)}\n\n*{machine}. {ratio}.*"


def rate(figures: Figures) -> str:
    """Return a sentence with the number of points that one thread draws in a second."""
    rows = find(figures.rows, op="render", direction=BOTH, case=PAPER.name, backend="native", threads=1)
    points = number((rows[0].points_per_second or 0) / 1e6)
    where = f"one thread of an {figures.machine['processor'].partition(',')[0]} processor"
    return f"On {where}, `render` draws {points} million points a second ({shape_text(PAPER)}; forward and backward)."


PARTS: dict[str, Callable[[], str]] = {
    "speed": lambda: speed(_figures()),
    "speed in short": lambda: speed_in_short(_figures()),
    "rate": lambda: rate(_figures()),
    "quality": small_images,
    "quality in short": small_images_in_short,
    "pictures": pictures,
    "all settings": partial(all_rows, "recipe"),
    "all settings held out": partial(all_rows, "recipe-held-out"),
    "all pictures": partial(all_rows, "pictures"),
    "pictures by sampling": partial(all_rows, "pictures-sampling"),
    **{name: partial(all_rows, name) for name in ("reconstruct", "transformations", "optimizers", "gan")},
}
