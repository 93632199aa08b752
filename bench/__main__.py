"""`python -m bench`: the measured figures against their baselines and targets, in one table."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from bench.comparisons import COMPARISONS, SLOW, Row
from bench.machine import describe
from bench.timing import Spread

COLUMNS = ("what", "threads", "measured", "baseline", "ratio", "target", "met")


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 when a target was missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    named = {**COMPARISONS, **SLOW}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(named)} (default: all but the last)")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in named:
            parser.error(f"NAME must be one of {', '.join(named)}, got {name!r}")
    machine = describe()
    for key, value in machine.items():
        print(f"{key}: {value}")
    rounds = 3 if options.quick else 9
    print(f"rounds: {rounds}, in turn; medians, with the 20th and 80th percentiles in brackets\n", flush=True)
    rows = []
    for name in options.names or COMPARISONS:
        rows += list(named[name](rounds))
    print(table(rows))
    if options.json:
        figures = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
        options.json.write_text(json.dumps({"machine": machine, "rounds": rounds, "rows": figures}, indent=2) + "\n")
    return int(any(row.met is False for row in rows))


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    met = {True: "yes", False: "NO", None: ""}
    lines = [COLUMNS] + [
        (
            row.what,
            str(row.threads),
            _text(row.measured, row.unit),
            _text(row.baseline, row.unit),
            _text(row.ratio, "x"),
            row.target,
            met[row.met],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = [f"{row.what}, {row.threads} threads: {row.problem}" for row in rows if row.problem]
    return "\n".join(text + (["", *notes] if notes else []))


def _text(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "-"
    return f"{spread.median:.3g} [{spread.low:.3g}, {spread.high:.3g}] {unit}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
