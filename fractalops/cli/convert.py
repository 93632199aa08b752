"""`fractalops convert`: convert systems to another file format."""

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
    parser = commands.add_parser(
        "convert",
        help="convert systems to another file format",
        description="Read the systems of the file A and write them to the file B. The suffixes select the formats.",
        epilog="Example: fractalops convert ferns.ifs ferns.flame",
    )
    parser.add_argument("file", type=Path, metavar="A", help=f"the file to read: {FILES}")
    written = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    parser.add_argument(
        "output",
        type=Path,
        metavar="B",
        help=f"the file to write: {written}; a path without a suffix is a folder of .csv files",
    )
    add_choice(parser, "--system", of="A", default="all systems")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file B if it exists, or add to the folder B"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    output: Path = arguments.output
    check_suffix(output)
    if output.suffix == "" and output.is_dir():
        if not all(is_temporary(path.name) for path in output.iterdir()) and not arguments.overwrite:
            raise InputError(f"cannot write {output}: it already contains files (--overwrite adds to them)")
    else:
        check_output(output, arguments.overwrite)
    systems = load_source(arguments.file, arguments.system).systems
    write_systems(output, systems)
    print(f"{len(systems)} system{'s' if len(systems) > 1 else ''}: {output}")
    return 0
