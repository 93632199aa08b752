"""The folder of an experiment's run: what it was asked to do, what it logged, and what came out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fractalops.backends import versions
from fractalops.errors import InputError
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.experiments.settings import described
from fractalops.fitting.run_folder import OTHER_FOLDER, differences
from fractalops.fitting.run_index import write_table
from fractalops.io.files import LOCK, atomic_path
from fractalops.io.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_FORM = "fractalops.experiment.1"
_STATE_FORM = "fractalops.experiment-state.1"
# What a run leaves that a later one with other settings would go on with, or show as its own. What says that all is
# done goes first.
_RESULTS = (
    "metrics.json",
    "metrics.csv",
    "table.csv",
    "state.safetensors",
    "learned/*/*.safetensors",
    "shards/[0-9]*.tar",
    "tensorboard/events.*",
)


class Record:
    """A run's folder; each of its files is whole or not there at all, but for TensorBoard's.

    config.json        the experiment, its settings, the data, the device and the versions
    metrics.csv        step, name and value of each scalar that was logged
    metrics.json       table, findings and notes, once it is done
    table.csv          the table by itself
    state.safetensors  where a run that can be resumed is
    learned/           what `fit` learned, a file for each data set and variant, which `FitResult.load` reads
    shards/            files of pictures, of an experiment that makes some
    tensorboard/       the same scalars, where the package tensorboard is installed
    """

    def __init__(self, folder: str | Path, experiment: str, settings: Any, extra: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.experiment = experiment
        description = {
            "format": _FORM,
            "experiment": experiment,
            "settings": described(settings),
            **extra,
            "versions": versions(),
        }
        self.description: dict[str, Any] = json.loads(json.dumps(description))  # tuples as lists, as they are read
        self._scalars: list[tuple[int, str, float]] = []
        self._writer: SummaryWriter | None = None

    def open(self, *, overwrite: bool = False) -> None:
        """Make the folder, or go on with the same run; `overwrite` discards an earlier one of any settings.

        Raises `InputError` where the folder holds anything else.
        """
        config = self.folder / "config.json"
        if begun := config.exists():
            found = self._read_json(config)
            if found.get("format") != _FORM:
                raise InputError(f"cannot write to {self.folder}: its config.json is of something else")
            told = differences(found, self.description)
            if told and not overwrite:
                raise InputError(f"cannot go on in {self.folder}: {told}; {OTHER_FOLDER}")
        elif self.folder.exists() and set(self.folder.iterdir()) - {
            self.folder / LOCK,
            *self._leftovers(["config.json"]),
        }:
            raise InputError(f"cannot write to {self.folder}: there are files already; take another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        results = [path for pattern in _RESULTS for path in self.folder.glob(pattern)]
        hidden = self._leftovers(["config.json", "*.png", *_RESULTS])
        if begun:  # safetensors' own, before they have a name
            own = ".tmp" + 6 * "[0-9A-Za-z]"
            hidden += [path for place in (".", "learned/*") for path in self.folder.glob(f"{place}/{own}")]
        for path in hidden + (results if overwrite else []):
            if path.is_file():
                path.unlink()
        self._write_json(config, self.description)

    def _leftovers(self, written: Sequence[str]) -> list[Path]:
        """What `atomic_path` has left of files of these names where it was cut short."""
        hidden = [path.with_name(f".{path.stem}.????????{path.suffix}") for path in map(PurePath, written)]
        return [path for pattern in hidden for path in self.folder.glob(str(pattern))]

    def abandon(self) -> None:
        """Remove the folder again where nothing came of the run yet, so that another one can take it."""
        if {path.name for path in self.folder.iterdir()} <= {"config.json", LOCK}:
            (self.folder / "config.json").unlink()
            with suppress(OSError):  # Windows removes no file that is open
                (self.folder / LOCK).unlink(missing_ok=True)
                self.folder.rmdir()

    def path(self, name: str) -> Path:
        """Of a file in the folder."""
        return self.folder / name

    # Scalars

    def log(self, step: int, **scalars: float) -> None:
        """Keep scalars of a step, and show them in TensorBoard where it is installed."""
        for name, value in scalars.items():
            self._scalars.append((step, name, float(value)))
            if (writer := self._open_writer()) is not None:
                writer.add_scalar(name, value, step)

    def _open_writer(self) -> SummaryWriter | None:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer

    def write_scalars(self) -> None:
        """Write metrics.csv as it stands."""
        write_table(self.folder / "metrics.csv", ("step", "name", "value"), self._scalars)
        if self._writer is not None:
            self._writer.flush()

    # Resuming

    def save_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Keep tensors and plain values for `load_state`, together with the scalars so far."""
        state = json.dumps({"values": values, "scalars": self._scalars})
        write_tensors(self.folder / "state.safetensors", tensors, {"format": _STATE_FORM, "state": state})
        self.write_scalars()

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `save_state` kept last; None where nothing was. Raises `InputError` for a damaged file."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return None
        tensors, metadata = read_tensors(path, _STATE_FORM)
        try:
            state = json.loads(metadata["state"])
            self._scalars = [(int(step), str(name), float(value)) for step, name, value in state["scalars"]]
            return tensors, dict(state["values"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error

    # The end

    def finish(self, outcome: Outcome) -> None:
        """Write metrics.csv, table.csv and metrics.json, in which a number that is not finite is null."""
        self.write_scalars()
        rows = [list(row.values()) for row in outcome.rows]
        write_table(self.folder / "table.csv", list(outcome.rows[0]), rows)
        self._write_json(self.folder / "metrics.json", _without_nan(dataclasses.asdict(outcome)))
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finished(self) -> Outcome | None:
        """The outcome, where the run is done; a cell that was not finite is NaN."""
        path = self.folder / "metrics.json"
        if not path.exists():
            return None
        found = self._read_json(path)
        try:
            findings = [Finding(**finding) for finding in found["findings"]]
            rows = [{name: math.nan if cell is None else cell for name, cell in row.items()} for row in found["rows"]]
            return Outcome(rows, findings, found["notes"])
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error

    def _write_json(self, path: Path, content: dict[str, Any]) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(content: Any) -> Any:
    """The same with None for numbers that are not finite, of which JSON has none."""
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
