"""The output that `fractalops fit` and `fractalops fit-points` share: the system, the losses and a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops.backends import versions
from fractalops.drawing.plots import loss_curve, loss_table
from fractalops.errors import MissingExtra, visible
from fractalops.fitting import FitResult, PointFitResult
from fractalops.io.files import atomic_path, write_json
from fractalops.io.run_folder import Manifest, RunFolder

SYSTEM_NAME = "system.safetensors"
REPORT_NAME = "fit.json"
_MANIFEST: Manifest = {"format": "fractalops.fit-report.1"}


class ResultFolder(RunFolder):
    """The folder of one result. `REPORT_NAME` lists its files; `names` are the files that may be written."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        listed = [name for name in names if name != REPORT_NAME]
        super().__init__(path, (), manifest=REPORT_NAME, listed=listed, resumes=False)

    def check_free(self, *, overwrite: bool) -> None:
        """Raise `InputError` unless a result can be written to the folder."""
        self.check(_MANIFEST, overwrite=overwrite)

    @contextmanager
    def claimed(self, *, overwrite: bool) -> Iterator[None]:
        """Lock the folder within the block. Raises `InputError` as `check_free` does, or if another run is writing."""
        with self.lock():
            self.check_free(overwrite=overwrite)
            self.remove_leftovers()
            yield

    def save_system(self, result: FitResult | PointFitResult) -> None:
        """Write the learned system, and remove the other files of an earlier run, so that runs are never mixed.

        This takes milliseconds.
        """
        with atomic_path(self.path / SYSTEM_NAME, durable=True) as temporary:
            result.save(temporary)
            self.renew(_MANIFEST | {"files": [SYSTEM_NAME]})

    def new(self, name: str) -> Path:
        """Return the path of a file that will be written, and list it in the report.

        Raises `InputError` if the file exists but was not written by a run.
        """
        path = self.path / name
        self.claim_files([path])
        return path

    def write_losses(self, losses: Tensor, *, title: str) -> None:
        """Write the losses (steps,) as loss.csv, and as loss.png if Matplotlib is installed."""
        loss_table(losses, self.new("loss.csv"))
        with suppress(MissingExtra):  # the command has printed a notice at its start
            loss_curve(losses, self.new("loss.png"), title=visible(title))

    def write_report(self, figures: dict[str, Any], result: FitResult | PointFitResult, notices: Sequence[str]) -> None:
        """Write fit.json: the figures, notices, settings, versions and the list of files. Call it last."""
        report = {
            **_MANIFEST,
            **figures,
            "interrupted": result.interrupted,
            "seconds": round(result.seconds, 3),
            "notices": list(notices),
            "config": asdict(result.config),
            "versions": versions(),
            "files": [REPORT_NAME, *(path.name for path in self.results())],
        }
        write_json(self.path / REPORT_NAME, report)
