"""`fractalops fit`: learn an iterated function system for each image, of pictures or of a data set."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fractalops.cli import fit_dataset, fit_pictures
from fractalops.cli.options import Commands, add_output, add_seed, check_backend, integer, number, picture_options
from fractalops.cli.settings import add_settings, configure
from fractalops.data.targets import PictureFiles, open_targets
from fractalops.fitting import FitConfig

_MOST_POINTS = 10**8  # in a sequence
_MOST_SEQUENCES = 10**6  # in a step


class Preset(NamedTuple):
    """Settings to start from, and the longest side that pictures are scaled down to."""

    make: Callable[..., FitConfig]
    size: int  # pixels


_PRESETS = {
    "draft": Preset(FitConfig, 32),
    "standard": Preset(FitConfig, 256),
    "fine": Preset(partial(FitConfig, detail="fine"), 512),
    "paper": Preset(FitConfig.paper, 32),
}
_SETTINGS = (
    "maps",
    "points",
    "sequences",
    "steps",
    "objective",
    "optimizer",
    "color",
    "seed",
)  # that have their own options


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    published = FitConfig.paper()
    parser = commands.add_parser("fit", help="learn a fractal for each image")
    parser.set_defaults(run=run)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="picture files, or one data set: a folder, an IDX or array file",
    )
    add_output(parser, "gets one folder an image, or the run over a data set", "learning.gif")

    image = parser.add_argument_group("image")
    sizes = ", ".join(f"{name}: {preset.size}" for name, preset in _PRESETS.items())
    image.add_argument(
        "--size",
        type=integer(1, 1024),
        help=f"larger images are scaled down to this longest side, smaller ones keep theirs (default: {sizes})",
    )
    image.add_argument(
        "--fit-to",
        type=integer(1, 1024),
        metavar="SIZE",
        help="all images are scaled to this longest side, small ones up",
    )
    image.add_argument("--color", "--colour", action="store_true", default=None, help="learn a color for each map, too")
    image.add_argument("--invert", action="store_true", help="swap dark and bright: the fractal is drawn bright")
    image.add_argument(
        "--background",
        choices=("black", "white"),
        default="black",
        help="what is seen through transparent parts, and where nothing is drawn (default: %(default)s)",
    )
    share = number(1, "lie in [0, 1)")
    image.add_argument("--threshold", type=share, metavar="X", help="pixels above X in [0, 1) become 1, others 0")
    image.add_argument("--stretch", action="store_true", help="the darkest value becomes black, the brightest white")
    image.add_argument(
        "--frame", type=integer(1), metavar="N", help="of an animation or of pages, counted from 1 (default: the first)"
    )

    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--preset",
        choices=tuple(_PRESETS),
        default="standard",
        help="the work: draft, 32 pixels in a second; standard, 256 in 10 seconds; fine, 512 in minutes; paper: the "
        "settings of the published code (default: %(default)s)",
    )
    for name, minimum, maximum, what in (
        ("maps", 1, 2**15, "affine maps in a system"),
        ("points", 1, _MOST_POINTS, "points in a sequence"),
        ("sequences", 1, _MOST_SEQUENCES, "sequences in a step"),
        ("steps", 1, None, "optimization steps"),
    ):
        both = f"by the image, paper: {getattr(published, name)}"
        learning.add_argument(f"--{name}", type=integer(minimum, maximum), help=f"{what} (default: {both})")
    learning.add_argument(
        "--objective",
        choices=("expectation", "fixed"),
        help="new sequences at every step, or the same ones throughout (default: expectation)",
    )
    learning.add_argument("--optimizer", choices=("adam", "sgd"), help=f"(default: {published.optimizer})")
    add_seed(learning)
    add_settings(learning)
    fit_dataset.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Learn pictures into a folder each, or a data set into one."""
    check_backend()
    preset = _PRESETS[arguments.preset]
    page = 1.0 if arguments.background == "white" and not arguments.invert else 0.0
    config = configure(partial(preset.make, background=page), FitConfig, arguments, _SETTINGS)
    if arguments.size is None:
        arguments.size = preset.size
    options = picture_options(arguments, config.color)
    targets = open_targets(arguments.images, options, limit=arguments.limit)
    if not isinstance(targets, PictureFiles):
        return fit_dataset.run(arguments, targets, config)
    fit_dataset.check_unused(arguments)
    if not config.snapshots and not arguments.no_animation:
        config = dataclasses.replace(config, snapshots=fit_pictures.FRAMES)
    return fit_pictures.run(arguments, targets, config)
