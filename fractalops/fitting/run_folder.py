"""The folder of a run over many images: what lies where, and whether it belongs to the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fractalops import backends
from fractalops.errors import InputError
from fractalops.fitting.config import FitConfig
from fractalops.fitting.result import FORM, FitResult
from fractalops.fitting.run_index import KINDS, IndexKind, write_table
from fractalops.io.files import LOCK, atomic_path
from fractalops.io.tensor_files import checksum, read_tensors, write_tensors

_RUN_FORM = "fractalops.run.1"
_CHECKPOINT_FORM = "fractalops.checkpoint.1"
_FOLDERS = {"systems": ".safetensors", "checkpoints": ".safetensors", "seconds": ".txt"}
OTHER_FOLDER = "take another folder, or overwrite (--overwrite) to start anew"

Record = dict[str, Any]


def describe_run(config: FitConfig, identity: str, device: torch.device, backend: str | None) -> Record:
    """All that the bits of a run's results depend on but the pictures, as JSON has it."""
    record = {
        "format": _RUN_FORM,
        "config": dataclasses.asdict(config),
        "source": identity,
        "device": device.type,
        "backends": {op: backends.choose(op, device, backend) for op in backends.OPS if op != "rasterize_points"},
        "versions": backends.versions(),
    }
    return dict(json.loads(json.dumps(record)))  # tuples as lists: as it will be read again


