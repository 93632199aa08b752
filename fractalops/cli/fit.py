"""`fractalops fit`: learn an iterated function system for each image; `fit_dataset` has the route of data sets."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fractalops.cli import fit_dataset
from fractalops.cli.options import (
    INTERRUPTED,
    Commands,
    add_seed,
    check_backend,
    check_folder,
    fraction,
    in_options,
    integer,
    picture_options,
)
from fractalops.cli.outputs import Summary, save_system, write_pictures
from fractalops.errors import InputError, MissingExtra
from fractalops.fitting import FitConfig, FitResult, fit
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices

_SIZE = 32  # pixels of the longest side (paper section 5.2)
_FRAMES = 40  # of the animation
_MOST_POINTS = 10**8  # in a sequence
_MOST_SEQUENCES = 10**6  # in a step


@dataclass(frozen=True)
class Job:
    """One image to learn and the folder that its results go to."""

    image: Path
    target: Tensor  # (H, W) or (3, H, W)
    folder: Path
    notices: tuple[str, ...]


def add_parser(commands: Commands) -> None:
    defaults, published = FitConfig(), FitConfig.paper()
    parser = commands.add_parser("fit", help="learn a fractal for each image")
    parser.set_defaults(run=run)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="picture files, or one data set: a folder, an IDX or array file",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("fractals"),
        help="gets one folder an image, or the run over a data set (default: %(default)s)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    output.add_argument("--no-animation", action="store_true", help="leave out learning.gif")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")

    image = parser.add_argument_group("image")
    size_help = "larger images are scaled down to this longest side (default: %(default)s)"
    image.add_argument("--size", type=integer(1, 1024), default=_SIZE, help=size_help)
    image.add_argument(
        "--fit-to",
        type=integer(1, 1024),
        metavar="SIZE",
        help="all images are scaled to this longest side, small ones up",
    )
    image.add_argument("--color", "--colour", action="store_true", help="learn a color for each map, too")
    image.add_argument("--invert", action="store_true", help="swap dark and bright: the fractal is drawn bright")
    image.add_argument(
        "--background",
        choices=("black", "white"),
        default="black",
        help="what is seen through transparent parts (default: %(default)s)",
    )
    image.add_argument("--threshold", type=fraction, metavar="X", help="pixels above X in [0, 1) become 1, others 0")

    learning = parser.add_argument_group("learning")
    for name, minimum, maximum, what in (
        ("maps", 1, 2**15, "affine maps in a system"),
        ("points", 1, _MOST_POINTS, "points in a sequence"),
        ("sequences", 1, _MOST_SEQUENCES, "sequences in a step"),
        ("steps", 1, None, "optimization steps"),
    ):
        both = f"{getattr(defaults, name)}, published: {getattr(published, name)}"
        learning.add_argument(f"--{name}", type=integer(minimum, maximum), help=f"{what} (default: {both})")
    learning.add_argument(
        "--objective",
        choices=("expectation", "fixed"),
        default=defaults.objective,
        help="new sequences at every step, or the same ones throughout (default: %(default)s)",
    )
    learning.add_argument(
        "--optimizer", choices=("adam", "sgd"), default=defaults.optimizer, help="(default: %(default)s)"
    )
    learning.add_argument(
        "--published", action="store_true", help="start from the settings of the published code, not from better ones"
    )
    add_seed(learning)
    fit_dataset.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then learn the images of equal shape together and save each group as it is done."""
    check_backend()
    if fit_dataset.is_data_set(arguments.images):
        return fit_dataset.run(arguments, _config(arguments, snapshots=0))
    fit_dataset.check_unused(arguments)
    config = _config(arguments, snapshots=0 if arguments.no_animation else _FRAMES)
    jobs = _plan(arguments)
    if not arguments.quiet:
        _show_notices(jobs)

    summaries: list[Summary] = []
    interrupted = False
    try:
        for group in _group_by_shape(jobs):
            targets = torch.stack([job.target for job in group])  # (S, H, W) or (S, 3, H, W)
            result = fit(targets, config, progress=not arguments.quiet)
            interrupted = result.interrupted
            _save(group, result, summaries, animation=not arguments.no_animation)
            if interrupted:
                break
    finally:
        _show(summaries, arguments.quiet)
    if interrupted:
        _explain_interruption(summaries, jobs, config.steps)
        return INTERRUPTED
    return 0


