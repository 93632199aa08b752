"""What `fractalops fit` and `fit-points` write alike: the system, the losses and a report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops.backends import versions
from fractalops.drawing.plots import loss_curve, loss_table
from fractalops.errors import MissingExtra
from fractalops.fitting import FitResult, PointFitResult
from fractalops.io.files import atomic_path, write_json
from fractalops.io.run_folder import RunFolder

SYSTEM_NAME = "system.safetensors"


def save_system(folder: RunFolder, result: FitResult | PointFitResult) -> None:
    """Write what was learned to a folder, which is made if need be; it takes milliseconds.

    What an earlier run wrote there beside its system goes with it, so that the folder never mixes two runs.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder.path / SYSTEM_NAME) as temporary:
        result.save(temporary)
        for path in folder.results():
            if path.name != SYSTEM_NAME:
                path.unlink()


def write_losses(folder: Path, losses: Tensor, *, title: str) -> None:
    """Write the losses (steps,) as loss.csv, and as loss.png where matplotlib is installed."""
    loss_table(losses, folder / "loss.csv")
    with suppress(MissingExtra):  # the command has said so before the learning began
        loss_curve(losses, folder / "loss.png", title=title)


def write_report(
    folder: Path, figures: dict[str, Any], result: FitResult | PointFitResult, notices: Sequence[str]
) -> None:
    """Write fit.json: the figures, how they came about, and the versions of what made them."""
    report = {
        **figures,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 3),
        "notices": list(notices),
        "config": asdict(result.config),
        "versions": versions(),
    }
    write_json(folder / "fit.json", report)
