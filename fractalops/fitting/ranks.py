"""The processes that share a run: those that torchrun started, or this one alone."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from fractalops.backends import check_device
from fractalops.errors import InputError, RankError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import ProcessGroup, Store

Value = TypeVar("Value")

# How long a rank waits for one that is there but silent: longer than reading all images, or learning a group, takes.
# One that has ended is noticed at once.
_PATIENCE = timedelta(hours=2)
_GO_ON = "what was learned is kept: started again, without overwriting, the run goes on from there"


class LeaderError(RankError):
    """Rank 0 failed, and says why by itself; the others end with it."""


def is_leader() -> bool:
    """Whether this process is the one that speaks for all: rank 0, or alone."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    _control: ProcessGroup | None = None
    _store: Store | None = None

    def lead(self, work: Callable[[], Value]) -> Value:
        """What `work` returns on rank 0, for all ranks; it must be small and can be pickled.

        Raises what `work` raises on rank 0, and `LeaderError` on the others.
        """
        if self._control is None:
            return work()
        from torch.distributed import broadcast_object_list

        told: list[Any] = [None, None]  # the value, or what went wrong
        failure: Exception | None = None
        if self.rank == 0:
            try:
                told[0] = work()
            except Exception as error:
                failure, told[1] = error, str(error)
        with _noticed("while rank 0 was preparing or finishing the run"):
            broadcast_object_list(told, src=0, group=self._control, device=torch.device("cpu"))
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise LeaderError(f"rank 0 failed: {told[1]}")
        value: Value = told[0]
        return value

    def share(self, pieces: list[Value]) -> Iterator[Value]:
        """The pieces of work that fall to this rank: each takes the next one when it is free."""
        if self._store is None:
            yield from pieces
            return
        while True:
            with _noticed("while it was learning"):
                place = self._store.add("taken", 1) - 1
            if place >= len(pieces):
                return
            yield pieces[place]

    def wait(self) -> None:
        """Until all ranks are here. Raises `RankError` where one is lost."""
        if self._control is None:
            return
        from torch.distributed import monitored_barrier

        with _noticed("while this one waited for it"):
            monitored_barrier(self._control, timeout=_PATIENCE)


@contextmanager
def open_ranks(device: str | torch.device | None) -> Iterator[Ranks]:
    """The ranks of this run; `device` None is a GPU where torch finds one, one of its own for each rank, else the CPU.

    Raises `InputError` where there is no GPU, or none for a rank of its own, `RankError` where the ranks don't find
    each other.
    """
    kind = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device is None else torch.device(device)
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        check_device(kind)
        yield Ranks(torch.device("cuda", torch.cuda.current_device()) if kind == torch.device("cuda") else kind)
        return

    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    if kind.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(f"rank {os.environ['RANK']} has no GPU of its own: there are {torch.cuda.device_count()}")
        kind = torch.device("cuda", local)
        torch.cuda.set_device(kind)
    else:
        _share_cores()
    own = not dist.is_initialized()
    try:
        with _noticed("before the run began"):
            if own:
                backend, place = ("nccl", kind) if kind.type == "cuda" else ("gloo", None)
                dist.init_process_group(backend, timeout=_PATIENCE, device_id=place)
            # Of two ranks on one GPU, for instance, NCCL tells at its first use: before hours of learning, not after.
            dist.all_reduce(torch.ones(1, device=kind))
            control = dist.new_group(backend="gloo", timeout=_PATIENCE)  # it notices a lost rank at once, NCCL doesn't
            names = [secrets.token_hex(8)]
            dist.broadcast_object_list(names, src=0, group=control, device=torch.device("cpu"))
            # A part of the store of its own: another run of these processes must not find what this one leaves there.
            store = PrefixStore(names[0], _get_default_store())
        yield Ranks(kind, dist.get_rank(), dist.get_world_size(), control, store)
    finally:
        if own and dist.is_initialized():  # also after an error: Gloo's threads would abort the process as it ends
            dist.destroy_process_group()


def _share_cores() -> None:
    """A rank's share of the machine's cores, unless OMP_NUM_THREADS says otherwise.

    torchrun sets that to 1 by itself, which can't be told from a user's 1.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
        cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@contextmanager
def _noticed(when: str) -> Iterator[None]:
    """Say of what `torch.distributed` raises that a rank is lost."""
    try:
        yield
    except RankError:
        raise
    except RuntimeError as error:
        # Gloo puts a line of its source before it, and advice to programmers after it.
        reason = re.sub(r"^\[[^]]*\] ", "", " ".join(str(error).split())).split(". ")[0]
        raise RankError(f"another rank was lost {when} ({reason}); {_GO_ON}") from error
