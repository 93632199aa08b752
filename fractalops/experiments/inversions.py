"""Common parts of the image inversion experiments: variants of the published settings, same targets and seeds."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops._checks import Count, Natural, Several, check_choices, check_fields
from fractalops.drawing.plots import Line, plot, running_mean
from fractalops.drawing.sheets import labeled_rows
from fractalops.errors import InputError, MissingExtra
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.outcome import Finding, Row, less, wins
from fractalops.experiments.targets import DATA, available, missing, read_targets
from fractalops.fitting import FitConfig, FitResult, fit
from fractalops.fitting.result import FORM
from fractalops.fitting.targets import settings_for
from fractalops.ifs import IFS
from fractalops.io.images import save_image
from fractalops.io.run_folder import OTHER_FOLDER
from fractalops.io.tensor_files import checksum, read_tensors, write_tensors

SHOWN = 10  # images of each data set in a picture
# Keys of a file's metadata: the checksum of the targets and of the start (or its origin), and the CPU time.
_LEARNED_FROM = "learned_from"
_CPU_SECONDS = "cpu_seconds"


@dataclass(frozen=True)
class InversionSettings:
    """Settings of an image inversion experiment. All other settings are the published ones."""

    data: tuple[str, ...] = DATA
    """Data sets. If the files of a data set are not found, it is left out, with a note."""
    images: Count = 100
    """Targets per data set."""
    steps: Count = 1000
    sequences: Count = 50
    points: Count = 300
    maps: Count = 10
    size: Several = 32
    """The side of a target, in pixels."""
    batch_size: Count = 100
    """Images that are learned together."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_choices(type(self).__name__, "data", self.data, DATA)
        check_fields(self)

    def config(self, **changes: Any) -> FitConfig:
        """Return the published settings with the sizes of this experiment and with changes."""
        sizes: dict[str, Any] = {
            "steps": self.steps, "sequences": self.sequences, "points": self.points, "maps": self.maps,
            "batch_size": self.batch_size, "seed": self.seed,
        }  # fmt: skip
        return FitConfig.paper(**(sizes | changes))


def load_data(settings: InversionSettings, folder: Path | None) -> tuple[dict[str, Tensor], list[str]]:
    """Return targets (S, H, W) of each data set that is found, and notes on the others.

    Raises `InputError` if no data set is found.
    """
    there = available(folder)
    found = [name for name in settings.data if name in there]
    errors = [missing(name, folder) for name in settings.data if name not in found]
    if not found:
        raise errors[0]
    sizes = {"size": settings.size, "points": settings.points, "seed": settings.seed}
    targets = {name: read_targets(name, folder, settings.images, **sizes).images for name in found}
    return targets, [f"left out: {error}" for error in errors]


@dataclass(frozen=True)
class Learned:
    """The result of one variant on one data set."""

    variant: str
    data: str
    result: FitResult
    cpu_seconds: float = math.nan
    """The CPU time of learning, in seconds, as the sum over all threads."""

    @property
    def mean(self) -> float:
        """The mean error."""
        return statistics.fmean(self.errors)

    @property
    def errors(self) -> list[float]:
        """The minimum MSE of each image. It is infinite if the system exploded, whose dark image has a small error."""
        return self.result.minimum_mse.masked_fill(self.explosions, math.inf).tolist()

    @property
    def explosions(self) -> Tensor:
        """Whether each system has a parameter or a loss that is not finite, (S,)."""
        bad = ~self.result.losses.isfinite().all(dim=0)  # (S,)
        for parameter in self.result.system.parameters():
            bad |= ~parameter.detach().isfinite().flatten(1).all(dim=1)
        return bad

    @property
    def exploded(self) -> int:
        """The number of systems that exploded."""
        return int(self.explosions.sum())

    def row(self) -> Row:
        """Return the row of the table."""
        errors = self.result.minimum_mse
        return {
            "data": self.data,
            "variant": self.variant,
            "images": len(errors),
            "mean MSE": float(errors.mean()),
            "median": float(errors.median()),
            "worst": float(errors.max()),
            "exploded": self.exploded,
            "seconds an image": self.result.seconds / len(errors),
        }


def beats(claim: str, better: Learned, worse: Learned) -> Finding:
    """Return the finding that one variant has the smaller mean error, compared image by image."""
    return less(claim, better.errors, worse.errors)


def explodes(claim: str, more: Learned, fewer: Learned) -> Finding:
    """Return the finding that more systems of one variant explode, by the images on which the variants differ."""
    one, other = more.explosions, fewer.explosions  # (S,)
    detail = f"{more.exploded} of {len(one)} exploded against {fewer.exploded}"
    return wins(claim, int((one & ~other).sum()), int((other & ~one).sum()), detail)


