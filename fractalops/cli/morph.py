"""`fractalops morph`: write an animation from one system to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.drawing_options import (
    add_animation_options,
    add_drawing_options,
    check_movable,
    picture_of,
    save_frames,
)
from fractalops.cli.options import Commands, add_picture_options, check_backend
from fractalops.cli.sources import FILES, add_choice, load_drawable
from fractalops.drawing.high_resolution import Picture
from fractalops.drawing.morphing import morph_frames
from fractalops.errors import InputError
from fractalops.systems import System


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "morph",
        help="write an animation from one system to another",
        description="Write an animation in which the system of file A changes to the system of file B and back.",
        epilog="Example: fractalops morph fern.ifs dragon.ifs -o morph.webp",
    )
    parser.add_argument("a", type=Path, metavar="A", help=f"the file of the first system: {FILES}")
    parser.add_argument("b", type=Path, metavar="B", help="the file of the last system, in any of these formats")
    add_choice(parser, "--first", of="A")
    add_choice(parser, "--last", of="B")
    add_picture_options(parser, "morph.gif")
    add_drawing_options(parser, "512")
    add_animation_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    check_backend()
    output = arguments.output or Path("morph.gif")
    check_movable(arguments, output)
    first, start = _read(arguments, arguments.a, arguments.first, "--first")
    last, end = _read(arguments, arguments.b, arguments.last, "--last")
    kinds = [
        f"{picture.blend!r} with {system.channels or 'no'} color channels"
        for system, picture in ((first, start), (last, end))
    ]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"cannot use {arguments.b}: both systems must have the same blend and color channels, got "
            f"{kinds[0]} and {kinds[1]}"
        )
    save_frames(morph_frames(first, last, start, end, arguments.frames, arguments.seed), output, arguments, loops=True)
    print(f"animation: {output}")
    return 0


def _read(arguments: argparse.Namespace, path: Path, name: str | None, option: str) -> tuple[System, Picture]:
    """Return the system `name` of a file, which `option` selects, and its picture. Raises `InputError`."""
    source = load_drawable(path, name, option)
    system = source.the_only("a morph", option)
    return system, picture_of(arguments, source, system, arguments.side)
