"""The folder of an experiment's run: what it was asked to do, what it logged, and what came out."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops.backends import versions
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.experiments.settings import described
from fractalops.io.files import atomic_path, parsing, read_json, write_json, write_table
from fractalops.io.run_folder import RunFolder, as_read, run_key
from fractalops.io.tensor_files import read_sealed, write_tensors

_FORM = "fractalops.experiment.1"
_STATE_FORM = "fractalops.experiment-state.1"
# What a run is finished only with: metrics.json says how many such files there were.
_NUMBER = 5 * "[0-9]" + "*"  # of a shard or a class
_MADE = ("systems.safetensors", f"shards/{_NUMBER}.tar", f"images/{_NUMBER}/{_NUMBER}_[0-9]*.png")
# What a run leaves that a later one with other settings would go on with, or show as its own.
_RESULTS = (
    "metrics.json",
    "metrics.csv",
    "table.csv",
    "table.md",
    "state.safetensors",
)
_LISTED = (*_MADE, "learned/*/*.safetensors", "tensorboard/events.*")


class ExperimentFolder(RunFolder):
    """The folder of an experiment; each of its files is whole or not there at all, but for TensorBoard's.

    config.json          the experiment, its settings, the data, the device, the versions, and which files of those
                         from learned/ on are the run's
    metrics.csv          step, name and value of each scalar that was logged
    metrics.json         table, findings and notes, once it is done
    table.csv            the table by itself
    table.md             the same in Markdown
    state.safetensors    where a run that can be resumed is
    learned/             what `fit` learned, a file for each data set and variant, which `FitResult.load` reads
    systems.safetensors  the systems of an experiment that makes files of pictures, which `read_systems` reads
    shards/, images/     these files
    tensorboard/         the same scalars, where the package tensorboard is installed
    """

    def __init__(self, path: str | Path, experiment: str, settings: Any, extra: dict[str, Any]) -> None:
        super().__init__(path, _RESULTS, manifest="config.json", listed=_LISTED, others=("*.png",))
        self.experiment = experiment
        manifest = {"format": _FORM, "experiment": experiment, "settings": described(settings), **extra}
        self.manifest = as_read({**manifest, "versions": versions()})
        self._scalars: list[tuple[int, str, float]] = []
        self._events = self.path / "tensorboard" / f"events.out.tfevents.{time.time_ns()}"

    def open(self, *, overwrite: bool = False) -> None:
        """Make the folder, or go on with the same run; `overwrite` discards an earlier one of any settings.

        Raises `InputError` where the folder holds anything else.
        """
        self.begin(self.manifest, overwrite=overwrite)

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def learned(self, data: str, variant: str) -> Path:
        """Return the path of what a variant learns of a data set, which is to be written unless it is there."""
        path = self.path / "learned" / data / f"{variant}.safetensors"
        if not path.exists():
            self.add_files([path])
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # Scalars

    def log(self, step: int, **scalars: float) -> None:
        """Keep scalars of a step, and show them in TensorBoard where it is installed."""
        for name, value in scalars.items():
            self._scalars.append((step, name, float(value)))
        if find_spec("tensorboard") is not None:
            self._show(step, scalars)

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        """Append scalars to this run's file for TensorBoard. Its own writer is a thread, which prints what fails."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        now, path = time.time(), self._events
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        events = [Event(wall_time=now, step=step, summary=Summary(value=values))]
        if not path.exists():
            self.claim_files([path])
            path.parent.mkdir(exist_ok=True)
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        try:
            with path.open("ab") as file:
                for event in events:
                    RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def write_scalars(self) -> None:
        """Write metrics.csv as it stands."""
        write_table(self.path / "metrics.csv", ("step", "name", "value"), self._scalars)

    # Resuming

    def save_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Keep tensors and plain values for `load_state`, together with the scalars so far."""
        state = json.dumps({"values": values, "scalars": self._scalars})
        metadata = {"format": _STATE_FORM, "state": state, "run": run_key(self.manifest)}
        write_tensors(self.path / "state.safetensors", tensors, metadata)
        self.write_scalars()

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the state that `save_state` saved last, or None. Raise `InputError` for a damaged file."""
        path = self.path / "state.safetensors"
        if not path.exists():
            return None
        tensors, metadata = read_sealed(path, _STATE_FORM, {"run": run_key(self.manifest)})
        with parsing(path):
            state = json.loads(metadata["state"])
            self._scalars = [(int(step), str(name), float(value)) for step, name, value in state["scalars"]]
            return tensors, dict(state["values"])

    # The end

    def finish(self, outcome: Outcome) -> None:
        """Write metrics.csv, table.csv, table.md and metrics.json, in which a number that is not finite is null."""
        self.write_scalars()
        rows = [list(row.values()) for row in outcome.rows]
        write_table(self.path / "table.csv", list(outcome.rows[0]), rows)
        with atomic_path(self.path / "table.md") as temporary:
            temporary.write_text(f"{outcome.table()}\n", encoding="utf-8")
        write_json(self.path / "metrics.json", dataclasses.asdict(outcome) | {"files": len(self.named(_MADE))})

    def finished(self) -> Outcome | None:
        """Return the outcome, where the run is done and has lost no file since; a cell that was not finite is NaN."""
        path = self.path / "metrics.json"
        if not path.exists():
            return None
        found = read_json(path)
        with parsing(path):
            if len(self.named(_MADE)) < found.get("files", 0):
                return None
            findings = [Finding(**finding) for finding in found["findings"]]
            rows = [{name: math.nan if cell is None else cell for name, cell in row.items()} for row in found["rows"]]
            return Outcome(rows, findings, found["notes"])
