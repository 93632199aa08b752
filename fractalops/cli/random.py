"""`fractalops random`: draw a contact sheet of random systems."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fractalops.cli.options import (
    LARGEST_SIDE,
    Commands,
    add_picture_options,
    check_backend,
    check_picture,
    integer,
)
from fractalops.drawing.high_resolution import MARGIN, draw_high_resolution
from fractalops.drawing.sheets import contact_sheet
from fractalops.errors import InputError
from fractalops.ifs import IFS
from fractalops.io.images import save_image


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "random",
        help="draw a contact sheet of random fractals",
        description="Draw random iterated function systems, sampled as by Anderson and Farrell (2022), on one sheet.",
        epilog="Example: fractalops random --systems 25 --seed 1 -o random.png",
    )
    parser.add_argument(
        "--systems",
        type=integer(1, 1024),
        default=16,
        metavar="N",
        help="the number of systems (default: %(default)s)",
    )
    parser.add_argument(
        "--maps",
        type=integer(1, 2**15),
        default=4,
        metavar="N",
        help="the number of affine maps in a system (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=integer(1, 2048),
        default=192,
        metavar="PIXELS",
        help="the side of each picture in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--points",
        type=integer(1),
        default=100_000,
        metavar="N",
        help="the number of points in each picture (default: %(default)s)",
    )
    add_picture_options(parser, "random.png")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    output = arguments.output or Path("random.png")
    check_backend()
    check_picture(output, arguments.overwrite)
    if (pixels := arguments.systems * arguments.size**2) > LARGEST_SIDE**2:  # otherwise memory may run out
        most = f"must be at most {LARGEST_SIDE**2} pixels together, got {pixels}"
        raise InputError(f"{arguments.systems} pictures of --size {arguments.size} {most}; reduce --systems or --size")
    generator = torch.Generator().manual_seed(arguments.seed)
    system = IFS(arguments.systems, arguments.maps, generator=generator)
    images = draw_high_resolution(
        system,
        (arguments.size, arguments.size),
        points=arguments.points,
        viewport="fit",
        margin=MARGIN,
        generator=generator,
    )  # (S, H, W)
    save_image(contact_sheet(images), output)
    print(f"{arguments.systems} random fractals: {output}")
    return 0
