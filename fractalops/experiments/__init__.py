"""The paper's experiments, each a command: `fractalops experiment NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from fractalops.errors import InputError
from fractalops.experiments import gan, inverse_encoder, optimizers, pretrain, reconstruct, transformations
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.experiments.record import Record

__all__ = ["EXPERIMENTS", "Experiment", "Finding", "Outcome", "Record", "run"]


class Experiment(Protocol):
    """What a module of an experiment has."""

    NAME: str
    SUMMARY: str
    PRESETS: dict[str, Any]
    """Settings by name: "small" ends within three minutes on two cores, "paper" has the paper's size."""

    def run(self, settings: Any, record: Record, *, data: Path | None, device: str, progress: bool) -> Outcome:
        """Do it all, and return the table."""


EXPERIMENTS: dict[str, Experiment] = {
    module.NAME: module for module in (reconstruct, transformations, optimizers, inverse_encoder, gan, pretrain)
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
) -> Outcome:
    """Run an experiment of the paper into a folder.

    Args:
        name: one of `EXPERIMENTS`.
        folder: gets settings, metrics, table and pictures, see `Record`. With the same settings it goes on with a run
            that can be resumed, and returns the outcome of a finished one.
        settings: of the experiment's type, or the name of a preset; None is "small".
        data: a folder with MNIST, FashionMNIST or KMNIST as torchvision lays them; None is none of them.
        device: where the systems are learned.
        progress: say what is done.
        overwrite: start anew.

    Raises:
        InputError: for data that are missing, and for a folder with anything else in it.
        ValueError: for a name or preset that there is not.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"run: name must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    experiment = EXPERIMENTS[name]
    settings = "small" if settings is None else settings
    if isinstance(settings, str):
        if settings not in experiment.PRESETS:
            raise ValueError(f"run: settings must be one of {', '.join(experiment.PRESETS)}, got {settings!r}")
        settings = experiment.PRESETS[settings]
    if data is not None and not Path(data).is_dir():
        raise InputError(f"cannot read {data}: it is not a folder")
    record = Record(folder, name, settings, {"device": device, "data": None if data is None else Path(data).name})
    record.open(overwrite=overwrite)
    if (done := record.finished()) is not None:
        return done
    outcome = experiment.run(
        settings, record, data=None if data is None else Path(data), device=device, progress=progress
    )
    record.finish(outcome)
    return outcome
