"""The folder of a run over many images: its files, their names and their contents."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePath

import torch
from torch import Tensor

from fractalops import backends
from fractalops.errors import InputError, MissingExtra
from fractalops.fitting.config import FitConfig
from fractalops.fitting.native_steps import LOOP_VERSION
from fractalops.fitting.result import FORM, FitResult
from fractalops.fitting.run_table import KINDS, TableKind, TableRow, read_rows
from fractalops.io.files import atomic_path, parsing, read_json, reading, write_table
from fractalops.io.run_folder import Manifest, RunFolder, as_read, run_key
from fractalops.io.tensor_files import read_sealed, write_tensors

_RUN_FORM = "fractalops.run.1"
_CHECKPOINT_FORM = "fractalops.checkpoint.1"
_NUMBERS = [digits * "[0-9]" for digits in (5, 6, 7, 8)]  # numbers of batches
_FOLDERS = {"systems": ".safetensors", "checkpoints": ".safetensors", "seconds": ".txt"}
_RESULTS = [f"{name}/{number}{suffix}" for name, suffix in _FOLDERS.items() for number in _NUMBERS]
_TABLES = [f"index.{kind}" for kind in KINDS]
_LISTED = [*_TABLES, "contact.png", "bad.csv"]


def describe_run(config: FitConfig, identity: str, device: torch.device) -> Manifest:
    """Return everything that determines the bits of a run's results, except the pictures."""
    return as_read(
        {
            "format": _RUN_FORM,
            "config": dataclasses.asdict(config),
            "targets": identity,
            "device": device.type,
            "loop": LOOP_VERSION,
            "instruction_set": backends.STATE.instruction_set if device.type == "cpu" else "",
            "backends": {op: backends.choose(op, device) for op in backends.OPS if op != "rasterize_points"},
            "versions": backends.versions(),
        }
    )


