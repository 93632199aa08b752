"""Shared parts of the tests of `fit_dataset`. As a program, a run that can be killed, or shared by torchrun."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig, FitRun, InputError
from fractalops.data.targets import TargetDataset
from tests.support.learning import Interruption, tiny
from tests.support.requirements import ROOT

SYSTEM = "systems/00000.safetensors"


class Pictures(TargetDataset):
    """Targets in memory. Images in `bad` can't be read.

    `reads` contains the indices that were read, `most_alive` the largest number of targets in memory at a time.
    """

    def __init__(self, targets: Sequence[Tensor], *, identity: str = "pictures", bad: Sequence[int] = ()) -> None:
        self.title = self.identity = identity
        self.reads: list[int] = []
        self.most_alive = 0
        self._targets, self._bad = targets, bad
        self._alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._targets)

    def _name(self, index: int) -> str:
        return f"pictures/{index}.png"

    def _label(self, index: int) -> str:
        return "even" if index % 2 == 0 else "odd"

    def _read(self, index: int) -> Tensor:
        self.reads.append(index)
        if index in self._bad:
            raise InputError(f"cannot read {self.name(index)}: it is damaged")
        target = self._targets[index].clone()
        self._alive.add(target)
        self.most_alive = max(self.most_alive, len(self._alive))
        return target


def pictures(count: int = 5, size: int = 8, *, color: bool = False, **options: Any) -> Pictures:
    """Return random targets (size, size), or (3, size, size) in color."""
    shape = (count, *([3] if color else []), size, size)
    return Pictures(list(torch.rand(shape, generator=torch.Generator().manual_seed(0))), **options)


def small(**changes: Any) -> FitConfig:
    """Return settings of ten very cheap steps on batches of two images, with noise and snapshots."""
    return tiny(**({"batch_size": 2, "noise": 0.1, "noise_every": 3, "snapshots": 3} | changes))


def run(output: Path, source: Any = None, config: FitConfig | None = None, **options: Any) -> FitRun:
    """Run `fit_dataset` on the CPU, with a checkpoint after every step."""
    settings: dict[str, Any] = {"device": "cpu", "checkpoint_every": 0} | options
    return fractalops.fit_dataset(
        pictures() if source is None else source, output, small() if config is None else config, **settings
    )


class Stop(BaseException):
    """An exception that no code expects."""


def interrupt(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int = 13, **options: Any) -> None:
    """Interrupt a run during its second batch."""
    with monkeypatch.context() as patched:
        Interruption(step, Stop()).install(patched)
        with pytest.raises(Stop):
            run(folder, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files of a run by name, without times, which differ between runs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("seconds/"):
            found[name] = path.read_bytes()
    if "index.csv" in found:
        rows = list(csv.reader(io.StringIO(found["index.csv"].decode())))
        assert rows[0][-1] == "seconds"
        found["index.csv"] = "\n".join(",".join(row[:-1]) for row in rows).encode()
    return found


def start(
    folder: Path, *options: str, launcher: Sequence[str] = (), every: float = 0.1, **variables: str
) -> subprocess.Popen[str]:
    """Start this file as a program: a run that can be killed. `variables` can contain those of a rank."""
    unset = ("RANK", "WORLD_SIZE")
    environment = {name: text for name, text in os.environ.items() if name not in unset}
    command = [sys.executable, *launcher, "-m", "tests.support.runs", str(folder), str(every), *options]
    variables = {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(command, cwd=ROOT, env=environment | variables, stderr=subprocess.PIPE, text=True)


def long() -> tuple[Pictures, FitConfig]:
    """Return the inputs of a run of several seconds."""
    return pictures(6), small(steps=15_000)


if __name__ == "__main__":  # python -m tests.support.runs OUTPUT SECONDS [overwrite]
    source, config = long()
    overwrite = "overwrite" in sys.argv
    done = run(Path(sys.argv[1]), source, config, checkpoint_every=float(sys.argv[2]), overwrite=overwrite)
    sys.exit(128 + done.signal if done.signal is not None else 0)
