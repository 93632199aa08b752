"""The folder of an experiment's run: its settings, its log and its results."""

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
# Files that a finished run must have. metrics.json has their number.
_NUMBER = 5 * "[0-9]" + "*"  # the number of a shard or a class
_MADE = ("systems.safetensors", f"shards/{_NUMBER}.tar", f"images/{_NUMBER}/{_NUMBER}_[0-9]*.png")
# Files that a later run with other settings would otherwise resume from, or show as its own.
_RESULTS = (
    "metrics.json",
    "metrics.csv",
    "table.csv",
    "table.md",
    "state.safetensors",
)
_LISTED = (*_MADE, "learned/*/*.safetensors", "tensorboard/events.*")


class ExperimentFolder(RunFolder):
    """The folder of an experiment. Its files are never incomplete, except those of TensorBoard.

    config.json          the experiment, its settings, the data, the device, the versions, and a list of the files
                         that are marked with * below
    metrics.csv          step, name and value of each logged scalar
    metrics.json         table, findings and notes of a finished run
    table.csv            the table
    table.md             the table in Markdown
    state.safetensors    the state from which a run is resumed
    learned/             * the results of `fit`, one file for each data set and variant, for `FitResult.load`
    systems.safetensors  * the systems of an experiment that writes pictures, for `read_systems`
    shards/, images/     * these pictures
    tensorboard/         * the logged scalars, if the package tensorboard is installed
    """

    def __init__(self, path: str | Path, experiment: str, settings: Any, extra: dict[str, Any]) -> None:
        super().__init__(path, _RESULTS, manifest="config.json", listed=_LISTED, others=("*.png",))
        self.experiment = experiment
        manifest = {"format": _FORM, "experiment": experiment, "settings": described(settings), **extra}
        self.manifest = as_read({**manifest, "versions": versions()})
        self._scalars: list[tuple[int, str, float]] = []
        self._events = self.path / "tensorboard" / f"events.out.tfevents.{time.time_ns()}"

    def open(self, *, overwrite: bool = False) -> None:
        """Create the folder, or resume the same run. `overwrite` discards an earlier run with any settings.

        Raises `InputError` if the folder has other files.
        """
        self.begin(self.manifest, overwrite=overwrite)

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def learned(self, data: str, variant: str) -> Path:
        """Return the path of a variant's results on a data set. If it does not exist, add it to the run's files."""
        path = self.path / "learned" / data / f"{variant}.safetensors"
        if not path.exists():
            self.add_files([path])
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # Scalars

    def log(self, step: int, **scalars: float) -> None:
        """Log scalars of a step, also for TensorBoard if it is installed."""
        for name, value in scalars.items():
            self._scalars.append((step, name, float(value)))
        if find_spec("tensorboard") is not None:
            self._show(step, scalars)

    def _show(self, step: int, scalars: dict[str, float]) -> None:
        """Append scalars to this run's TensorBoard file, without TensorBoard's writer, which only prints its errors."""
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
        """Write the scalars so far to metrics.csv."""
        write_table(self.path / "metrics.csv", ("step", "name", "value"), self._scalars)

    # Resuming

    def save_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Save tensors and plain values for `load_state`, together with the scalars so far."""
        state = json.dumps({"values": values, "scalars": self._scalars})
        metadata = {"format": _STATE_FORM, "state": state, "run": run_key(self.manifest)}
        write_tensors(self.path / "state.safetensors", tensors, metadata)
        self.write_scalars()

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the last state that `save_state` saved, or None. Raise `InputError` if the file is damaged."""
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
        """Write metrics.csv, table.csv, table.md, and metrics.json (null for numbers that are not finite)."""
        self.write_scalars()
        rows = [list(row.values()) for row in outcome.rows]
        write_table(self.path / "table.csv", list(outcome.rows[0]), rows)
        with atomic_path(self.path / "table.md") as temporary:
            temporary.write_text(f"{outcome.table()}\n", encoding="utf-8")
        write_json(self.path / "metrics.json", dataclasses.asdict(outcome) | {"files": len(self.named(_MADE))})

    def finished(self) -> Outcome | None:
        """Return the outcome of a finished run, in which cells that were not finite are NaN.

        Return None if the run is not finished, or if files of it are missing.
        """
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
