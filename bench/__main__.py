"""Measured figures against their baselines and targets; `python -m bench estimate`: what GPUs must take, reckoned."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bench.comparisons import COMPARISONS, SLOW, Row
from bench.cuda_timing import find_gpu
from bench.estimate import estimates, report
from bench.machine import describe
from bench.sweep import print_sweep
from bench.table import aligned, figure

ESTIMATE, SWEEP = "estimate", "sweep"
COLUMNS = ("what", "threads", "measured", "baseline", "ratio", "target", "met")


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 when a target was missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    named = {**COMPARISONS, **SLOW}
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure, of {', '.join(named)} (default: all but {' and '.join(SLOW)}); or alone, `{ESTIMATE}`: "
        "the least time of the GPU ops and of a step of fit on named cards, by arithmetic; or "
        f"`{SWEEP}`: the rasterizer's block sizes on the GPU here",
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    options = parser.parse_args(argv)
    if options.names == [ESTIMATE]:
        return print_estimate(options.json)
    if options.names == [SWEEP]:
        return print_sweep(*find_gpu(repetitions=30))
    for name in options.names:
        if name not in named:
            parser.error(f"NAME must be one of {', '.join(named)}, or {ESTIMATE} or {SWEEP} alone, got {name!r}")
    machine = describe()
    for key, value in machine.items():
        print(f"{key}: {value}")
    rounds = 3 if options.quick else 9
    print(f"rounds: {rounds}, in turn; medians, with the 20th and 80th percentiles in brackets\n", flush=True)
    rows: list[Row] = []
    for name in options.names or COMPARISONS:
        rows += list(named[name](rounds))
    print(table(rows))
    figures: dict[str, Any] = {"machine": machine, "rounds": rounds}
    figures["rows"] = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(row.met is False for row in rows))


def print_estimate(file: Path | None) -> int:
    found = estimates()
    print(report(found, *find_gpu(repetitions=100)))
    if file:
        file.write_text(json.dumps([each.figures() for each in found], indent=2) + "\n")
    return 0


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    met = {True: "yes", False: "NO", None: ""}
    lines = [COLUMNS] + [
        (
            row.what,
            str(row.threads),
            figure(row.measured, row.unit),
            figure(row.baseline, row.unit),
            figure(row.ratio, "x"),
            row.target,
            met[row.met],
        )
        for row in rows
    ]
    notes = [f"{row.what}, {row.threads} threads: {row.problem}" for row in rows if row.problem]
    return "\n".join(aligned(lines) + (["", *notes] if notes else []))


if __name__ == "__main__":
    raise SystemExit(main())