def _config(arguments: argparse.Namespace, snapshots: int) -> FitConfig:
    sizes = {name: getattr(arguments, name) for name in ("maps", "points", "sequences", "steps")}
    given = {name: value for name, value in sizes.items() if value is not None}
    try:
        return (FitConfig.paper if arguments.published else FitConfig)(
            **given,
            objective=arguments.objective,
            optimizer=arguments.optimizer,
            color=arguments.color,
            snapshots=snapshots,
            seed=arguments.seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def _plan(arguments: argparse.Namespace) -> list[Job]:
    """Read every image and check every folder, so that nothing fails after minutes of learning."""
    folders = _distinct_folders(arguments.images, arguments.output)
    check_folder(arguments.output)
    for folder in folders:
        check_folder(folder)
    taken = [folder for folder in folders if folder.exists() and any(folder.iterdir())]
    if taken and not arguments.overwrite:
        names = ", ".join(str(folder) for folder in taken)
        raise InputError(f"cannot write to {names}: there are files already (--overwrite replaces the results)")
    jobs, options = [], picture_options(arguments)
    for image, folder in zip(arguments.images, folders, strict=True):
        with collect_notices() as notices:
            target = read_image(image, options)
        jobs.append(Job(image, target, folder, tuple(map(in_options, notices.get(str(image), [])))))
    return jobs


def _distinct_folders(images: Sequence[Path], output: Path) -> list[Path]:
    """A folder for each image, named by its stem; a number is added where stems collide (leaf, leaf-2)."""
    # Lower case, as Leaf and leaf are one folder on some file systems. A name that another image bears as its
    # own is not given away: leaf.png, leaf.jpg, leaf-2.png become leaf, leaf-3, leaf-2.
    stems = [image.stem.strip(". ") or "image" for image in images]
    reserved = {stem.lower() for stem in stems}
    used: set[str] = set()
    folders = []
    for stem in stems:
        name, number = stem, 1
        while name.lower() in used or (number > 1 and name.lower() in reserved):
            number += 1
            name = f"{stem}-{number}"
        used.add(name.lower())
        folders.append(output / name)
    return folders


def _group_by_shape(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.target.shape), []).append(job)
    return list(groups.values())


def _save(group: Sequence[Job], result: FitResult, summaries: list[Summary], *, animation: bool) -> None:
    """Write a folder for each image, except for those that an interruption came before; tell of it in `summaries`.

    Everything that was learned is saved before the first picture is drawn, which takes its time and may fail.
    """
    # After an interruption the result may end before the group does.
    learned = [(job, result.select(s)) for s, job in enumerate(group[: result.system.systems]) if result.steps[s] > 0]
    _save_systems(learned)
    try:
        for job, own in learned:
            summaries.append(
                write_pictures(job.folder, job.image, job.target, own, notices=job.notices, animation=animation)
            )
    except BaseException:
        drawn = {summary.folder for summary in summaries}
        left = ", ".join(str(job.folder) for job, _ in learned if job.folder not in drawn)
        print(f"fractalops fit: what was learned is saved, but pictures are missing in {left}", file=sys.stderr)
        raise


def _save_systems(learned: Sequence[tuple[Job, FitResult]]) -> None:
    """Save every system, even where a folder before it fails or Ctrl-C comes; the first error is raised at the end."""
    failure: BaseException | None = None
    for job, own in learned:
        try:
            save_system(job.folder, own)
        except (OSError, KeyboardInterrupt) as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _show_notices(jobs: Sequence[Job]) -> None:
    for job in jobs:
        for notice in job.notices:
            print(f"{job.image}: {notice}")
    if importlib.util.find_spec("matplotlib") is None:
        print(f"loss.png is left out: {MissingExtra('loss_curve', 'matplotlib', 'plot')}")


def _show(summaries: Sequence[Summary], quiet: bool) -> None:
    """A short table of what was learned, and where its pictures are."""
    if quiet or not summaries:
        return
    names = [str(summary.image) for summary in summaries]
    width = max(len(name) for name in ("image", *names))
    print(f"{'image':<{width}}  {'size':>9}  {'minimum MSE':>11}  {'mean MSE':>8}  pictures in")
    for name, summary in zip(names, summaries, strict=True):
        size = f"{summary.width} x {summary.height}"
        errors = f"{summary.minimum_mse:>11.4f}  {summary.mean_mse:>8.4f}"
        print(f"{name:<{width}}  {size:>9}  {errors}  {summary.folder}")


def _explain_interruption(summaries: Sequence[Summary], jobs: Sequence[Job], steps: int) -> None:
    saved = [
        f"{summary.folder} has what was learned in {summary.steps} of {steps} steps"
        for summary in summaries
        if summary.steps < steps
    ]
    folders = {summary.folder for summary in summaries}
    left = [str(job.image) for job in jobs if job.folder not in folders]
    missing = [f"not learned: {', '.join(left)}"] if left else []
    print(f"fractalops fit: {'; '.join(['interrupted', *saved, *missing])}", file=sys.stderr)
