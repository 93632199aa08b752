"""Tests of the lock of a folder, and of the package without functions that only Linux has."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from fractalops import InputError
from fractalops.io.files import HELD, LOCK, claimed, locked_folder
from fractalops.io.notices import collect_notices
from fractalops.io.run_folder import RunFolder
from tests.support.requirements import ROOT


def test_a_second_run_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "run"), pytest.raises(InputError, match=r"^cannot write to .*: another run is "):  # noqa: SIM117
        with locked_folder(tmp_path / "run"):
            pass
    with locked_folder(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())  # nothing was written
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with (
            pytest.raises(InputError, match=r"^cannot write to .*: (it|.*/file) is not a folder$"),
            locked_folder(place),
        ):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
def test_a_lock_ends_with_its_run(tmp_path: Path) -> None:
    """The lock is released even if a forked process still has its file open."""
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with locked_folder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("failure", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()], ids=str)
def test_without_locks_a_file_stands_for_one_and_a_notice_says_so(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lock: FileLock, *arguments: object, **options: object) -> None:
        Path(lock.lock_file).touch()
        raise failure

    monkeypatch.setattr(FileLock, "acquire", fail)
    folder = tmp_path / "run"
    run = RunFolder(folder, ("parts/*",), manifest="run.json", locks=("parts/*.lock",))
    with collect_notices() as notices, run.lock():
        run.begin({"format": "run.1"})
        held = folder / f"{LOCK}{HELD}"
        for _ in range(2):
            with (
                pytest.raises(
                    InputError, match=rf"another run is writing to it; if that run was killed, remove {held}$"
                ),
                run.lock(),
            ):
                pass
        with claimed(folder / "one.lock") as ours, claimed(folder / "one.lock") as again:
            assert (ours, again) == (True, False)
        run.abandon()
    assert notices[str(folder)][0].startswith("the file system has no locks: ")
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from fractalops.io.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another run"), locked_folder(tmp_path):
            pass
        holder.kill()
        holder.wait()
    assert (tmp_path / LOCK).exists()
    deadline = time.monotonic() + 10
    while True:  # the kernel releases it while the process ends
        try:
            with locked_folder(tmp_path):
                break
        except InputError:
            assert time.monotonic() < deadline
    assert not (tmp_path / LOCK).exists()


def test_the_package_does_without_what_only_linux_has(tmp_path: Path) -> None:
    """All modules are imported and a run locks its folder without fcntl (Windows) and sched_getaffinity (macOS)."""
    code = """
import importlib, os, pkgutil, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "fcntl":
            raise ImportError("there is no fcntl here")

sys.modules.pop("fcntl", None)
sys.meta_path.insert(0, Refuse())
del os.sched_getaffinity
import fractalops
for module in pkgutil.walk_packages(fractalops.__path__, "fractalops."):
    # Its own command (__main__), native libraries, and what needs extras: kernels (Triton) and the benchmark.
    if not module.name.startswith(("fractalops.__main__", "fractalops._", "fractalops.kernels", "fractalops.bench")):
        importlib.import_module(module.name)
import torch
from fractalops.fitting import FitConfig, fit_dataset, ranks
os.environ["LOCAL_WORLD_SIZE"] = "2"
ranks._share_cores()
config = FitConfig(maps=2, points=5, sequences=2, steps=1, evaluation_sequences=2)
for _ in range(2):
    fit_dataset(torch.ones(1, 4, 4), Path(sys.argv[1]), config, device="cpu")
print("fcntl" in sys.modules, sorted(path.name for path in Path(sys.argv[1]).iterdir() if path.is_file()))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False ['contact.png', 'index.csv', 'run.json']\n"


def test_a_lock_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with (
        pytest.raises(InputError, match=rf"^cannot write to {tmp_path}: {LOCK} can't be locked \(Is a directory\)$"),
        locked_folder(tmp_path),
    ):
        pass