class RunFolder:
    """The files of a run; each is whole or not there at all.

    run.json                       what the run is
    systems/00000.safetensors      what was learned of a batch of images, for `FitResult.load`
    seconds/00000.txt              how long that took
    checkpoints/00000.safetensors  a batch under way
    bad.csv                        images that can't be used, where there are some
    index.csv, contact.png         the report, once everything is learned; the index may be index.parquet
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record = self.path / "run.json"
        self.bad = self.path / "bad.csv"
        self.contact = self.path / "contact.png"

    def index(self, kind: IndexKind) -> Path:
        """The table of this kind; one tells that the run is finished."""
        return self.path / f"index.{kind}"

    def written_index(self) -> Path | None:
        """The table that there is, if any."""
        return next((path for path in map(self.index, KINDS) if path.exists()), None)

    def drop_indexes(self, but: IndexKind | None = None) -> None:
        for kind in KINDS:
            if kind != but:
                self.index(kind).unlink(missing_ok=True)

    def shard(self, batch: int) -> Path:
        return self.path / "systems" / f"{batch:05}.safetensors"

    def checkpoint(self, batch: int) -> Path:
        return self.path / "checkpoints" / f"{batch:05}.safetensors"

    def seconds(self, batch: int) -> Path:
        return self.path / "seconds" / f"{batch:05}.txt"

    def finished(self, batches: int) -> set[int]:
        """Which of so many batches are learned, by the names of their files."""
        names = {path.name for path in self.path.glob("systems/*")}
        return {batch for batch in range(batches) if self.shard(batch).name in names}

    # The run

    def check(self, record: Record, *, overwrite: bool = False) -> None:
        """Raise `InputError` unless the folder can take this run, or go on with it, as far as `record` tells."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"cannot write to {self.path}: it is not a folder")
        if overwrite or not self.path.exists():
            return
        if not self.record.exists():
            if set(self.path.iterdir()) - {self.path / LOCK, *self._leftovers()}:
                raise InputError(f"cannot write to {self.path}: there are files already; {OTHER_FOLDER}")
            return
        found = self.read_record()
        if told := differences(found, record):
            raise InputError(f"cannot go on in {self.path}: {told}; {OTHER_FOLDER}")

    def read_record(self) -> Record:
        """What run.json says. Raises `InputError`."""
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {self.record}: {error}; {OTHER_FOLDER}") from error
        form = found.get("format") if isinstance(found, dict) else None
        if form != _RUN_FORM:
            raise InputError(f"cannot read {self.record}: its format must be {_RUN_FORM}, got {form}; {OTHER_FOLDER}")
        return dict(found)

    def begin(self, record: Record, bad: Sequence[tuple[int, str, str]], *, overwrite: bool = False) -> None:
        """Make the folder ready for this run, or for going on with it. `bad` has number, name and reason of images.

        Raises `InputError` where it holds another run and `overwrite` doesn't discard that.
        """
        self.check(record, overwrite=overwrite)
        for path in self._leftovers() + (self._results() if overwrite else []):
            path.unlink()
        # The record comes first, and never goes: wherever this is cut short, the folder is one that a run can take.
        if overwrite or not self.record.exists():
            with atomic_path(self.record) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for folder in _FOLDERS:
            (self.path / folder).mkdir(exist_ok=True)
        if bad:
            write_table(self.bad, ("image", "name", "reason"), bad)

    def _results(self) -> list[Path]:
        """All that a run has written but its record."""
        batches = [path for name, suffix in _FOLDERS.items() for path in self.path.glob(f"{name}/[0-9]*{suffix}")]
        return batches + [path for path in (*map(self.index, KINDS), self.contact, self.bad) if path.exists()]

    def _leftovers(self) -> list[Path]:
        """What writes that were cut short have left."""
        batches = [path for name, suffix in _FOLDERS.items() for path in self.path.glob(f"{name}/.[0-9]*{suffix}")]
        batches += [path for name in _FOLDERS for path in self.path.glob(f"{name}/.tmp*")]  # safetensors' own
        files = (*map(self.index, KINDS), self.contact, self.bad, self.record)
        return batches + [path for file in files for path in self.path.glob(f".{file.stem}.*{file.suffix}")]

    # Groups

    def write_shard(self, batch: int, key: str, result: FitResult, seconds: float) -> None:
        """Keep what was learned of a batch, and drop its checkpoint. The times of two runs differ: they lie apart."""
        with atomic_path(self.seconds(batch)) as temporary:
            temporary.write_text(f"{seconds:.3f}\n", encoding="utf-8")
        tensors = result.tensors()
        write_tensors(self.shard(batch), tensors, _sealed(result.metadata(), key, batch, tensors))
        self.checkpoint(batch).unlink(missing_ok=True)

    def read_shard(self, batch: int, key: str, images: int) -> FitResult:
        """What was learned of a batch of `images`. Raises `InputError` for a file that is damaged or of another run."""
        path = self.shard(batch)
        result = FitResult.from_file(path, *_read_sealed(path, FORM, key, batch))
        if result.system.systems != images:
            raise InputError(f"cannot use {path}: it must hold {images} systems, got {result.system.systems}")
        return result

    def read_seconds(self, batch: int) -> float:
        """How long a batch took; NaN where that was lost."""
        try:
            return float(self.seconds(batch).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return float("nan")

    def write_checkpoint(self, batch: int, key: str, state: dict[str, Tensor], seconds: float) -> None:
        """Keep the state of a batch under way, `seconds` of learning after its start."""
        metadata = {"format": _CHECKPOINT_FORM, "seconds": repr(seconds)}
        write_tensors(self.checkpoint(batch), state, _sealed(metadata, key, batch, state))

    def read_checkpoint(self, batch: int, key: str) -> tuple[dict[str, Tensor], float] | None:
        """The state of a batch and its seconds; None where there is none.

        Raises `InputError` for a file that is damaged or of another run.
        """
        path = self.checkpoint(batch)
        if not path.exists():
            return None
        state, metadata = _read_sealed(path, _CHECKPOINT_FORM, key, batch)
        return state, float(metadata["seconds"])


def run_key(record: Record) -> str:
    """What the files of a run know it by."""
    versions = {name: version for name, version in record["versions"].items() if name != "python"}
    return hashlib.sha256(json.dumps(record | {"versions": versions}, sort_keys=True).encode()).hexdigest()


def _sealed(metadata: dict[str, str], key: str, batch: int, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Metadata that tell run and batch, and whether a bit of them or of the tensors has changed since."""
    metadata = metadata | {"run": key, "batch": str(batch)}
    return metadata | {"sha256": _digest(metadata, tensors)}


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    told = {name: text for name, text in metadata.items() if name != "sha256"}
    return hashlib.sha256((json.dumps(told, sort_keys=True) + checksum(tensors)).encode()).hexdigest()


def _read_sealed(path: Path, form: str, key: str, batch: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file of this run and batch, whole to the last bit. Raises `InputError`."""
    advice = f"to learn its images anew, delete it: rm {path}"
    try:
        tensors, metadata = read_tensors(path, form)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error
    for name, wanted in (("run", key), ("batch", str(batch)), ("sha256", _digest(metadata, tensors))):
        if metadata.get(name) != wanted:
            reason = "it is damaged: its checksum is wrong" if name == "sha256" else f"it is of another {name}"
            raise InputError(f"cannot read {path}: {reason}; {advice}")
    return tensors, metadata


def differences(found: Record, wanted: Record) -> str:
    """In which of the entries of `wanted` a run differs, for an error; "" where it is the same run.

    Another version of Python changes no bit.
    """
    kept = {name: found.get(name) for name in wanted}
    return "; ".join(
        f"{name} was {json.dumps(old)}, is {json.dumps(new)}"
        for name, old, new in _differences(kept, wanted)
        if name != "versions.python"
    )


def _differences(old: Record, new: Record, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Where two records differ: the name, dotted, and both values."""
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            yield f"{prefix}{name}", one, other
