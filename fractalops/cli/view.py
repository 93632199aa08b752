"""`fractalops view`: write an interactive page of a system."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.options import Commands, check_output, default_output
from fractalops.cli.sources import FILES, add_choice, load_drawable
from fractalops.drawing.page import write_page
from fractalops.errors import InputError
from fractalops.io.systems.formats import check_readable


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "view",
        help="write a page to explore and change a system in a browser",
        description="Write an HTML page in which a system can be explored and its maps can be changed. The page is one "
        "file and needs no network.",
        epilog="Example: fractalops view fractals/leaf/system.safetensors -o leaf.html",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help=f"the file of the system: {FILES}")
    add_choice(parser, "--system", "--number")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="HTML",
        help="the page to write (default: FILE with the suffix .html)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    check_readable(arguments.file)  # before its name is used for the output
    output = arguments.output or default_output(arguments.file, ".html")
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"cannot save {output}: unknown suffix {output.suffix!r}, use .html")
    check_output(output, arguments.overwrite)
    source = load_drawable(arguments.file, arguments.system)
    system = source.the_only("a page", "--system")
    if source.learned is not None:
        source.learned.save_page(output)
    else:
        write_page(system, output)
    print(f"page: {output}")
    return 0
