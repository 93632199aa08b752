"""`fractalops render`: a high-resolution picture of a system, or an animation of it."""

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
    picture_of,
    read_zoom,
    save_frames,
)
from fractalops.cli.options import Commands, add_picture_options, check_backend, check_picture, default_output
from fractalops.cli.sources import FILES, Source, add_choice, load_drawable
from fractalops.drawing.canvas import Zoom
from fractalops.drawing.high_resolution import Picture
from fractalops.drawing.motion import build_frames, interesting_point, orbit_frames, zoom_frames
from fractalops.drawing.point_clouds import draw_rows
from fractalops.drawing.sheets import SEPARATOR, lay_out
from fractalops.errors import InputError
from fractalops.io.images import Page, save_picture
from fractalops.io.notices import log_notices
from fractalops.io.progress import progress_bar
from fractalops.systems.statistics import describe

_SIDE = 1024  # pixels
_LARGEST_SHEET = 8192  # pixels of a side, where the size of its pictures is not given
_POINTS_A_PIXEL = 16  # at most, of a picture on a sheet
_FLIGHT = 1000.0  # how many times larger the last picture of a flight is
_FRAMES = {"zoom": zoom_frames, "build": build_frames, "orbit": orbit_frames}


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("render", help="draw a system at any size and depth, or animate it")
    parser.add_argument("file", type=Path, metavar="FILE", help=FILES)
    add_choice(parser, "--system")
    add_picture_options(parser, "FILE.png beside the file, or FILE.gif")
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
    """Run the command and return its exit code."""
    check_backend()
    animated = arguments.animate is not None
    output = arguments.output or default_output(arguments.file, ".gif" if animated else ".png")
    if animated:
        if arguments.stats:
            raise InputError("--stats is for pictures, not for animations")
        check_movable(arguments, output)
        _animate(arguments, load_drawable(arguments.file, arguments.system), output)
    else:
        for name in ("frames", "fps"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} is for animations: --animate says of which kind")
        check_picture(output, arguments.overwrite)
        check_look(arguments, output)
        source = load_drawable(arguments.file, arguments.system)
        _draw(arguments, source, output)
        if arguments.stats:
            print("\n\n".join(map(describe, source.systems.values())))
    print(f"{'animation' if animated else 'picture'}: {output}")
    return 0


def _draw(arguments: argparse.Namespace, source: Source, output: Path) -> None:
    """Draw a picture of each system, several on one sheet, in the memory of the bytes that are saved."""
    systems = list(source.systems.values())
    for option in ("zoom", "transparent"):
        if getattr(arguments, option) and any(system.dimensions == 3 for system in systems):
            raise InputError(f"--{option} is for systems in the plane, and {source.path} has one in space")
    side = _SIDE if source.learned is not None else min(_SIDE, _LARGEST_SHEET // lay_out(len(systems), (1, 1)).columns)
    most = _POINTS_A_PIXEL if len(systems) > 1 else None
    pictures = [picture_of(arguments, source, system, side, arguments.zoom, most=most) for system in systems]
    layout = lay_out(len(systems), pictures[0].size, gap=4 if len(systems) > 1 else 0)
    channels = max(map(channels_of, pictures, systems))
    if any(system.dimensions == 3 and system.color is not None for system in systems):
        log_notices(source.path, ["colors of systems in space are left out: they are drawn in gray"])
    page = Page(layout.size, channels, SEPARATOR)
    generator = torch.Generator().manual_seed(arguments.seed)
    with progress_bar(0, "point", "render", shown=True, unit_scale=True, delay=2) as bar:
        for number, (system, picture) in enumerate(zip(systems, pictures, strict=True)):
            top, left = layout.corner(number)
            for band in draw_rows(system, picture, generator, bar):
                page.put(_widened(band, channels), top, left)
                top += band.shape[1]
    save_picture(page.picture, output)


def _widened(band: torch.Tensor, channels: int) -> torch.Tensor:
    """Return a band (C, h, W) of a gray picture in the channels of a sheet that has colors, too."""
    if len(band) == channels:
        return band
    return torch.cat((band[:1].expand(3, -1, -1), band[1:]))


def _animate(arguments: argparse.Namespace, source: Source, output: Path) -> None:
    maps = source.the_only("an animation", "--system")
    picture: Picture = picture_of(arguments, source, maps, arguments.side, arguments.zoom)
    if arguments.animate == "zoom" and picture.zoom is None:
        picture = replace(picture, zoom=Zoom(*interesting_point(maps, picture), _FLIGHT))
    frames: Iterable[torch.Tensor] = _FRAMES[arguments.animate](maps, picture, arguments.frames, arguments.seed)
    save_frames(frames, output, arguments, loops=arguments.animate == "orbit")