def learn_variant(
    variant: str,
    data: str,
    images: Tensor,  # (S, H, W)
    config: FitConfig,
    output: ExperimentFolder,
    *,
    start: IFS | None = None,
    origin: Mapping[str, Tensor] | None = None,
    device: str,
    progress: bool,
) -> Learned:
    """Learn one variant of one data set, and save it in learned/. If the file exists, read it instead.

    Args:
        variant: its name.
        data: the name of the data set.
        images: the targets (S, H, W).
        config: the settings of `fit`.
        output: the folder of the experiment.
        start: the systems from which `fit` starts.
        origin: tensors from which `start` was computed. They identify the start if computing it again may change its
            last bits; otherwise the start identifies itself.
        device: the device on which the systems are learned.
        progress: show a progress bar.

    Raises:
        InputError: if the file is of another start, other settings or other targets.
    """
    config = settings_for(images, config)
    path = output.learned(data, re.sub(r"[^a-z0-9.+]+", "-", variant.lower()).strip("-"))
    if origin is None:
        origin = {} if start is None else start.state_dict()
    learned_from = checksum({"targets": images, **origin})
    if path.exists():
        tensors, metadata = read_tensors(path, FORM)
        result = FitResult.from_file(path, tensors, metadata)
        if result.config != config or metadata.get(_LEARNED_FROM) != learned_from:
            other = f"{data}/{path.name} is of another start, other settings or other targets"
            raise InputError(f"cannot resume in {output.path}: {other}; {OTHER_FOLDER}")
        return Learned(variant, data, result, float(metadata.get(_CPU_SECONDS, "nan")))
    if progress:
        print(f"{output.experiment}: {data}, {variant}", flush=True)
    began = time.process_time()
    result = fit(images.to(device), config, start=start, progress=progress)
    if result.interrupted:
        raise KeyboardInterrupt
    seconds = time.process_time() - began
    metadata = result.metadata() | {_LEARNED_FROM: learned_from, _CPU_SECONDS: repr(seconds)}
    write_tensors(path, result.tensors(), metadata)
    return Learned(variant, data, result, seconds)


def learn_all(
    variants: Mapping[str, FitConfig],
    targets: Mapping[str, Tensor],  # each (S, H, W)
    output: ExperimentFolder,
    *,
    starts: Mapping[str, IFS] | None = None,
    device: str,
    progress: bool,
) -> dict[tuple[str, str], Learned]:
    """Learn all data sets with all variants, and log the loss curves.

    `starts` has the systems from which variants start. Return the results by (variant, data).
    """
    found = {}
    for data, images in targets.items():
        for variant, config in variants.items():
            start = (starts or {}).get(variant)
            learned = learn_variant(
                variant, data, images, config, output, start=start, device=device, progress=progress
            )
            found[variant, data] = learned
            name = f"{data}/{variant}"
            curve = learned.result.losses.mean(dim=1)  # (steps,)
            for step in range(0, len(curve), max(1, len(curve) // 100)):
                output.log(step, **{name: float(curve[step])})
            output.write_scalars()
    return found


def draw_reconstructions(
    output: ExperimentFolder,
    targets: Mapping[str, Tensor],  # each (S, H, W)
    learned: Mapping[tuple[str, str], Learned],
    variants: Mapping[str, Sequence[str]],
) -> None:
    """Draw the paper's Figure 4: for each data set a row of targets and, for each variant, a row of reconstructions."""
    rows = []
    for data, images in targets.items():
        rows.append((f"{data}: targets", images[:SHOWN]))
        for variant in variants[data]:
            rows.append((variant, learned[variant, data].result.best_image[:SHOWN].nan_to_num(0)))
    save_image(labeled_rows(rows), output.file("reconstructions.png"))


def draw_losses(
    output: ExperimentFolder, learned: Mapping[tuple[str, str], Learned], variants: Mapping[str, Sequence[str]]
) -> list[str]:
    """Draw the paper's Figure 3: running means of the losses of variants, one plot for each data set.

    Return the notes: none, or that matplotlib is not installed.
    """
    try:
        for data, names in variants.items():
            curves = {name: running_mean(learned[name, data].result.losses.mean(dim=1).cpu()) for name in names}
            lines = [Line(name, range(1, len(curve) + 1), curve.tolist()) for name, curve in curves.items()]
            path = output.file(f"loss-{data}.png")
            plot("loss curves", path, lines, xlabel="step", ylabel="mean squared error", title=data, log=True)
    except MissingExtra as error:
        return [f"left out: {error}"]
    return []
