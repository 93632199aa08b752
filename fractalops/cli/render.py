"""`fractalops render`: a high-resolution picture of a learned system, or an animation of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from fractalops.cli.drawing_options import (
    add_animation_options,
    add_drawing_options,
    channels_of,
    check_look,
    check_movable,
    load_one_system,
    picture_of,
    read_zoom,
    save_frames,
)
from fractalops.cli.options import Commands, add_picture_options, check_backend, check_picture
from fractalops.drawing.canvas import Zoom
from fractalops.drawing.high_resolution import Picture, draw_bands
from fractalops.drawing.motion import build_frames, interesting_point, orbit_frames, zoom_frames
from fractalops.drawing.sheets import SEPARATOR, lay_out
from fractalops.errors import InputError
from fractalops.fitting import FitResult
from fractalops.io.images import Page, save_picture
from fractalops.io.progress import progress_bar
from fractalops.systems.statistics import describe

_SIDE = 1024  # pixels
_FLIGHT = 1000.0  # how many times larger the last picture of a flight is
_FRAMES = {"zoom": zoom_frames, "build": build_frames, "orbit": orbit_frames}


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser("render", help="draw a learned system at any size and depth, or animate it")
    parser.add_argument("system", type=Path, metavar="SYSTEM.safetensors", help="what `fractalops fit` saved")
    add_picture_options(parser, "SYSTEM.png beside the system, or SYSTEM.gif")
    add_drawing_options(parser, f"{_SIDE}, or 512 of an animation")
    parser.add_argument(
        "--zoom",
        type=read_zoom,
        metavar="X,Y,FACTOR",
        help="draw a part FACTOR times larger, up to 1e11: X and Y of its middle go from 0 to 1, from the top left",
    )
    parser.add_argument("--stats", action="store_true", help="also print what can be said about the system in numbers")
    animation = add_animation_options(parser)
    animation.add_argument(
        "--animate",
        choices=tuple(_FRAMES),
        help="fly to --zoom (or a point of the fractal), add the points one by one, or turn the maps to and fro",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_backend()
    animated = arguments.animate is not None
    if arguments.system.is_dir():
        raise InputError(f"cannot read {arguments.system}: it is a folder")
    output = arguments.output or arguments.system.with_suffix(".gif" if animated else ".png")
    if animated:
        if arguments.stats:
            raise InputError("--stats is for pictures, not for animations")
        check_movable(arguments, output)
        _animate(arguments, load_one_system(arguments.system, "an animation"), output)
    else:
        for name in ("frames", "fps"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} is for animations: --animate says of which kind")
        check_picture(output, arguments.overwrite)
        check_look(arguments, output)
        result = FitResult.load(arguments.system)
        _draw(arguments, result, output)
        if arguments.stats:
            print("\n\n".join(describe(result.system.system(number)) for number in range(len(result))))
    print(f"{'animation' if animated else 'picture'}: {output}")
    return 0


def _draw(arguments: argparse.Namespace, result: FitResult, output: Path) -> None:
    """Draw a picture of each system, several on one sheet, in the memory of the bytes that are saved."""
    picture = picture_of(arguments, result, _SIDE, arguments.zoom)
    several = len(result) > 1
    layout = lay_out(len(result), picture.size, gap=4 if several else 0)
    page = Page(layout.size, channels_of(picture, result.system.channels), SEPARATOR)
    generator = torch.Generator().manual_seed(arguments.seed)
    with progress_bar(0, "point", "render", shown=True, unit_scale=True, delay=2) as bar:
        for number in range(len(result)):
            top, left = layout.corner(number)
            for band in draw_bands(result.system.system(number), picture, generator, bar):
                page.put(band, top, left)
                top += band.shape[1]
    save_picture(page.picture, output)


def _animate(arguments: argparse.Namespace, result: FitResult, output: Path) -> None:
    maps = result.system.system(0)
    picture: Picture = picture_of(arguments, result, arguments.side, arguments.zoom)
    if arguments.animate == "zoom" and picture.zoom is None:
        picture = replace(picture, zoom=Zoom(*interesting_point(maps, picture), _FLIGHT))
    frames: Iterable[torch.Tensor] = _FRAMES[arguments.animate](maps, picture, arguments.frames, arguments.seed)
    save_frames(frames, output, arguments, loops=arguments.animate == "orbit")
