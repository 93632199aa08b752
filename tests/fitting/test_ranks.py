"""`fit_dataset` shared by several processes: the same bits as by one, and a lost one ends it in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fractalops import InputError
from fractalops.fitting import ranks
from tests.support.requirements import ROOT
from tests.support.runs import contents, long, run

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
TWO_RANKS = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
PATIENCE = 240  # seconds: torch takes some to be imported, and many on a machine with other work


def environment(**changes: str) -> dict[str, str]:
    """The variables of this process, without those that torchrun would set."""
    ours = {name: text for name, text in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")}
    return ours | LOOPBACK | changes


@contextmanager
def torchrun(folder: Path, processes: int = 2, every: float = 0.02) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command += [f"--nproc-per-node={processes}", "-m", "tests.support.runs", str(folder), str(every)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()  # it takes its ranks with it


@contextmanager
def by_hand(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two ranks without an agent that ends one with the other: as on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.runs", str(folder), "0.02"],
            cwd=ROOT,
            env=environment(
                RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for_checkpoints(folder: Path, count: int) -> None:
    """Until so many groups are under way at once."""
    begun = time.monotonic()
    while len(list(folder.glob("checkpoints/0*"))) < count:
        assert time.monotonic() - begun < PATIENCE, "nothing is being learned"
        time.sleep(0.01)


def pid_of(rank: int, agent: int) -> int:
    """The process of a rank that torchrun has started."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    pytest.fail(f"torchrun has no rank {rank}")


def last_line(errors: str) -> str:
    """Of a traceback, without the rank that torch puts before it."""
    return errors.strip().splitlines()[-1].split("]: ", 1)[-1]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the run of one process that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(folder, *long(), checkpoint_every=1000)
    torch.set_num_threads(threads)
    return contents(folder)


@pytest.mark.parametrize("processes", [2, pytest.param(5, marks=pytest.mark.slow)])  # 5 ranks for 3 groups
def test_any_number_of_ranks_gives_the_same_bits(processes: int, tmp_path: Path, long_run: dict[str, bytes]) -> None:
    with torchrun(tmp_path / "run", processes) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == long_run


@pytest.mark.slow
def test_a_killed_rank_ends_torchrun_and_another_number_of_ranks_goes_on(
    tmp_path: Path, long_run: dict[str, bytes]
) -> None:
    with torchrun(tmp_path / "run") as process:
        wait_for_checkpoints(tmp_path / "run", 2)
        os.kill(pid_of(1, process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL)" in errors
    assert len(contents(tmp_path / "run")) < len(long_run)
    run(tmp_path / "run", *long())
    assert contents(tmp_path / "run") == long_run


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_loses_another_says_so_and_the_run_can_go_on(
    lost: int, tmp_path: Path, long_run: dict[str, bytes]
) -> None:
    with by_hand(tmp_path / "run") as processes:
        wait_for_checkpoints(tmp_path / "run", 2)
        processes[lost].kill()
        _, errors = processes[1 - lost].communicate(timeout=PATIENCE)
    assert processes[1 - lost].returncode == 1
    last = last_line(errors)
    when = "while it was learning|while this one waited for it"  # that is a matter of who was where
    assert re.fullmatch(
        rf"fractalops.fitting.ranks.RankError: another rank was lost ({when}) \(\w[^)/]+\w\); "
        "what was learned is kept: started again, without overwriting, the run goes on from there",
        last,
    )
    with torchrun(tmp_path / "run") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == long_run


@pytest.mark.slow
def test_what_rank_0_refuses_ends_all(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with by_hand(tmp_path / "run") as processes:
        errors = [last_line(process.communicate(timeout=PATIENCE)[1]) for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    reason = f"cannot write to {tmp_path / 'run'}: there are files already; "
    assert errors[0].startswith(f"fractalops.errors.InputError: {reason}")
    assert errors[1].startswith(f"fractalops.fitting.ranks.LeaderError: rank 0 failed: {reason}")


@pytest.mark.slow
def test_ctrl_c_on_torchrun_keeps_every_step(tmp_path: Path, long_run: dict[str, bytes]) -> None:
    with torchrun(tmp_path / "run", every=1000) as process:
        begun = time.monotonic()
        while not (tmp_path / "run" / "checkpoints").is_dir() and time.monotonic() - begun < PATIENCE:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "what was learned so far is in" in errors
    assert len(list(tmp_path.glob("run/checkpoints/0*"))) == 2
    run(tmp_path / "run", *long())
    assert contents(tmp_path / "run") == long_run


def test_a_process_alone_is_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({}, {"RANK": "0", "WORLD_SIZE": "1"}):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        with ranks.open_ranks("cpu") as alone:
            assert (alone.rank, alone.size, alone.device) == (0, 1, torch.device("cpu"))
            assert list(alone.share([3, 1, 2])) == [3, 1, 2]
            assert alone.lead(lambda: 5) == 5
            alone.wait()
        assert ranks.is_leader()
    monkeypatch.setenv("RANK", "1")
    assert not ranks.is_leader()


def test_a_rank_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"^rank 3 has no GPU of its own: there are 1$"), ranks.open_ranks("cuda"):
        pass


def test_a_gpu_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^cannot run on cuda: torch finds no GPU$"), ranks.open_ranks("cuda"):
        pass


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 4),  # what torchrun sets by itself
        ({"LOCAL_WORLD_SIZE": "16"}, 1),
        ({}, 8),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "3"}, 5),
    ],
    ids=str,
)
def test_ranks_share_the_cores(variables: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    for name in ("LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    torch.set_num_threads(5)
    ranks._share_cores()
    assert torch.get_num_threads() == threads
