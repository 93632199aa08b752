"""`fractalops fit`: learn an iterated function system for each image."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fractalops.cli.options import Commands, add_seed, check_backend, check_folder, fraction, integer
from fractalops.cli.outputs import Summary, write_outputs
from fractalops.errors import InputError, MissingExtra
from fractalops.images import read_image
from fractalops.inversion import FitConfig, FitInterrupted, FitResult, fit

_SIZE = 32  # pixels of the longest side (paper section 5.2)
_FRAMES = 40  # of the animation
_INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """One image to learn and the folder that its results go to."""

    image: Path
    target: Tensor  # (H, W)
    folder: Path
    notices: tuple[str, ...]


def add_parser(commands: Commands) -> None:
    defaults = FitConfig()
    parser = commands.add_parser("fit", help="learn a fractal for each image")
    parser.set_defaults(run=run)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")

    output = parser.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("fractals"),
        help="gets one folder an image (default: %(default)s)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    output.add_argument("--no-animation", action="store_true", help="leave out learning.gif")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")

    image = parser.add_argument_group("image")
    size_help = "larger images are scaled down to this longest side (default: %(default)s)"
    image.add_argument("--size", type=integer(1, 1024), default=_SIZE, help=size_help)
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
        ("points", 1, None, "points in a sequence"),
        ("sequences", 1, None, "sequences in a step"),
        ("steps", 1, None, "optimisation steps"),
    ):
        learning.add_argument(
            f"--{name}",
            type=integer(minimum, maximum),
            default=getattr(defaults, name),
            help=f"{what} (default: %(default)s)",
        )
    learning.add_argument(
        "--objective",
        choices=("expectation", "fixed"),
        default=defaults.objective,
        help="new sequences at every step, or the same ones throughout (default: %(default)s)",
    )
    learning.add_argument(
        "--optimizer", choices=("adam", "sgd"), default=defaults.optimizer, help="(default: %(default)s)"
    )
    add_seed(learning)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then learn the images of equal shape together and save each group as it is done."""
    check_backend()
    config = _config(arguments)
    jobs = _plan(arguments)
    if not arguments.quiet:
        _show_notices(jobs)

    summaries: list[Summary] = []
    for group in _group_by_shape(jobs):
        targets = torch.stack([job.target for job in group])  # (S, H, W)
        try:
            result = fit(targets, config, progress=not arguments.quiet)
        except FitInterrupted as interruption:
            partial = _save(group, interruption.result, arguments, interrupted=True)
            _show(summaries + partial, arguments.quiet)
            saved = {summary.folder for summary in summaries + partial}
            _explain_interruption(partial, [job for job in jobs if job.folder not in saved], config.steps)
            return _INTERRUPTED
        summaries += _save(group, result, arguments, interrupted=False)
    _show(summaries, arguments.quiet)
    return 0


def _config(arguments: argparse.Namespace) -> FitConfig:
    try:
        return FitConfig(
            maps=arguments.maps,
            points=arguments.points,
            sequences=arguments.sequences,
            steps=arguments.steps,
            objective=arguments.objective,
            optimizer=arguments.optimizer,
            snapshots=0 if arguments.no_animation else _FRAMES,
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
    jobs = []
    for image, folder in zip(arguments.images, folders, strict=True):
        target, notices = read_image(
            image,
            size=arguments.size,
            background=arguments.background,
            invert=arguments.invert,
            threshold=arguments.threshold,
        )
        jobs.append(Job(image, target, folder, tuple(notices)))
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


def _save(
    group: Sequence[Job], result: FitResult, arguments: argparse.Namespace, *, interrupted: bool
) -> list[Summary]:
    """Write a folder for each image, except for those that an interruption came before."""
    summaries = []
    for position, job in enumerate(group):
        own = result.select(position)
        if interrupted and not bool(own.losses.isfinite().any()):
            continue
        summaries.append(
            write_outputs(
                job.folder,
                job.image,
                job.target,
                own,
                notices=job.notices,
                animation=not arguments.no_animation,
                interrupted=interrupted,
            )
        )
    return summaries


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


def _explain_interruption(partial: Sequence[Summary], left: Sequence[Job], steps: int) -> None:
    saved = [f"{summary.folder} has what was learned in {summary.steps} of {steps} steps" for summary in partial]
    missing = [f"not learned: {', '.join(str(job.image) for job in left)}"] if left else []
    print(f"fractalops fit: {'; '.join(['interrupted', *saved, *missing])}", file=sys.stderr)
