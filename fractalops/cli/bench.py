"""`fractalops bench`: measure the speed of the ops on this machine, and write a report."""

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
        help="measure the speed of the ops and write a report",
        description="Check that each op is correct, and measure its speed against baselines in the same run. Write an "
        "HTML page with plots, and the figures as JSON.",
        epilog="Example: fractalops bench --quick -o report.html",
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help="a suite to measure (default: all suites except the slow ones)"
    )
    parser.add_argument("--list", action="store_true", help="list the suites, and measure nothing")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("fractalops-bench.html"),
        metavar="HTML",
        help="the page to write; the figures are written to a .json file of the same name (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace both files if they exist")
    parser.add_argument(
        "--quick", action="store_true", help="measure 3 rounds instead of 9, and only shapes of at most 10^6 points"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="the device to measure; auto adds an NVIDIA GPU if the native ops can run on one (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=integer(1, _MOST_THREADS),
        action="append",
        metavar="N",
        help="the number of CPU threads; can be repeated (default: 1 and all cores; with a GPU, all cores)",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="the figures of an earlier report; show the changes that exceed the spread of the measurements",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    command = import_module("fractalops.bench.command")
    if arguments.list:
        print(command.listed())
        return 0
    if os.environ.get("FRACTALOPS_BACKEND"):
        raise InputError("FRACTALOPS_BACKEND must not be set, as bench selects the backends itself; unset it")
    for path in (arguments.output, arguments.output.with_suffix(".json")):
        check_output(path, arguments.overwrite)
    if arguments.output.suffix != ".html":
        suffix = arguments.output.suffix
        raise InputError(f"cannot write {arguments.output}: the suffix of the page must be .html, got {suffix!r}")
    code: int = command.run(
        suites=arguments.suites,
        output=arguments.output,
        quick=arguments.quick,
        device=arguments.device,
        threads=arguments.threads,
        old=arguments.compare,
    )
    return code
