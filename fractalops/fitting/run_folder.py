"""The folder of a run over many images: what lies where in it."""

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
_NUMBERS = [digits * "[0-9]" for digits in (5, 6, 7, 8)]  # of batches
_FOLDERS = {"systems": ".safetensors", "checkpoints": ".safetensors", "seconds": ".txt"}
_RESULTS = [f"{name}/{number}{suffix}" for name, suffix in _FOLDERS.items() for number in _NUMBERS]
_TABLES = [f"index.{kind}" for kind in KINDS]
_LISTED = [*_TABLES, "contact.png", "bad.csv"]


def describe_run(config: FitConfig, identity: str, device: torch.device) -> Manifest:
    """Return all that the bits of a run's results depend on but the pictures."""
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
    """The files of a run over many images; each is whole or not there at all.

    run.json                       what the run is, and which of bad.csv and the report are its
    systems/00000.safetensors      what was learned of a batch of images, for `FitResult.load`
    seconds/00000.txt              how long that took
    checkpoints/00000.safetensors  a batch under way, and beside it .00000.lock while a process learns it
    bad.csv                        images that can't be used, where there are some
    index.csv, contact.png         the report, once everything is learned; the table may be index.parquet
    """

    def __init__(self, path: str | Path) -> None:
        locks = [f"checkpoints/.{number}.lock" for number in _NUMBERS]
        super().__init__(path, _RESULTS, manifest="run.json", listed=_LISTED, locks=locks)
        self.contact, self._bad = self.path / "contact.png", self.path / "bad.csv"

    def results(self) -> list[Path]:
        """Return the files that the run has written: of no batch that it has not, which has at least an image."""
        found = super().results()
        images = read_json(self._manifest).get("images") if found else None
        batches = images if isinstance(images, int) else 0
        own = [path for path in found if not path.stem.isdigit() or int(path.stem) < batches]
        return sorted(own, key=lambda path: path.name not in _TABLES)

    def table(self, kind: TableKind) -> Path:
        """Return the path of the table of this kind; one tells that the run is finished."""
        return self.path / f"index.{kind}"

    def written_table(self) -> Path | None:
        """Return the table that there is, if any."""
        earlier = filter(Path.exists, map(self.table, KINDS))  # of versions that named none
        return next(iter(self.named(_TABLES)), None) or next(earlier, None)

    def read_table(self, path: Path) -> list[TableRow]:
        """Return the rows of a table of this run, one for each image, each with a place of its own.

        Raises `InputError` for a damaged table, `MissingExtra` for one in Parquet without pyarrow.
        """
        images = self.read_run().get("images")
        rows = read_rows(path)
        if len(rows) != images:
            raise InputError(f"cannot read {path}: it must have a row for each of {images} images, got {len(rows)}")
        if any(one.index >= next_one.index for one, next_one in pairwise(rows)):
            raise InputError(f"cannot read {path}: its images must be in order, each once")
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
        """Return the number of a batch, by its file. Raises `ValueError` for anything but a file of this run."""
        number = PurePath(shard).stem
        if not re.fullmatch("[0-9]{5,8}", number) or shard != self.relative(self.shard(int(number))):
            raise ValueError(f"shard must be systems/NUMBER.safetensors, got {shard!r}")
        return int(number)

    def drop_damaged_tables(self) -> None:
        """Remove the tables that can't be read: they are written anew."""
        for path in self.named(_TABLES):
            try:
                self.read_table(path)
            except InputError:
                path.unlink()
            except MissingExtra:
                pass  # of Parquet, which can't be written here, either

    def drop_tables(self, but: TableKind | None = None) -> None:
        """Remove the tables, except for that of one kind."""
        for path in self.named(_TABLES):
            if but is None or path != self.table(but):
                path.unlink()

    def shard(self, batch: int) -> Path:
        """Return the path of what was learned of a batch."""
        return self.path / "systems" / f"{batch:05}.safetensors"

    def checkpoint(self, batch: int) -> Path:
        """Return the path of the state of a batch under way."""
        return self.path / "checkpoints" / f"{batch:05}.safetensors"

    def claim(self, batch: int) -> Path:
        """Return the path of the lock that a process holds while it learns a batch."""
        return self.path / "checkpoints" / f".{batch:05}.lock"

    def seconds(self, batch: int) -> Path:
        """Return the path of how long a batch took."""
        return self.path / "seconds" / f"{batch:05}.txt"

    def finished(self, batches: int) -> set[int]:
        """Return which of so many batches are learned, by the names of their files."""
        names = {path.name for path in self.path.glob("systems/*")}
        return {batch for batch in range(batches) if self.shard(batch).name in names}

    def read_run(self) -> Manifest:
        """Return what run.json says. Raises `InputError`."""
        return self.read_manifest(_RUN_FORM)

    def begin_run(
        self, manifest: Manifest, bad: Sequence[tuple[int, str, str]], table: TableKind, *, overwrite: bool = False
    ) -> None:
        """Make the folder ready, see `begin`. `bad` has number, name and reason of images that can't be used."""
        self.begin(manifest, overwrite=overwrite)
        self.claim_files([self.table(table), self.contact, *([self._bad] if bad else [])])
        for folder in _FOLDERS:
            (self.path / folder).mkdir(exist_ok=True)
        if bad:
            write_table(self._bad, ("image", "name", "reason"), bad)

    def left(self, key: str, batches: Sequence[Sequence[int]]) -> list[int]:
        """Return which batches are not learned: first those under way. What is there is read, and refused if damaged.

        Raises `InputError` for a file that is damaged or of another run.
        """
        under_way, others = [], []
        done = self.finished(len(batches))
        for batch, images in enumerate(batches):
            if batch in done:
                self.read_shard(batch, key, len(images))
                self.checkpoint(batch).unlink(missing_ok=True)  # the last run may have ended before it did so
            elif self.read_checkpoint(batch, key) is None:
                others.append(batch)
            else:
                under_way.append(batch)
        return under_way + others

    # Batches

    def write_shard(self, batch: int, key: str, result: FitResult, seconds: float) -> None:
        """Keep what was learned of a batch, and drop its checkpoint. The times of two runs differ: they lie apart."""
        with atomic_path(self.seconds(batch)) as temporary:
            temporary.write_text(f"{seconds:.3f}\n", encoding="utf-8")
        write_tensors(self.shard(batch), result.tensors(), result.metadata() | _seal(key, batch))
        self.checkpoint(batch).unlink(missing_ok=True)

    def read_shard(self, batch: int, key: str, images: int) -> FitResult:
        """Return the result of a batch of `images`. Raise `InputError` for a file that is damaged or of another run."""
        path = self.shard(batch)
        result = FitResult.from_file(path, *_read_sealed(path, FORM, key, batch))
        if result.system.systems != images:
            raise InputError(f"cannot use {path}: it must hold {images} systems, got {result.system.systems}")
        return result

    def key(self) -> str:
        """Return the key of the run in this folder, by its manifest. Raises `InputError`."""
        manifest = self.read_run()
        with parsing(self.path / "run.json"):
            return run_key(manifest)

    def read_seconds(self, batch: int) -> float:
        """Return the seconds that a batch took; NaN where they were lost."""
        try:
            with reading(path := self.seconds(batch)):
                return float(path.read_text(encoding="utf-8"))
        except InputError:
            return float("nan")

    def write_checkpoint(self, batch: int, key: str, state: dict[str, Tensor], seconds: float) -> None:
        """Keep the state of a batch under way, `seconds` of learning after its start."""
        metadata = {"format": _CHECKPOINT_FORM, "seconds": repr(seconds)}
        write_tensors(self.checkpoint(batch), state, metadata | _seal(key, batch))

    def read_checkpoint(self, batch: int, key: str) -> tuple[dict[str, Tensor], float] | None:
        """Return the state of a batch and its seconds; None where there is none.

        Raises `InputError` for a file that is damaged or of another run.
        """
        path = self.checkpoint(batch)
        if not path.exists():
            return None
        state, metadata = _read_sealed(path, _CHECKPOINT_FORM, key, batch)
        return state, float(metadata["seconds"])


def _seal(key: str, batch: int) -> dict[str, str]:
    """Return what tells the files of a run and a batch from others."""
    return {"run": key, "batch": str(batch)}


def _read_sealed(path: Path, form: str, key: str, batch: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the content of a file of this run and batch, whole to the last bit. Raises `InputError`."""
    try:
        return read_sealed(path, form, _seal(key, batch))
    except InputError as error:
        raise InputError(f"{error}; to learn its images anew, delete it: rm {path}") from error
