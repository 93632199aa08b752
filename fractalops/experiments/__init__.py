"""The paper's experiments and others, as commands: `fractalops experiment NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from fractalops._checks import check_gpu
from fractalops.errors import InputError, MissingExtra
from fractalops.experiments import (
    gan,
    inverse_encoder,
    optimizers,
    pictures,
    pretrain,
    recipe,
    reconstruct,
    transformations,
)
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.experiments.targets import FOLDERS, download_missing

__all__ = ["EXPERIMENTS", "Experiment", "ExperimentFolder", "Finding", "Outcome", "preset", "run"]


class Experiment(Protocol):
    """The interface of an experiment's module."""

    NAME: str
    SUMMARY: str
    PRESETS: dict[str, Any]
    """Settings by name: "small" is for a quick look, "paper" has the paper's size."""

    def run(
        self, settings: Any, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
    ) -> Outcome:
        """Run the experiment, and return its outcome."""


EXPERIMENTS: dict[str, Experiment] = {
    module.NAME: module
    for module in (reconstruct, transformations, optimizers, recipe, inverse_encoder, gan, pretrain, pictures)
}


def run(
    name: str,
    folder: str | Path,
    settings: Any = None,
    *,
    data: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
    overwrite: bool = False,
    download: bool = False,
) -> Outcome:
    """Run an experiment and write its results to a folder.

    Args:
        name: one of `EXPERIMENTS`.
        folder: the folder of the settings, metrics, table and pictures, see `ExperimentFolder`. If it has an unfinished
            run with the same settings, the run is resumed. If the run is finished, its outcome is returned.
        settings: an object of the experiment's settings class, or the name of a preset; None is "small".
        data: a folder with MNIST, FashionMNIST or KMNIST in torchvision's layout; None if there is no such folder.
        device: the device on which the systems are learned.
        progress: print progress.
        overwrite: discard an earlier run and start again.
        download: download the data sets that are missing in `data` with torchvision.

    Returns:
        The outcome: a table, findings and notes.

    Raises:
        InputError: if data are missing or cannot be downloaded, if the folder has other files or another run is
            writing to it, if there is no such GPU, or if there is no experiment or preset of that name.
        MissingExtra: if the experiment needs a library that is not installed.
    """
    if settings is None or isinstance(settings, str):
        settings = preset(name, settings or "small")
    check_gpu(torch.device(device))
    place = None if data is None else Path(data)
    experiment = _named(name)
    output = ExperimentFolder(folder, name, settings, {"device": device, "data": None if place is None else place.name})
    with output.lock():
        output.open(overwrite=overwrite)
        if (done := output.finished()) is not None:
            return done
        try:
            if download:
                download_missing(_data_sets(settings), place)
            if place is not None and not place.is_dir():
                raise InputError(f"cannot read {place}: it is not a folder")
            outcome = experiment.run(settings, output, data=place, device=device, progress=progress)
        except (InputError, MissingExtra):
            output.abandon()
            raise
        output.finish(outcome)
        return outcome


def _data_sets(settings: Any) -> list[str]:
    """Return the names of torchvision's data sets that an experiment with these settings reads."""
    expected = getattr(settings, "data", ())
    return [name for name in FOLDERS if name in ((expected,) if isinstance(expected, str) else expected)]


def preset(name: str, size: str) -> Any:
    """Return a preset of an experiment, "small" or "paper". Raise `InputError` for an unknown name or size."""
    presets = _named(name).PRESETS
    if size not in presets:
        raise InputError(f"{name} has no preset {size}; its presets are {', '.join(presets)}")
    return presets[size]


def _named(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise InputError(f"there is no experiment {name}; the experiments are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
