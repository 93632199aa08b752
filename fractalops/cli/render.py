"""`fractalops render`: a high-resolution picture of a learned system."""

from __future__ import annotations

import argparse
from pathlib import Path

from fractalops.cli.options import LARGEST_SIDE, Commands, add_picture_options, check_backend, check_picture, integer
from fractalops.drawing.sheets import contact_sheet
from fractalops.errors import InputError
from fractalops.fitting import FitResult
from fractalops.io.images import save_image


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("render", help="draw a learned system at any size")
    parser.add_argument("system", type=Path, metavar="SYSTEM.safetensors", help="what `fractalops fit` saved")
    parser.add_argument(
        "--size",
        type=integer(1, LARGEST_SIDE),
        default=1024,
        help="the picture's longest side in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--points", type=integer(1), default=1_000_000, help="how many points to draw (default: %(default)s)"
    )
    add_picture_options(parser, "SYSTEM.png beside the system")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_backend()
    if arguments.system.is_dir():
        raise InputError(f"cannot read {arguments.system}: it is a folder")
    output = arguments.output or arguments.system.with_suffix(".png")
    check_picture(output, arguments.overwrite)
    result = FitResult.load(arguments.system)
    images = result.draw(arguments.size, points=arguments.points, seed=arguments.seed)  # (S, H, W) or (S, 3, H, W)
    save_image(images[0] if len(images) == 1 else contact_sheet(images), output)
    print(f"picture: {output}")
    return 0
