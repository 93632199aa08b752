"""`fractalops convert`: systems from one format to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.options import Commands, check_output
from fractalops.cli.sources import FILES, add_choice, load_source
from fractalops.errors import InputError
from fractalops.io.files import is_temporary
from fractalops.io.systems import write_systems
from fractalops.io.systems.formats import SUFFIXES, check_suffix


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("convert", help="write systems in another format")
    parser.add_argument("file", type=Path, metavar="A", help=f"the file of {FILES}")
    parser.add_argument(
        "output", type=Path, metavar="B", help=f"what to write, {', '.join(SUFFIXES)}; without suffix a folder of .csv"
    )
    add_choice(parser, "--system")
    parser.add_argument("--overwrite", action="store_true", help="replace B if it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    output: Path = arguments.output
    check_suffix(output)
    if output.suffix == "" and output.is_dir():
        if not all(is_temporary(path.name) for path in output.iterdir()) and not arguments.overwrite:
            raise InputError(f"cannot write {output}: it holds files already (--overwrite adds to them)")
    else:
        check_output(output, arguments.overwrite)
    systems = load_source(arguments.file, arguments.system).systems
    write_systems(output, systems)
    print(f"{len(systems)} system{'s' if len(systems) > 1 else ''}: {output}")
    return 0
