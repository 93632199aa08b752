"""Tests of `fit_dataset` in several processes: they give the bits of one, and finish the groups of a lost one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fractalops import InputError, RankError
from fractalops.fitting import ranks
from fractalops.io.run_folder import RunFolder
from tests.support.runs import contents, long, run, start

PATIENCE = 240  # seconds: importing torch takes long on a busy machine


@contextmanager
def torchrun(folder: Path, processes: int = 2, every: float = 0.02) -> Iterator[subprocess.Popen[str]]:
    agent = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    with start(folder, launcher=agent, every=every) as process:
        try:
            yield process
        finally:
            process.terminate()  # this also ends its ranks


@contextmanager
def by_hand(folder: Path, *options: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start two ranks without an agent that would end one with the other, as on two machines."""
    processes = [start(folder, *options, RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2") for rank in ("0", "1")]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for_checkpoints(folder: Path, count: int) -> None:
    """Wait until `count` groups are being learned at the same time."""
    begun = time.monotonic()
    while len(list(folder.glob("checkpoints/0*"))) < count:
        assert time.monotonic() - begun < PATIENCE, "nothing is being learned"
        time.sleep(0.01)


def pid_of(rank: int, agent: int) -> int:
    """Return the process id of a rank that torchrun has started."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    pytest.fail(f"torchrun has no rank {rank}")


def last_line(errors: str) -> str:
    """Return the last line of a traceback, without the rank that torch puts before it."""
    return errors.strip().splitlines()[-1].split("]: ", 1)[-1]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an uninterrupted run of one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(folder, *long(), checkpoint_every=1000)
    torch.set_num_threads(threads)
    return contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 5])  # 5 ranks for 3 groups
def test_any_number_of_ranks_gives_the_same_bits(processes: int, tmp_path: Path, long_run: dict[str, bytes]) -> None:
    with torchrun(tmp_path / "run", processes) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "run") == long_run
    # Rank 0 has nothing left to learn. It must not exit before the other ranks have read its answer.
    (tmp_path / "run" / "index.csv").unlink()
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
def test_a_rank_that_loses_another_finishes_the_run(lost: int, tmp_path: Path, long_run: dict[str, bytes]) -> None:
    with by_hand(tmp_path / "run") as processes:
        wait_for_checkpoints(tmp_path / "run", 2)
        processes[lost].kill()
        _, errors = processes[1 - lost].communicate(timeout=PATIENCE)
    assert processes[1 - lost].returncode == 0, errors
    assert contents(tmp_path / "run") == long_run


@pytest.mark.slow
def test_overwriting_with_two_ranks_learns_all_anew(tmp_path: Path, long_run: dict[str, bytes]) -> None:
    """This is true even if the existing run is the same: no rank uses old files before rank 0 has started."""
    run(tmp_path / "run", *long())
    before = (tmp_path / "run" / "index.csv").stat().st_mtime_ns
    with by_hand(tmp_path / "run", "overwrite") as processes:
        wait_for_checkpoints(tmp_path / "run", 2)
        errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert (tmp_path / "run" / "index.csv").stat().st_mtime_ns > before
    assert contents(tmp_path / "run") == long_run


@pytest.mark.slow
def test_what_rank_0_refuses_ends_all(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with by_hand(tmp_path / "run") as processes:
        errors = [last_line(process.communicate(timeout=PATIENCE)[1]) for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for error in errors:
        assert error.startswith(
            f"fractalops.errors.InputError: cannot write to {tmp_path / 'run'}: it already contains files; "
        )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_ctrl_c_on_torchrun_keeps_every_step(tmp_path: Path, long_run: dict[str, bytes]) -> None:
    with torchrun(tmp_path / "run", every=1000) as process:
        begun = time.monotonic()
        while not (tmp_path / "run" / "checkpoints").is_dir() and time.monotonic() - begun < PATIENCE:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, errors
    assert len(list(tmp_path.glob("run/checkpoints/0*"))) == 2
    run(tmp_path / "run", *long())
    assert contents(tmp_path / "run") == long_run


def test_a_process_alone_is_all_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variables in ({}, {"RANK": "0", "WORLD_SIZE": "1"}):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        alone = ranks.find_ranks("cpu")
        assert (alone.rank, alone.size, alone.device) == (0, 1, torch.device("cpu"))
        alone.meet(tmp_path)
        assert ranks.is_leader()
    monkeypatch.setenv("RANK", "1")
    assert not ranks.is_leader()


def meet(rank: int, folder: Path, failure: str = "") -> Future[None]:
    """Start one of two ranks as a thread that waits for the other."""
    done: Future[None] = Future()

    def work() -> None:
        try:
            done.set_result(ranks.Ranks(torch.device("cpu"), rank, 2).meet(folder, failure))
        except RankError as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done


@pytest.mark.parametrize("first", [0, 1])
def test_ranks_meet_whoever_comes_first(first: int, tmp_path: Path) -> None:
    early = meet(first, tmp_path)
    time.sleep(0.3)
    assert not early.done()
    meet(1 - first, tmp_path).result(60)
    early.result(60)
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_run_left_is_no_answer(tmp_path: Path) -> None:
    """If rank 0 removes a rank's request when it starts, the rank writes it again."""
    (tmp_path / ".fractalops-rank-0-0123456789abcdef").touch()
    waiting = meet(1, tmp_path)
    time.sleep(0.3)
    RunFolder(tmp_path, [], manifest="run.json").begin({"format": "fractalops.run.1"})
    time.sleep(0.3)
    assert not waiting.done()
    (question,) = tmp_path.glob(".fractalops-rank-*")
    assert question.name.startswith(".fractalops-rank-1-")
    meet(0, tmp_path).result(60)
    waiting.result(60)


def test_a_rank_0_that_failed_says_so(tmp_path: Path) -> None:
    waiting = meet(1, tmp_path)
    meet(0, tmp_path, "there is no room").result(60)
    with pytest.raises(RankError, match=r"^rank 0 failed: there is no room$"):
        waiting.result(60)


def test_a_rank_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_PATIENCE", 0.3)
    with pytest.raises(RankError, match=r"^rank 1 did not start within "):
        meet(0, tmp_path).result(60)
    with pytest.raises(RankError, match=r"^rank 0 did not start the run within "):
        meet(1, tmp_path).result(60)
    assert not list(tmp_path.iterdir())


def test_a_rank_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RankError, match=r"^rank 3 must have its own GPU, got 1 GPU\(s\)$"):
        ranks.find_ranks("cuda")


def test_a_gpu_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^cannot run on cuda: torch finds no GPU$"):
        ranks.find_ranks("cuda")


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 4),  # torchrun's default
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
