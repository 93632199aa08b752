"""`fractalops render`: draw a system as a high-resolution picture, or as an animation."""

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
from fractalops.io.systems.formats import check_readable
from fractalops.systems.statistics import describe

_SIDE = 1024  # pixels
_LARGEST_SHEET = 8192  # pixels of a side, if the size of the pictures on the sheet is not given
_POINTS_A_PIXEL = 16  # maximum for a picture on a sheet
_FLIGHT = 1000.0  # the last zoom factor of a zoom animation
_FRAMES = {"zoom": zoom_frames, "build": build_frames, "orbit": orbit_frames}


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "render",
        help="draw a system as a picture of any size, or as an animation",
        description="Draw a picture of an iterated function system at any size and zoom, or an animation of it. If the "
        "file has several systems, they are drawn on one sheet.",
        epilog="Example: fractalops render fern.ifs --size 2048 --palette moss -o fern.png",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help=f"the file of the system: {FILES}")
    add_choice(parser, "--system", default="all systems; an animation needs one")
    add_picture_options(parser, "FILE with the suffix .png, or .gif for an animation")
    add_drawing_options(
        parser,
        f"{_SIDE}, less on a sheet of many systems, or 512 for an animation",
        f"; on a sheet at most {_POINTS_A_PIXEL} per pixel",
    )
    parser.add_argument(
        "--zoom",
        type=read_zoom,
        metavar="X,Y,FACTOR",
        help="draw a part of the picture FACTOR times larger, from 1 to 1e11; its center X,Y is in [0, 1], with 0,0 at "
        'the top left. With the blend "mean", gaps between the copies that the maps draw are filled up to FACTOR 4, '
        "and show the background from 32 on",
    )
    parser.add_argument(
        "--stats", action="store_true", help="also print the statistics of each system, such as its dimensions"
    )
    animation = add_animation_options(parser)
    animation.add_argument(
        "--animate",
        choices=tuple(_FRAMES),
        help="write an animation: zoom flies to --zoom or to a point of the fractal, build draws more and more points, "
        "orbit turns the maps back and forth (default: write a picture)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    check_backend()
    check_readable(arguments.file)  # before its name is used for the output
    animated = arguments.animate is not None
    output = arguments.output or default_output(arguments.file, ".gif" if animated else ".png")
    if animated:
        if arguments.stats:
            raise InputError("--stats can't be used with --animate; leave out one of them")
        check_movable(arguments, output)
        _animate(arguments, load_drawable(arguments.file, arguments.system), output)
    else:
        for name in ("frames", "fps"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} is only for animations; add --animate to write one")
        check_picture(output, arguments.overwrite)
        check_look(arguments, output)
        source = load_drawable(arguments.file, arguments.system)
        _draw(arguments, source, output)
        if arguments.stats:
            print("\n\n".join(map(describe, source.systems.values())))
    print(f"{'animation' if animated else 'picture'}: {output}")
    return 0


def _draw(arguments: argparse.Namespace, source: Source, output: Path) -> None:
    """Draw a picture of each system, several on one sheet. Only the bytes of the saved picture are kept in memory."""
    systems = list(source.systems.values())
    for option in ("zoom", "transparent"):
        if getattr(arguments, option) and any(system.dimensions == 3 for system in systems):
            raise InputError(f"--{option} is only for 2-D systems, but {source.path} has a 3-D system")
    side = _SIDE if source.learned is not None else min(_SIDE, _LARGEST_SHEET // lay_out(len(systems), (1, 1)).columns)
    most = _POINTS_A_PIXEL if len(systems) > 1 else None
    pictures = [picture_of(arguments, source, system, side, arguments.zoom, most=most) for system in systems]
    layout = lay_out(len(systems), pictures[0].size, gap=4 if len(systems) > 1 else 0)
    channels = max(map(channels_of, pictures, systems))
    if any(system.dimensions == 3 and system.color is not None for system in systems):
        log_notices(source.path, ["3-D systems are drawn in gray, without their colors"])
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
    """Return a band (C, h, W) with `channels` channels. On a sheet with colors, gray is repeated in three channels."""
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
