"""Tests that named pipes are refused as inputs: opening one for reading would block forever."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from fractalops import FitResult, FitRun, InputError
from fractalops.data.targets import open_targets
from fractalops.fitting import PointFitResult
from fractalops.io import read_systems
from fractalops.io.point_clouds import read_point_cloud
from tests.support.command_line import QUICK, draw, refusal
from tests.support.runs import SYSTEM, run

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")

SECONDS = 60  # after which a test is assumed to be blocked by a pipe


@pytest.fixture(autouse=True)
def in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in its own folder, and let it fail if it blocks on a pipe."""
    monkeypatch.chdir(tmp_path)

    def fail(number: int, frame: FrameType | None) -> None:
        pytest.fail("it waits for what comes through a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


COMMANDS = {  # the pipe: the command that reads it
    **{name: f"fit {name}" for name in ("a.png", "a.tif", "a", "a.npy", "a.npz", "a.safetensors", "a-idx3-ubyte.gz")},
    **{f"b{suffix}": f"fit-points b{suffix}" for suffix in (".npy", ".npz", ".ply", ".xyz")},
    **{f"c{suffix}": f"render c{suffix}" for suffix in (".ifs", ".flame", ".csv", ".npy", ".npz", ".json")},
    "c.safetensors": "render c.safetensors",
    "folder/c.csv": "render folder",
    "d.ifs": "view d.ifs",
    "e.ifs": "convert e.ifs e.csv",
    "f.ifs": "morph f.ifs f.ifs",
    "g.json": "bench --compare g.json",
}


@pytest.mark.parametrize("pipe", COMMANDS)
def test_a_pipe_is_refused_by_each_command(pipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(pipe).parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    line = refusal(capsys, *COMMANDS[pipe].split())
    assert line.partition(" (")[0] == f"cannot read {pipe}: it is not a file"
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [tmp_path / pipe]


def test_a_pipe_in_a_folder_of_pictures_is_a_bad_picture(capsys: pytest.CaptureFixture[str]) -> None:
    draw(Path("folder", "0.png"))
    os.mkfifo("folder/1.png")
    expected = "cannot use 1 of 2 images; --skip-bad leaves them out: cannot read folder/1.png: it is not a file"
    assert refusal(capsys, "fit", "folder", "--quiet", *QUICK) == expected


@pytest.mark.parametrize(
    "read", [FitResult.load, PointFitResult.load, read_systems, read_point_cloud, open_targets],
    ids=lambda read: read.__qualname__,
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.safetensors", "a.npy"])
def test_a_pipe_is_refused_by_each_function(read: Callable[[Path], object], name: str) -> None:
    os.mkfifo(name)
    with pytest.raises(InputError, match=name):
        read(Path(name))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def replace_by_pipe(whole_run: Path, name: str) -> Path:
    """Return a copy of a run's folder in which a pipe replaces one file."""
    shutil.copytree(whole_run, "run")
    Path("run", name).unlink()
    os.mkfifo(Path("run", name))
    return Path("run")


@pytest.mark.parametrize("name", ["run.json", "index.csv", SYSTEM])
def test_a_pipe_in_the_folder_of_a_run_is_refused(name: str, whole_run: Path) -> None:
    folder = replace_by_pipe(whole_run, name)
    with pytest.raises(InputError, match=f"cannot read run/{name}: it is not a file"):
        next(FitRun.load(folder).results())


def test_a_pipe_for_the_seconds_of_a_batch_counts_as_none(whole_run: Path) -> None:
    folder = replace_by_pipe(whole_run, "seconds/00000.txt")
    (folder / "index.csv").unlink()
    run(folder)
    assert [math.isnan(row.seconds) for row in FitRun.load(folder).rows] == [True, True, False, False, False]
