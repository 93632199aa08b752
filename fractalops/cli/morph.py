"""`fractalops morph`: an animation from one learned system to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.drawing_options import (
    add_animation_options,
    add_drawing_options,
    check_movable,
    load_one_system,
    picture_of,
    save_frames,
)
from fractalops.cli.options import Commands, add_picture_options, check_backend
from fractalops.drawing.morphing import morph_frames
from fractalops.errors import InputError


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("morph", help="turn a learned system into another, as an animation")
    parser.add_argument("first", type=Path, metavar="A.safetensors", help="what `fractalops fit` saved")
    parser.add_argument("last", type=Path, metavar="B.safetensors", help="the system that A turns into")
    add_picture_options(parser, "morph.gif")
    add_drawing_options(parser, "512")
    add_animation_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_backend()
    output = arguments.output or Path("morph.gif")
    check_movable(arguments, output)
    results = [load_one_system(path, "a morph") for path in (arguments.first, arguments.last)]
    first, last = (result.system.system(0) for result in results)
    kinds = [f"{result.system.blend}, {result.system.channels or 'no'} channels of color" for result in results]
    if kinds[0] != kinds[1]:
        raise InputError(f"cannot use {arguments.last}: systems must blend alike, got {kinds[0]} and {kinds[1]}")
    start, end = (picture_of(arguments, result, arguments.side) for result in results)
    save_frames(morph_frames(first, last, start, end, arguments.frames, arguments.seed), output, arguments, loops=True)
    print(f"animation: {output}")
    return 0
