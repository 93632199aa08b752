"""What `fractalops fit` and `fit-points` write alike: the system, the losses and a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops.backends import versions
from fractalops.drawing.plots import loss_curve, loss_table
from fractalops.errors import MissingExtra
from fractalops.fitting import FitResult, PointFitResult
from fractalops.io.files import atomic_path, write_json
from fractalops.io.run_folder import Manifest, RunFolder

SYSTEM_NAME = "system.safetensors"
REPORT_NAME = "fit.json"
_MANIFEST: Manifest = {"format": "fractalops.fit-report.1"}


def result_folder(path: Path, names: Sequence[str]) -> RunFolder:
    """Return the folder of one result, whose files have these names; `REPORT_NAME` lists those that there are."""
    return RunFolder(path, [name for name in names if name != REPORT_NAME], manifest=REPORT_NAME, resumes=False)


@contextmanager
def claimed_folders(folders: Iterable[RunFolder], *, overwrite: bool) -> Iterator[None]:
    """Keep other runs out of folders within the block, and leave none that is empty.

    Raises `InputError` for one that is in use, or that can't be written to.
    """
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(folder.lock())
            folder.check(_MANIFEST, overwrite=overwrite)
            folder.remove_leftovers()
        yield


def check_folder(folder: RunFolder, *, overwrite: bool) -> None:
    """Raise `InputError` unless results can be written to the folder."""
    folder.check(_MANIFEST, overwrite=overwrite)


def save_system(folder: RunFolder, names: Sequence[str], result: FitResult | PointFitResult) -> None:
    """Write what was learned to a folder; it takes milliseconds. `names` are those of all files that may follow.

    What an earlier run wrote there beside its system goes with it, so that the folder never mixes two runs.
    """
    with atomic_path(folder.path / SYSTEM_NAME) as temporary:
        result.save(temporary)
        folder.renew(_MANIFEST | {"files": list(names)})


def write_losses(folder: Path, losses: Tensor, *, title: str) -> None:
    """Write the losses (steps,) as loss.csv, and as loss.png where matplotlib is installed."""
    loss_table(losses, folder / "loss.csv")
    with suppress(MissingExtra):  # the command has said so before the learning began
        loss_curve(losses, folder / "loss.png", title=title)


def write_report(
    folder: RunFolder, figures: dict[str, Any], result: FitResult | PointFitResult, notices: Sequence[str]
) -> None:
    """Write fit.json, after all else: the figures, how they came about, what made them, and the files of the folder."""
    report = {
        **_MANIFEST,
        **figures,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 3),
        "notices": list(notices),
        "config": asdict(result.config),
        "versions": versions(),
        "files": [REPORT_NAME, *(path.name for path in folder.results())],
    }
    write_json(folder.path / REPORT_NAME, report)
