"""`fractalops view`: an interactive page of a learned system."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.options import Commands, check_output, integer
from fractalops.errors import InputError
from fractalops.fitting import FitResult


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("view", help="write a page to explore a learned system, and change it by hand")
    parser.add_argument("system", type=Path, metavar="SYSTEM.safetensors", help="what `fractalops fit` saved")
    parser.add_argument("--number", type=integer(0), help="which of several systems in the file, from 0 on")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="HTML", help="the page to write (default: SYSTEM.html beside the system)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.system.is_dir():
        raise InputError(f"cannot read {arguments.system}: it is a folder")
    output = arguments.output or arguments.system.with_suffix(".html")
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"cannot save {output}: unknown suffix {output.suffix!r}, use .html")
    check_output(output, arguments.overwrite)
    result = FitResult.load(arguments.system)
    _choose(result, arguments.number, arguments.system).save_page(output)
    print(f"page: {output}")
    return 0


def _choose(result: FitResult, number: int | None, path: Path) -> FitResult:
    """Return the result of one image: of `number`, or of the only one."""
    if number is None and len(result) > 1:
        raise InputError(f"cannot use {path}: it holds {len(result)} systems, choose one with --number, from 0 on")
    if number is not None and number >= len(result):
        held = f"{len(result)} system{'s' if len(result) > 1 else ''}"
        raise InputError(f"cannot use {path}: it holds {held}, --number must be below that, got {number}")
    return result[number or 0]
