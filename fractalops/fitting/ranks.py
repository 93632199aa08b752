"""The processes that share a run: those that torchrun started, or this process alone.

A process reads its rank from the environment variables of torchrun. The processes synchronize only through files in the
run's folder. A process that learns a batch holds the lock beside the batch's checkpoint, see `fit_dataset`. If a
process is killed, its lock becomes invalid, and another process resumes from the checkpoint.
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

POLL = 0.1  # seconds between two checks of the folder
# Seconds that ranks wait for each other before the run starts. Reading all images takes less time.
_PATIENCE = 2 * 3600.0
_SHORT_PATIENCE = 3.0  # seconds that rank 0 waits for the other ranks after a failure


def is_leader() -> bool:
    """Return whether this process has rank 0 or runs alone. Only this process prints messages for the whole run."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, the number of processes that share the run, and the device of this process."""

    device: torch.device
    rank: int = 0
    size: int = 1

    def meet(self, folder: Path, failure: str = "") -> None:
        """Wait until rank 0 has prepared the folder.

        Each other rank creates a request file with a random name in the folder, and waits for a reply file with the
        same random name. Rank 0 calls this function when the folder is ready, or when it has failed, and writes the
        replies. Because the names are random, files of an earlier run are never mistaken for those of this run.

        Args:
            folder: The folder of the run.
            failure: On rank 0, the reason why it failed, which the other ranks raise. Default: "", for success.

        Raises:
            RankError: If a rank does not start in time, or if rank 0 has failed.
        """
        if self.rank == 0:
            self._reply(folder, failure)
        else:
            self._request(folder)

    def _reply(self, folder: Path, failure: str) -> None:
        absent = set(range(1, self.size))
        end = time.monotonic() + (_SHORT_PATIENCE if failure else _PATIENCE)
        while absent:
            for rank in tuple(absent):
                for request in folder.glob(RANK_FILE.format(rank=rank, name=16 * "[0-9a-f]")):
                    reply = folder / RANK_FILE.format(rank=0, name=request.name.rpartition("-")[2])
                    reply.with_suffix(".new").write_text(failure, encoding="utf-8")
                    os.replace(reply.with_suffix(".new"), reply)
                    absent.discard(rank)
            if absent and time.monotonic() > end:
                if failure:
                    return
                raise RankError(f"rank {min(absent)} did not start within {_PATIENCE / 3600:g} hours")
            time.sleep(POLL if absent else 0)

    def _request(self, folder: Path) -> None:
        end = time.monotonic() + _PATIENCE
        folder.mkdir(parents=True, exist_ok=True)
        while time.monotonic() < end:
            name = secrets.token_hex(8)
            request, reply = (folder / RANK_FILE.format(rank=rank, name=name) for rank in (self.rank, 0))
            request.touch()
            try:
                while request.exists() and time.monotonic() < end:  # rank 0 removes all request files when it starts
                    if reply.exists():
                        if failure := reply.read_text(encoding="utf-8"):
                            raise RankError(f"rank 0 failed: {failure}")
                        return
                    time.sleep(POLL)
            finally:
                request.unlink(missing_ok=True)
                reply.unlink(missing_ok=True)
        raise RankError(f"rank 0 did not start the run within {_PATIENCE / 3600:g} hours")


def find_ranks(device: str | torch.device | None) -> Ranks:
    """Return the rank of this process, and select its GPU or its share of the cores.

    Args:
        device: The device. None uses a GPU if PyTorch finds one, a different GPU for each rank, and else the CPU.

    Raises:
        InputError: If the device is a GPU and there is none.
        RankError: If there are fewer GPUs than ranks.
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
            raise RankError(f"rank {rank} must have its own GPU, got {torch.cuda.device_count()} GPU(s)")
        kind = torch.device("cuda", local)
        torch.cuda.set_device(kind)
    else:
        _share_cores()
    return Ranks(kind, rank, size)


def _share_cores() -> None:
    """Limit the threads of this rank to its share of the machine's cores, unless OMP_NUM_THREADS is set to more than 1.

    torchrun sets OMP_NUM_THREADS to 1, which can't be distinguished from a 1 that the user has set.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        affinity = getattr(os, "sched_getaffinity", None)  # not available on macOS and Windows
        cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
