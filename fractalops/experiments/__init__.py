"""The paper's experiments, each a command: `fractalops experiment NAME`."""

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
    """Settings by name: "small" ends within three minutes on two cores, "paper" has the paper's size."""

    def run(
        self, settings: Any, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
    ) -> Outcome:
        """Do it all, and return the table."""


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
    """Run an experiment of the paper into a folder.

    Args:
        name: one of `EXPERIMENTS`.
        folder: gets settings, metrics, table and pictures, see `ExperimentFolder`. With the same settings it goes on
            with a run that can be resumed, and returns the outcome of a finished one.
        settings: of the experiment's type, or the name of a preset; None is "small".
        data: a folder with MNIST, FashionMNIST or KMNIST as torchvision lays them; None is none of them.
        device: where the systems are learned.
        progress: say what is done.
        overwrite: start anew.
        download: have torchvision bring what `data` lacks of the data sets.

    Raises:
        InputError: for data that are missing or can't be downloaded, for a folder with anything else in it or into
            which another run is writing, for a GPU that there is not, and for a name or preset that there is not.
        MissingExtra: where an experiment needs a library that is not installed.
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
    """Return the data sets of torchvision that an experiment with these settings reads."""
    expected = getattr(settings, "data", ())
    return [name for name in FOLDERS if name in ((expected,) if isinstance(expected, str) else expected)]


def preset(name: str, size: str) -> Any:
    """Return the settings of an experiment, "small" or "paper". Raises `InputError` for another name of either."""
    presets = _named(name).PRESETS
    if size not in presets:
        raise InputError(f"{name} has no preset {size}, but {', '.join(presets)}")
    return presets[size]


def _named(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise InputError(f"{name} is none of the experiments: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
