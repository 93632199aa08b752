"""`fractalops fit PICTURE ...`: learn pictures, and write a folder of results for each."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fractalops.cli.options import INTERRUPTED, in_options
from fractalops.cli.outputs import REPORT_NAME, SYSTEM_NAME, ResultFolder
from fractalops.data.targets import PictureFiles
from fractalops.drawing.sheets import comparison
from fractalops.errors import MissingExtra, visible
from fractalops.fitting import FitConfig, FitResult
from fractalops.fitting.learning import fit_images
from fractalops.fitting.run_plan import describe_settings, make_plan, read_target
from fractalops.fitting.targets import uncovered
from fractalops.io.animations import save_animation
from fractalops.io.images import save_image
from fractalops.io.notices import collect_notices

OUTPUT_NAMES = (SYSTEM_NAME, "comparison.png", "fractal.png", "loss.csv", "loss.png", "learning.gif", REPORT_NAME)
FRAMES = 40  # frames of the animation

_DRAWING_SIDE = 1024  # pixels
_ANIMATION_SIDE = 192  # pixels of each half of a frame


@dataclass(frozen=True)
class Job:
    """A picture to learn, and the folder for its results."""

    image: str
    folder: ResultFolder
    notices: tuple[str, ...]


def run(arguments: argparse.Namespace, pictures: PictureFiles, config: FitConfig) -> int:
    """Check everything, then learn the pictures batch by batch, and save each batch when it is done.

    Return the exit code.
    """
    names = [pictures.name(index) for index in range(len(pictures))]
    folders = [ResultFolder(path, OUTPUT_NAMES) for path in distinct_folders(names, arguments.output)]
    for folder in folders:
        folder.check_free(overwrite=arguments.overwrite)
    with collect_notices() as collected:
        plan = make_plan(pictures, config, skip_bad=None, progress=False)
    jobs = [
        Job(name, folder, tuple(map(in_options, collected.get(name, []))))
        for name, folder in zip(names, folders, strict=True)
    ]
    if not arguments.quiet:
        _show_notices(jobs)

    learned: dict[int, FitResult] = {}
    drawn: set[int] = set()
    interrupted = False
    try:
        for batch, settings in zip(plan.batches, plan.settings, strict=True):
            targets = torch.stack([read_target(pictures, index, config) for index in batch])  # (S, ...)
            if not arguments.quiet:
                _show_settings([jobs[index] for index in batch], targets, settings)
            # Folders are locked for one batch only, as there may be more pictures than files that may be open.
            with ExitStack() as held:
                for index in batch:
                    held.enter_context(jobs[index].folder.claimed(overwrite=arguments.overwrite))
                result = fit_images(targets, batch, settings, progress=not arguments.quiet)
                interrupted = result.interrupted
                # After an interruption the result may have fewer systems than the batch.
                own = {batch[i]: result[i] for i in range(len(result)) if result.steps[i] > 0 or not interrupted}
                learned |= own
                _save(jobs, own, dict(zip(batch, targets, strict=True)), drawn, animation=not arguments.no_animation)
            if interrupted:
                break
    finally:
        if not arguments.quiet:
            _show(jobs, {index: learned[index] for index in sorted(drawn)})
    if interrupted:
        _explain_interruption(jobs, learned)
        return INTERRUPTED
    return 0


def distinct_folders(images: Sequence[str], output: Path) -> list[Path]:
    """Return a folder for each image, named by its stem. A number is added if stems are equal: leaf, leaf-2."""
    # Names are compared in lower case, as Leaf and leaf are the same folder on some file systems. The stem of another
    # image is never used: leaf.png, leaf.jpg, leaf-2.png become leaf, leaf-3, leaf-2.
    stems = [Path(image).stem.strip(". ") or "image" for image in images]
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


def _save(
    jobs: Sequence[Job],
    learned: dict[int, FitResult],
    targets: dict[int, Tensor],  # each (H, W) or (3, H, W)
    drawn: set[int],
    *,
    animation: bool,
) -> None:
    """Write the folders of pictures, and add the indices of complete ones to `drawn`.

    All systems are saved before the first picture is drawn, as drawing takes time and may fail.
    """
    _save_systems({jobs[index].folder: result for index, result in learned.items()})
    try:
        for index, result in learned.items():
            _write_pictures(jobs[index], targets[index], result, animation=animation)
            drawn.add(index)
    except BaseException:
        left = ", ".join(str(jobs[index].folder.path) for index in learned if index not in drawn)
        print(
            f"fractalops fit: the learned systems are saved, but drawings are missing in {visible(left)}",
            file=sys.stderr,
        )
        raise


def _save_systems(learned: dict[ResultFolder, FitResult]) -> None:
    """Save every system, even if saving another one fails or is interrupted. Then raise the first error."""
    failure: BaseException | None = None
    for folder, result in learned.items():
        try:
            folder.save_system(result)
        except (OSError, KeyboardInterrupt) as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _write_pictures(job: Job, target: Tensor, result: FitResult, *, animation: bool) -> None:
    """Write the drawings and the report of one image to the folder of its system. `result` has one system."""
    folder = job.folder
    # For mean colors the image is drawn again: the best image of a step has few points and is noisy.
    image = result.draw(result.size)[0] if result.config.blend == "mean" else result.best_image[0]
    save_image(comparison(target, image), folder.new("comparison.png"))
    save_image(result.draw(_DRAWING_SIDE)[0], folder.new("fractal.png"))
    folder.write_losses(result.losses[:, 0], title=Path(job.image).name)
    if animation and result.snapshots:
        save_animation(_learning_frames(target, result), folder.new("learning.gif"))
    height, width = result.size
    report = {
        "image": job.image,
        "height": height,
        "width": width,
        "minimum_mse": float(result.minimum_mse[0]),
        "mean_mse": float(result.mean_mse[0]),
        "steps": result.steps[0],
    }
    folder.write_report(report, result, job.notices)


def _learning_frames(target: Tensor, result: FitResult) -> list[Tensor]:
    """Return one frame per snapshot: the target next to the picture of the system at that step."""
    system, config = copy.deepcopy(result.system), result.config
    frames = []
    with torch.no_grad():
        for snapshot in result.snapshots:
            system.load_state_dict(snapshot)
            drawn = system(
                result.size,
                points=config.points,
                # The same random numbers in each frame, so that only the system changes, not the noise.
                generator=torch.Generator().manual_seed(config.seed),
                clamp=config.clamp,
            )  # (1, 1, ...)
            frames.append(comparison(target, drawn.view(target.shape), longest=_ANIMATION_SIDE))
    return frames


def _show_settings(jobs: Sequence[Job], targets: Tensor, config: FitConfig) -> None:
    """Print the settings for images (S, ...), and which images the points can't cover."""
    print(describe_settings(targets.shape[-2:], config))
    for job, target in zip(jobs, targets, strict=True):
        if notice := uncovered(target, config):
            print(f"{job.image}: {notice}")


