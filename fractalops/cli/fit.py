"""`fractalops fit`: learn an iterated function system for each picture, or for each image of a data set."""

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

_MOST_POINTS = 10**8  # points in a sequence
_MOST_SEQUENCES = 10**6  # sequences in a step


class Preset(NamedTuple):
    """The function that creates the settings, and the longest side that pictures are scaled down to."""

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
)  # settings that have their own options


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    published = FitConfig.paper()
    parser = commands.add_parser(
        "fit",
        help="learn a fractal for each image",
        description="Learn an iterated function system for each image by gradient descent. For each picture, write the "
        "system, drawings and a report to a folder of its own. For a data set, write all results to one folder.",
        epilog="Example: fractalops fit leaf.png --size 128",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="picture files, or one data set: a folder of pictures, an IDX file or an array file (.npy, .npz, "
        ".safetensors)",
    )
    add_output(parser, "the folder for the results; each picture gets a subfolder", "learning.gif")

    image = parser.add_argument_group("image")
    sizes = ", ".join(f"{preset.size} for {name}" for name, preset in _PRESETS.items())
    image.add_argument(
        "--size",
        type=integer(1, 1024),
        metavar="PIXELS",
        help="the longest side in pixels; larger images are scaled down to it, smaller ones keep their size (default "
        f"by preset: {sizes})",
    )
    image.add_argument(
        "--fit-to",
        type=integer(1, 1024),
        metavar="PIXELS",
        help="the longest side in pixels; all images are scaled to it, small ones too (default: none, see --size)",
    )
    image.add_argument(
        "--color",
        "--colour",
        action="store_true",
        default=None,
        help="keep the colors of the images, and learn a color for each map",
    )
    image.add_argument(
        "--invert", action="store_true", help="swap dark and bright, for dark shapes on a bright background"
    )
    image.add_argument(
        "--background",
        choices=("black", "white"),
        default="black",
        help="the color behind transparent parts and of pixels without points (default: %(default)s)",
    )
    image.add_argument(
        "--threshold",
        type=number(1, "lie in [0, 1)"),
        metavar="X",
        help="set pixels above X to 1 and the others to 0, with X in [0, 1) (default: no threshold)",
    )
    image.add_argument(
        "--stretch", action="store_true", help="scale the values of each image to the full range from black to white"
    )
    image.add_argument(
        "--frame",
        type=integer(1),
        metavar="N",
        help="the frame of an animation or the page of a file, counted from 1 (default: the first)",
    )

    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--preset",
        choices=tuple(_PRESETS),
        default="standard",
        help="the amount of work: draft learns a side of 32 pixels and is the fastest, standard 256 pixels, fine 512 "
        "pixels with more maps, points and steps; paper uses the settings of the published code (default: "
        "%(default)s)",
    )
    for name, minimum, maximum, what in (
        ("maps", 1, 2**15, "affine maps in a system"),
        ("points", 1, _MOST_POINTS, "points in a sequence"),
        ("sequences", 1, _MOST_SEQUENCES, "sequences in a step"),
        ("steps", 1, None, "optimization steps"),
    ):
        default = f"depends on the image; {getattr(published, name)} for the preset paper"
        learning.add_argument(
            f"--{name}",
            type=integer(minimum, maximum),
            metavar="N",
            help=f"the number of {what} (default: {default})",
        )
    learning.add_argument(
        "--objective",
        choices=("expectation", "fixed"),
        help="expectation draws new sequences at every step, fixed uses the same ones (default: expectation)",
    )
    learning.add_argument(
        "--optimizer",
        choices=("adam", "sgd"),
        help="the optimizer: adam, or sgd, which is stochastic gradient descent with momentum (default: "
        f"{published.optimizer})",
    )
    add_seed(learning)
    add_settings(learning, "FitConfig")
    fit_dataset.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Learn pictures, with a folder for each, or a data set, with one folder. Return the exit code."""
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
