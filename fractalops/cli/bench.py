"""`fractalops bench`: how fast the ops are here, in one page."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

from fractalops.cli.options import Commands, check_output, integer
from fractalops.errors import InputError

_MOST_THREADS = 1024


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="measure the ops here, against baselines, and write a report",
        description="Check that each op is right, measure it against its baselines in one run, and write a page with "
        "plots and, beside it, the figures as JSON.",
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="what to measure (default: all but the slow ones)")
    parser.add_argument("--list", action="store_true", help="show the suites, and measure nothing")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("fractalops-bench.html"),
        metavar="HTML",
        help="the page; the figures go to a .json beside it (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace them if they exist")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9, and no shape beyond 10^6 points")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes an NVIDIA GPU where the native ops can run on one (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=integer(1, _MOST_THREADS),
        action="append",
        metavar="N",
        help="of the CPU; can be given several times (default: 1, and all cores)",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="show what moved beyond the spread since these figures"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    command = import_module("fractalops.bench.command")
    if arguments.list:
        print(command.listed())
        return 0
    if os.environ.get("FRACTALOPS_BACKEND"):
        raise InputError("FRACTALOPS_BACKEND must not be set: each backend is measured by its name")
    for path in (arguments.output, arguments.output.with_suffix(".json")):
        check_output(path, arguments.overwrite)
    if arguments.output.suffix != ".html":
        raise InputError(f"cannot write {arguments.output}: the page must be a .html file")
    code: int = command.run(
        suites=arguments.suites,
        output=arguments.output,
        quick=arguments.quick,
        device=arguments.device,
        threads=arguments.threads,
        old=arguments.compare,
    )
    return code
