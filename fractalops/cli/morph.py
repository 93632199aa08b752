"""`fractalops morph`: an animation from one system to another."""

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
from fractalops.cli.sources import FILES, add_choice, drawable, in_the_plane, load_source
from fractalops.drawing.morphing import morph_frames
from fractalops.errors import InputError
from fractalops.systems import System


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("morph", help="turn a system into another, as an animation")
    parser.add_argument("a", type=Path, metavar="A", help=f"the file of {FILES}")
    parser.add_argument("b", type=Path, metavar="B", help="the file of the system that A turns into")
    add_choice(parser, "--first", of="several systems in A")
    add_choice(parser, "--last", of="several systems in B")
    add_picture_options(parser, "morph.gif")
    add_drawing_options(parser, "512")
    add_animation_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_backend()
    output = arguments.output or Path("morph.gif")
    check_movable(arguments, output)
    sources = [
        drawable(load_source(path, name, option))
        for path, name, option in (
            (arguments.a, arguments.first, "--first"),
            (arguments.b, arguments.last, "--last"),
        )
    ]
    first, last = (
        in_the_plane(source, source.the_only("a morph", option), "a morph")
        for source, option in zip(sources, ("--first", "--last"), strict=True)
    )
    start, end = (
        picture_of(arguments, source, system, arguments.side)
        for source, system in zip(sources, (first, last), strict=True)
    )
    kinds = [f"{picture.blend}, {_channels(system)}" for picture, system in ((start, first), (end, last))]
    if kinds[0] != kinds[1]:
        raise InputError(f"cannot use {arguments.b}: systems must blend alike, got {kinds[0]} and {kinds[1]}")
    save_frames(morph_frames(first, last, start, end, arguments.frames, arguments.seed), output, arguments, loops=True)
    print(f"animation: {output}")
    return 0


def _channels(system: System) -> str:
    return f"{system.channels or 'no'} channels of color"
