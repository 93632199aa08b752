"""`fractalops systems`: list or draw the classic systems."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

from fractalops.cli.options import LARGEST_SIDE, Commands, add_picture_options, check_backend, check_picture, integer
from fractalops.drawing.high_resolution import Picture
from fractalops.drawing.point_clouds import draw_rows
from fractalops.drawing.sheets import CAPTION, SEPARATOR, caption, lay_out
from fractalops.io.images import Page, save_picture
from fractalops.systems import CLASSICS, Classic, System

_SIDE, _TILE = 1024, 256  # pixels, of a single picture and of one on a sheet


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "systems",
        help="list or draw classic systems, such as Barnsley's fern",
        description="List classic iterated function systems, such as Barnsley's fern. With --output, draw them "
        "instead; several systems are drawn on one sheet.",
        epilog="Example: fractalops systems fern -o fern.png",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_name, help="a system to list or draw (default: all systems)"
    )
    parser.add_argument(
        "--size",
        type=integer(1, LARGEST_SIDE),
        metavar="PIXELS",
        help=f"the side of each picture in pixels (default: {_SIDE} for one system, {_TILE} for several)",
    )
    parser.add_argument(
        "--points",
        type=integer(1),
        metavar="N",
        help="the number of points in each picture (default: 8 per pixel)",
    )
    add_picture_options(parser, "no file; a list is printed")
    parser.set_defaults(run=run)


def _name(text: str) -> str:
    if text not in CLASSICS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(CLASSICS)}, got {text!r}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    chosen = [CLASSICS[name] for name in arguments.names or CLASSICS]
    if arguments.output is None:
        print(_listed(chosen))
        return 0
    check_backend()
    check_picture(arguments.output, arguments.overwrite)
    side = arguments.size or (_SIDE if len(chosen) == 1 else _TILE)
    generator = torch.Generator().manual_seed(arguments.seed)
    points = arguments.points or 8 * side * side
    several = len(chosen) > 1
    layout = lay_out(len(chosen), (side + CAPTION if several else side, side), gap=4 if several else 0)
    page = Page(layout.size, channels=1, background=SEPARATOR)
    for number, each in enumerate(chosen):
        top, left = layout.corner(number)
        for band in _draw(each.system, side, points, generator):
            page.put(band, top, left)
            top += band.shape[1]
        if several:
            page.put(caption(each.name, side)[None], top, left)
    save_picture(page.picture, arguments.output)
    print(f"{len(chosen)} classic system{'s' if len(chosen) > 1 else ''}: {arguments.output}")
    return 0


def _listed(chosen: list[Classic]) -> str:
    """Return a table of systems."""
    rows = [("name", "maps", "space", "dimension", "source")]
    for each in chosen:
        maps, space = each.maps[1].shape
        dimension = "" if each.dimension is None else f"{each.dimension:.4f}"
        rows.append((each.name, str(maps), f"{space}-D", dimension, each.source))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _draw(system: System, side: int, points: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the picture (1, side, side) of a system in bands of rows."""
    maps = System(system.matrix.float(), system.offset.float(), system.probabilities)
    return draw_rows(maps, Picture.of(maps, (side, side), points), generator)
