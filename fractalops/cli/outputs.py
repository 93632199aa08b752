"""The common output of `fractalops fit` and `fit-points`: the system, the losses and a report."""

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
    """The folder of one result, in which `REPORT_NAME` lists the files. `names` are those that it may get."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        listed = [name for name in names if name != REPORT_NAME]
        super().__init__(path, (), manifest=REPORT_NAME, listed=listed, resumes=False)

    def check_free(self, *, overwrite: bool) -> None:
        """Raise `InputError` unless a result can be written to the folder."""
        self.check(_MANIFEST, overwrite=overwrite)

    @contextmanager
    def claimed(self, *, overwrite: bool) -> Iterator[None]:
        """Keep other runs out within the block. Raises `InputError` as `check_free`, and where one is under way."""
        with self.lock():
            self.check_free(overwrite=overwrite)
            self.remove_leftovers()
            yield

    def save_system(self, result: FitResult | PointFitResult) -> None:
        """Write what was learned; it takes milliseconds.

        What an earlier run wrote beside its system goes with it, so that the folder never mixes two runs.
        """
        with atomic_path(self.path / SYSTEM_NAME, durable=True) as temporary:
            result.save(temporary)
            self.renew(_MANIFEST | {"files": [SYSTEM_NAME]})

    def new(self, name: str) -> Path:
        """Return the path of a file that is to be written, and name it in the report.

        Raises `InputError` where somebody has put one there.
        """
        path = self.path / name
        self.claim_files([path])
        return path

    def write_losses(self, losses: Tensor, *, title: str) -> None:
        """Write the losses (steps,) as loss.csv, and as loss.png where matplotlib is installed."""
        loss_table(losses, self.new("loss.csv"))
        with suppress(MissingExtra):  # the command has said so before the learning began
            loss_curve(losses, self.new("loss.png"), title=visible(title))

    def write_report(self, figures: dict[str, Any], result: FitResult | PointFitResult, notices: Sequence[str]) -> None:
        """Write fit.json, after all else: the figures, how they came about, what made them, and the files there are."""
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
