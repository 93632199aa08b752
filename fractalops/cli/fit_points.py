"""`fractalops fit-points`: learn an iterated function system for a point cloud."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fractalops.cli.options import INTERRUPTED, Commands, add_output, add_seed, check_backend, integer
from fractalops.cli.outputs import REPORT_NAME, SYSTEM_NAME, ResultFolder
from fractalops.cli.settings import add_settings, configure
from fractalops.drawing.point_clouds import AZIMUTHS, draw_point_clouds, turntable
from fractalops.errors import InputError, visible
from fractalops.fitting import PointConfig, PointFitResult, fit_points
from fractalops.fitting.points import why_degenerate
from fractalops.io.animations import save_animation
from fractalops.io.images import save_image
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
from fractalops.io.point_clouds.formats import READABLE

OUTPUT_NAMES = (
    SYSTEM_NAME,
    "learned.ply",
    "views.png",
    "fractal.png",
    "turntable.gif",
    "loss.csv",
    "loss.png",
    REPORT_NAME,
)

_SIDE = 256  # pixels of a view
_FRAMES = 36  # frames of the turntable
_MOST_DRAWN = 20_000  # points of each cloud in the views and the turntable
_DRAWING_SIDE = 768  # pixels
_DRAWING_POINTS = 500_000
_MOST_POINTS = 10**8  # points in a step
_READABLE = f"{', '.join(READABLE[:-1])} or {READABLE[-1]}"
_SETTINGS = ("maps", "points", "steps", "loss", "seed")  # settings that have their own options


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    defaults = PointConfig()
    parser = commands.add_parser(
        "fit-points",
        help="learn a fractal for a point cloud",
        description="Learn an iterated function system whose points approximate a 2-D or 3-D point cloud. Write the "
        "system, its points, drawings and a report to a folder.",
        epilog="Example: fractalops fit-points scan.ply --maps 64",
    )
    parser.set_defaults(run=run)
    parser.add_argument("cloud", type=Path, metavar="CLOUD", help=f"the file of the points: {_READABLE}")
    parser.add_argument(
        "--drop-bad",
        action="store_true",
        help="leave out points with NaN or infinite coordinates, instead of refusing the file",
    )
    add_output(parser, "the folder for the results; the cloud gets a subfolder with its name", "turntable.gif")
    learning = parser.add_argument_group("learning")
    for name, minimum, maximum, what in (
        ("maps", 1, 2**15, "affine maps"),
        ("points", 1, _MOST_POINTS, "points that are drawn in a step"),
        ("steps", 1, None, "optimization steps"),
    ):
        text = f"the number of {what} (default: {getattr(defaults, name)})"
        learning.add_argument(f"--{name}", type=integer(minimum, maximum), metavar="N", help=text)
    learning.add_argument(
        "--loss",
        choices=("kernel", "chamfer"),
        help="the distance of the two clouds: kernel is the maximum mean discrepancy, chamfer the distance of nearest "
        f"neighbors (default: {defaults.loss})",
    )
    add_seed(learning)
    add_settings(learning, "PointConfig")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, learn a system, save it, and draw it. Return the exit code."""
    check_backend()
    config = configure(PointConfig, PointConfig, arguments, _SETTINGS)
    output = ResultFolder(arguments.output / (arguments.cloud.stem.strip(". ") or "cloud"), OUTPUT_NAMES)
    output.check_free(overwrite=arguments.overwrite)
    with collect_notices() as collected:
        target = read_point_cloud(arguments.cloud, drop_bad=arguments.drop_bad)  # (P, D), float64
    if (reason := why_degenerate(target)) is not None:
        raise InputError(f"cannot use {arguments.cloud}: its points {reason}")
    notices = collected.get(str(arguments.cloud), [])
    if not arguments.quiet:
        for notice in notices:
            print(f"{arguments.cloud}: {notice}")

    with output.claimed(overwrite=arguments.overwrite):
        result = fit_points(target, config, progress=not arguments.quiet)
        _save(output, arguments, target, result, notices)
    if not arguments.quiet:
        print(
            f"{arguments.cloud}: {len(target)} points, Chamfer distance {result.chamfer:.4f} of the diameter "
            f"(two halves of the cloud: {result.halves_chamfer:.4f}); pictures in {output.path}"
        )
    if result.interrupted:
        saved = f"the system after {len(result.losses)} of {config.steps} steps is saved in {output.path}"
        print(f"fractalops fit-points: interrupted; {visible(saved)}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _save(
    output: ResultFolder, arguments: argparse.Namespace, target: Tensor, result: PointFitResult, notices: Sequence[str]
) -> None:
    """Write all results to the folder. `target` is (P, D)."""
    output.save_system(result)
    _draw(output, target, result, animation=not arguments.no_animation)
    output.write_losses(result.losses, title=arguments.cloud.name)
    figures = {
        "cloud": str(arguments.cloud),
        "points": len(target),
        "dimensions": target.shape[1],
        "diameter": result.diameter,
        "chamfer": result.chamfer,
        "start_chamfer": result.start_chamfer,
        "halves_chamfer": result.halves_chamfer,
        "steps": len(result.losses),
    }
    output.write_report(figures, result, notices)


def _draw(folder: ResultFolder, target: Tensor, result: PointFitResult, *, animation: bool) -> None:
    generator = torch.Generator().manual_seed(result.config.seed)
    learned = result.sample(len(target), generator=generator)  # (P, D)
    save_point_cloud(learned, folder.new("learned.ply"))
    chosen = torch.randperm(len(target), generator=generator)[:_MOST_DRAWN]
    clouds = target[chosen], learned[:_MOST_DRAWN]
    save_image(draw_point_clouds(clouds, side=_SIDE), folder.new("views.png"))
    many = result.sample(_DRAWING_POINTS, generator=generator)
    save_image(draw_point_clouds([many], side=_DRAWING_SIDE, azimuths=AZIMUTHS[:1]), folder.new("fractal.png"))
    if animation:
        frames = turntable(clouds, frames=_FRAMES, side=_SIDE)
        save_animation(frames, folder.new("turntable.gif"), last_milliseconds=120)