class DatasetFolder(RunFolder):
    """The files of a run over many images. A file is either complete or does not exist.

    Files:
        run.json                       description of the run; says whether it owns bad.csv and the report
        systems/00000.safetensors      results of a batch of images, for `FitResult.load`
        seconds/00000.txt              duration of the learning of the batch
        checkpoints/00000.safetensors  state of an unfinished batch
        checkpoints/.00000.lock        lock of the process that learns the batch
        bad.csv                        images that can't be used, if there are any
        index.csv, contact.png         report of the finished run; the table may be index.parquet
    """

    def __init__(self, path: str | Path) -> None:
        locks = [f"checkpoints/.{number}.lock" for number in _NUMBERS]
        super().__init__(path, _RESULTS, manifest="run.json", listed=_LISTED, locks=locks)
        self.contact, self._bad = self.path / "contact.png", self.path / "bad.csv"

    def results(self) -> list[Path]:
        """Return the files that the run has written, tables first.

        A run has at most as many batches as images. Files with higher numbers do not belong to it.
        """
        found = super().results()
        images = read_json(self._manifest).get("images") if found else None
        batches = images if isinstance(images, int) else 0
        own = [path for path in found if not path.stem.isdigit() or int(path.stem) < batches]
        return sorted(own, key=lambda path: path.name not in _TABLES)

    def table(self, kind: TableKind) -> Path:
        """Return the path of the table in this format. Its existence means that the run is finished."""
        return self.path / f"index.{kind}"

    def written_table(self) -> Path | None:
        """Return the path of the existing table, or None."""
        earlier = filter(Path.exists, map(self.table, KINDS))  # of versions that did not list tables in run.json
        return next(iter(self.named(_TABLES)), None) or next(earlier, None)

    def read_table(self, path: Path) -> list[TableRow]:
        """Return the rows of a table of this run, after checking that they belong to different images.

        Raises:
            InputError: If the table is damaged.
            MissingExtra: If it is Parquet and pyarrow is not installed.
        """
        images = self.read_run().get("images")
        rows = read_rows(path)
        if len(rows) != images:
            raise InputError(f"cannot read {path}: it must have a row for each of {images} images, got {len(rows)}")
        if any(one.index >= next_one.index for one, next_one in pairwise(rows)):
            raise InputError(f"cannot read {path}: its images must be in ascending order, without duplicates")
        places: dict[str, list[int]] = {}
        for row in rows:
            places.setdefault(row.shard, []).append(row.place)
        for shard, found in places.items():
            with parsing(path):
                self.batch_of(shard)
            if sorted(found) != list(range(len(found))):
                raise InputError(f"cannot read {path}: its places in {shard} must be 0 to {len(found) - 1}")
        return rows

    def batch_of(self, shard: str) -> int:
        """Return the number of a batch from the name of its file. Raise `ValueError` for any other name."""
        number = PurePath(shard).stem
        if not re.fullmatch("[0-9]{5,8}", number) or shard != self.relative(self.shard(int(number))):
            raise ValueError(f"shard must be systems/NUMBER.safetensors, got {shard!r}")
        return int(number)

    def drop_damaged_tables(self) -> None:
        """Remove the tables that can't be read. They are written again."""
        for path in self.named(_TABLES):
            try:
                self.read_table(path)
            except InputError:
                path.unlink()
            except MissingExtra:
                pass  # Parquet, which can't be written here either

    def drop_tables(self, but: TableKind | None = None) -> None:
        """Remove all tables, except the one in the format `but`."""
        for path in self.named(_TABLES):
            if but is None or path != self.table(but):
                path.unlink()

    def shard(self, batch: int) -> Path:
        """Return the path of the results of a batch."""
        return self.path / "systems" / f"{batch:05}.safetensors"

    def checkpoint(self, batch: int) -> Path:
        """Return the path of the state of an unfinished batch."""
        return self.path / "checkpoints" / f"{batch:05}.safetensors"

    def claim(self, batch: int) -> Path:
        """Return the path of the lock that a process holds while it learns a batch."""
        return self.path / "checkpoints" / f".{batch:05}.lock"

    def seconds(self, batch: int) -> Path:
        """Return the path of the duration of a batch."""
        return self.path / "seconds" / f"{batch:05}.txt"

    def finished(self, batches: int) -> set[int]:
        """Return the numbers of the finished batches out of `batches`, from the names of the files."""
        names = {path.name for path in self.path.glob("systems/*")}
        return {batch for batch in range(batches) if self.shard(batch).name in names}

    def read_run(self) -> Manifest:
        """Return the content of run.json. Raise `InputError` if it can't be read."""
        return self.read_manifest(_RUN_FORM)

    def begin_run(
        self, manifest: Manifest, bad: Sequence[tuple[int, str, str]], table: TableKind, *, overwrite: bool = False
    ) -> None:
        """Prepare the folder for the run, see `begin`.

        Args:
            manifest: The content of run.json.
            bad: Images that can't be used: number, name and reason of each.
            table: The format of the table.
            overwrite: Whether to delete another run.
        """
        self.begin(manifest, overwrite=overwrite)
        self.claim_files([self.table(table), self.contact, *([self._bad] if bad else [])])
        for folder in _FOLDERS:
            (self.path / folder).mkdir(exist_ok=True)
        if bad:
            write_table(self._bad, ("image", "name", "reason"), bad)

    def left(self, key: str, batches: Sequence[Sequence[int]]) -> list[int]:
        """Return the numbers of the batches to learn: first those with a checkpoint, then the others.

        Args:
            key: The key of the run.
            batches: The numbers of the images of each batch.

        Raises:
            InputError: If a result or a checkpoint is damaged or belongs to another run.
        """
        under_way, others = [], []
        done = self.finished(len(batches))
        for batch, images in enumerate(batches):
            if batch in done:
                self.read_shard(batch, key, len(images))
                self.checkpoint(batch).unlink(missing_ok=True)  # the last run may have ended before it did this
            elif self.read_checkpoint(batch, key) is None:
                others.append(batch)
            else:
                under_way.append(batch)
        return under_way + others

    # Batches

    def write_shard(self, batch: int, key: str, result: FitResult, seconds: float) -> None:
        """Write the results of a batch and its duration, and remove its checkpoint.

        The duration has its own file, because it differs between runs.
        """
        with atomic_path(self.seconds(batch)) as temporary:
            temporary.write_text(f"{seconds:.3f}\n", encoding="utf-8")
        write_tensors(self.shard(batch), result.tensors(), result.metadata() | _seal(key, batch))
        self.checkpoint(batch).unlink(missing_ok=True)

    def read_shard(self, batch: int, key: str, images: int) -> FitResult:
        """Return the results of a batch with this number of images.

        Raises:
            InputError: If the file is damaged or belongs to another run.
        """
        path = self.shard(batch)
        result = FitResult.from_file(path, *_read_sealed(path, FORM, key, batch))
        if result.system.systems != images:
            raise InputError(f"cannot use {path}: it must contain {images} systems, got {result.system.systems}")
        return result

    def key(self) -> str:
        """Return the key of the run in this folder, from its manifest. Raise `InputError` if it can't be read."""
        manifest = self.read_run()
        with parsing(self.path / "run.json"):
            return run_key(manifest)

    def read_seconds(self, batch: int) -> float:
        """Return the duration of a batch in seconds, or NaN if its file is missing or damaged."""
        try:
            with reading(path := self.seconds(batch)):
                return float(path.read_text(encoding="utf-8"))
        except InputError:
            return float("nan")

    def write_checkpoint(self, batch: int, key: str, state: dict[str, Tensor], seconds: float) -> None:
        """Write the state of an unfinished batch after `seconds` of learning."""
        metadata = {"format": _CHECKPOINT_FORM, "seconds": repr(seconds)}
        write_tensors(self.checkpoint(batch), state, metadata | _seal(key, batch))

    def read_checkpoint(self, batch: int, key: str) -> tuple[dict[str, Tensor], float] | None:
        """Return the state of an unfinished batch and its seconds of learning, or None if there is no checkpoint.

        Raises:
            InputError: If the file is damaged or belongs to another run.
        """
        path = self.checkpoint(batch)
        if not path.exists():
            return None
        state, metadata = _read_sealed(path, _CHECKPOINT_FORM, key, batch)
        return state, float(metadata["seconds"])


def _seal(key: str, batch: int) -> dict[str, str]:
    """Return the metadata that identifies the run and the batch of a file."""
    return {"run": key, "batch": str(batch)}


def _read_sealed(path: Path, form: str, key: str, batch: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the verified content of a file of this run and batch. Raise `InputError` if it is damaged or foreign."""
    try:
        return read_sealed(path, form, _seal(key, batch))
    except InputError as error:
        raise InputError(f"{error}; to learn its images again, delete it: rm {path}") from error
