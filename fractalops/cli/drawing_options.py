"""The drawing options of `fractalops render` and `fractalops morph`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from fractalops.cli.options import LARGEST_SIDE, check_output, integer
from fractalops.cli.sources import Source
from fractalops.drawing.canvas import LARGEST_ZOOM, Zoom, check_zoom
from fractalops.drawing.high_resolution import Picture, proportional_size
from fractalops.drawing.palettes import PALETTES, read_palette
from fractalops.errors import InputError
from fractalops.io.animations import check_animation, save_animation
from fractalops.io.progress import progress_bar
from fractalops.systems import System

T = TypeVar("T")

TRANSPARENT = (".png", ".webp", ".tif", ".tiff")  # formats with partial opacity
_WEBP_SIDE = 16383  # pixels
_ANIMATION_SIDE = 512  # pixels
_FRAMES = 60
_FPS = 20
_REST_MILLISECONDS = 1500


def converter(convert: Callable[[str], T], expected: str) -> Callable[[str], T]:
    """Return a converter for argparse that calls `convert`; its errors say what is `expected`."""

    def checked(text: str) -> T:
        try:
            return convert(text)
        except (ValueError, TypeError):
            raise argparse.ArgumentTypeError(f"must {expected}, got {text!r}") from None

    return checked


def _gamma(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10:
        raise ValueError
    return value


def _zoom(text: str) -> Zoom:
    return check_zoom("render", tuple(float(part) for part in text.split(",")))


read_zoom = converter(
    _zoom, f"be X,Y,FACTOR with X and Y from 0 to 1 and FACTOR from 1 to {LARGEST_ZOOM:g}".replace("e+", "e")
)


def add_drawing_options(parser: argparse.ArgumentParser, side: str, on_a_sheet: str = "") -> None:
    """Add the options of size, points and tones of a picture.

    `side` and `on_a_sheet` are parts of the help: the default size, and the default number of points on a sheet.
    """
    parser.add_argument(
        "--size",
        type=integer(1, LARGEST_SIDE),
        metavar="PIXELS",
        help=f"the longest side of the picture in pixels (default: {side})",
    )
    parser.add_argument(
        "--points",
        type=integer(1),
        metavar="N",
        help='the number of points in a picture (default: one per pixel, or four for the blend "mean", and at least '
        f"1000000{on_a_sheet})",
    )
    tones = parser.add_argument_group("tones")
    tones.add_argument(
        "--gamma",
        type=converter(_gamma, "be a number above 0, at most 10"),
        metavar="X",
        help="the exponent of the brightness, above 0 and at most 10; a smaller one makes dim parts brighter "
        "(default: 0.4 in gray, 1 in color)",
    )
    tones.add_argument(
        "--palette",
        type=converter(
            read_palette, f"be one of {', '.join(PALETTES)} or colors from dark to bright such as #112233,#ffcc00"
        ),
        metavar="NAME",
        help=f"the colors for a gray system: {', '.join(PALETTES)}, or a list from dark to bright such as "
        "#112233,#ffcc00 (default: gray)",
    )
    tones.add_argument(
        "--transparent", action="store_true", help="make dark parts transparent (only .png, .webp and .tif files)"
    )


def check_look(arguments: argparse.Namespace, output: Path) -> None:
    """Raise `InputError` if the format of `output` can't store the requested picture."""
    suffix = output.suffix.lower()
    if arguments.transparent and suffix not in TRANSPARENT:
        raise InputError(f"cannot save {output}: --transparent needs a format with opacity; use .png or .webp")
    if suffix == ".webp" and (arguments.size or 0) > _WEBP_SIDE:
        raise InputError(f"cannot save {output}: --size must be at most {_WEBP_SIDE} for WebP, got {arguments.size}")


def picture_of(
    arguments: argparse.Namespace,
    source: Source,
    system: System,
    side: int,
    zoom: Zoom | None = None,
    *,
    most: int | None = None,
) -> Picture:
    """Return the picture of one of the systems of a file, as the options describe it.

    A learned system is drawn with the proportions and the intensity of its targets. Other systems are drawn as by
    `Picture.of`, by default with at most `most` points per pixel, as small pictures don't need a million points.

    Raises `InputError` if a palette is given for a system with colors.
    """
    if arguments.palette is not None and (system.channels or 1) > 1:
        raise InputError("--palette is only for gray systems, but this system has colors; leave out --palette")
    look = {name: getattr(arguments, name) for name in ("gamma", "palette", "transparent")} | {"zoom": zoom}
    longest = arguments.size or side
    if (result := source.learned) is not None:
        look |= {"intensity": result.intensity, "learned": result.size}
        return Picture.of(result.system, proportional_size(result.size, longest), arguments.points, **look)
    picture = Picture.of(system, (longest, longest), arguments.points, **look)
    if arguments.points is not None or most is None:
        return picture
    return replace(picture, points=min(picture.points, most * longest**2))


def channels_of(picture: Picture, system: System) -> int:
    """Return the number of channels of a system's picture."""
    channels = 1 if system.dimensions == 3 else system.channels or 1
    return (3 if picture.palette is not None else channels) + picture.transparent


def add_animation_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of an animation, and return their group."""
    group = parser.add_argument_group(
        "animation", "An animation is written as .gif or .webp, or as .mp4 if ffmpeg is installed."
    )
    group.add_argument(
        "--frames", type=integer(1, 10_000), metavar="N", help=f"the number of frames (default: {_FRAMES})"
    )
    group.add_argument("--fps", type=integer(1, 60), metavar="N", help=f"the frames per second (default: {_FPS})")
    parser.set_defaults(side=_ANIMATION_SIDE)
    return group


def check_movable(arguments: argparse.Namespace, output: Path) -> None:
    """Raise `InputError` unless the requested animation can be written to `output`. Set defaults of the options."""
    check_animation(output)
    check_output(output, arguments.overwrite)
    check_look(arguments, output)
    arguments.frames = arguments.frames or _FRAMES
    arguments.fps = arguments.fps or _FPS


def save_frames(frames: Iterable[Tensor], output: Path, arguments: argparse.Namespace, *, loops: bool) -> None:
    """Save an animation while its frames (C, H, W) are drawn. If it does not loop, the last frame is shown longer."""
    bar = progress_bar(arguments.frames, "frame", arguments.command, shown=True, iterable=frames, delay=2)
    save_animation(
        bar,
        output,
        frame_milliseconds=1000 / arguments.fps,
        last_milliseconds=None if loops else _REST_MILLISECONDS,
    )
