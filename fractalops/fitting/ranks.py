"""The processes that share a run: those that torchrun started, or this one alone. They meet in the run's folder.

Nothing but the environment variables of torchrun and files tells them of each other: which process learns a batch is
decided by a lock beside its checkpoint, see `fit_dataset`. The lock of a process that was lost is void, so that another
goes on from the checkpoint.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fractalops._checks import check_gpu
from fractalops.errors import RankError
from fractalops.io.run_folder import RANK_FILE

POLL = 0.1  # seconds between two looks at the folder
# How long ranks wait for each other before the run begins: longer than reading all images takes.
_PATIENCE = 2 * 3600.0
_SHORT_PATIENCE = 3.0  # of a rank 0 that failed


def is_leader() -> bool:
    """Return whether this process is the one that speaks for all: rank 0, or alone."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    def meet(self, folder: Path, failure: str = "") -> None:
        """Wait until rank 0 has made the folder ready; on rank 0, tell the others that it has, or that it failed.

        Each of the others lays a file with a new name into the folder and waits for the answer to that name, so that
        nothing an earlier run has left is taken for one. Raises `RankError` where one does not come, or rank 0 failed.
        """
        if self.rank == 0:
            self._answer(folder, failure)
        else:
            self._ask(folder)

    def _answer(self, folder: Path, failure: str) -> None:
        absent = set(range(1, self.size))
        end = time.monotonic() + (_SHORT_PATIENCE if failure else _PATIENCE)
        while absent:
            for rank in tuple(absent):
                for question in folder.glob(RANK_FILE.format(rank=rank, name=16 * "[0-9a-f]")):
                    answer = folder / RANK_FILE.format(rank=0, name=question.name.rpartition("-")[2])
                    answer.with_suffix(".new").write_text(failure, encoding="utf-8")
                    os.replace(answer.with_suffix(".new"), answer)
                    absent.discard(rank)
            if absent and time.monotonic() > end:
                if failure:
                    return
                raise RankError(f"rank {min(absent)} did not come within {_PATIENCE / 3600:g} hours")
            time.sleep(POLL if absent else 0)

    def _ask(self, folder: Path) -> None:
        end = time.monotonic() + _PATIENCE
        folder.mkdir(parents=True, exist_ok=True)
        while time.monotonic() < end:
            name = secrets.token_hex(8)
            question, answer = (folder / RANK_FILE.format(rank=rank, name=name) for rank in (self.rank, 0))
            question.touch()
            try:
                while question.exists() and time.monotonic() < end:  # rank 0 removes what it finds when it begins
                    if answer.exists():
                        if failure := answer.read_text(encoding="utf-8"):
                            raise RankError(f"rank 0 failed: {failure}")
                        return
                    time.sleep(POLL)
            finally:
                question.unlink(missing_ok=True)
                answer.unlink(missing_ok=True)
        raise RankError(f"rank 0 did not begin within {_PATIENCE / 3600:g} hours")


def find_ranks(device: str | torch.device | None) -> Ranks:
    """Return this process among its ranks, by the variables of torchrun, and set its GPU, or its share of the cores.

    `device` None is a GPU where torch finds one, one of its own for each rank, else the CPU. Raises `InputError` where
    there is no GPU, `RankError` where there is none for a rank of its own.
    """
    kind = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device is None else torch.device(device)
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        check_gpu(kind)
        return Ranks(torch.device("cuda", torch.cuda.current_device()) if kind == torch.device("cuda") else kind)
    rank = int(os.environ["RANK"])
    if kind.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise RankError(f"rank {rank} has no GPU of its own: there are {torch.cuda.device_count()}")
        kind = torch.device("cuda", local)
        torch.cuda.set_device(kind)
    else:
        _share_cores()
    return Ranks(kind, rank, size)


def _share_cores() -> None:
    """Take a rank's share of the machine's cores, unless OMP_NUM_THREADS says otherwise.

    torchrun sets that to 1 by itself, which can't be told from a user's 1.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
        cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