def _show_notices(jobs: Sequence[Job]) -> None:
    for job in jobs:
        for notice in job.notices:
            print(f"{job.image}: {notice}")
    if importlib.util.find_spec("matplotlib") is None:
        print(f"loss.png is left out: {MissingExtra('loss_curve', 'matplotlib', 'plot')}")


def _show(jobs: Sequence[Job], learned: dict[int, FitResult]) -> None:
    """Print a short table of the results and their folders."""
    if not learned:
        return
    width = max(len(name) for name in ("image", *(jobs[index].image for index in learned)))
    print(f"{'image':<{width}}  {'size':>9}  {'minimum MSE':>11}  {'mean MSE':>8}  pictures in")
    for index, result in learned.items():
        size = f"{result.size[1]} x {result.size[0]}"
        errors = f"{result.minimum_mse[0]:>11.4f}  {result.mean_mse[0]:>8.4f}"
        print(f"{jobs[index].image:<{width}}  {size:>9}  {errors}  {jobs[index].folder.path}")


def _explain_interruption(jobs: Sequence[Job], learned: dict[int, FitResult]) -> None:
    saved = [
        f"the system after {result.steps[0]} of {result.config.steps} steps is saved in {jobs[index].folder.path}"
        for index, result in learned.items()
        if result.interrupted
    ]
    left = [job.image for index, job in enumerate(jobs) if index not in learned]
    missing = [f"not learned: {', '.join(left)}"] if left else []
    print(f"fractalops fit: {visible('; '.join(['interrupted', *saved, *missing]))}", file=sys.stderr)
