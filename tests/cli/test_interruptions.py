"""Tests of signals that end a command (Ctrl-C, SIGTERM), of killed commands, and of closed standard streams."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from fractalops import FitResult, affine_chain
from fractalops.fitting import PointFitResult
from fractalops.fitting.native_steps import NativeSteps
from fractalops.interruptions import SIGNALS, Interrupted, Signals, end_as_worker
from fractalops.io import read_systems
from fractalops.io.point_clouds import save_point_cloud
from tests.support.command_line import ENVIRONMENT, QUICK, draw, refusal, run
from tests.support.requirements import ROOT

pytestmark = [
    pytest.mark.usefixtures("small_pictures", "one_thread", "one_step_a_call"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
]

each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


def sending(number: int, function: Callable[..., Any], *at: int) -> Callable[..., Any]:
    """Return `function` wrapped so that it raises signal `number` before the calls `at`, counted from 1."""
    calls = itertools.count(1)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(calls) in at:
            signal.raise_signal(number)
        return function(*arguments, **options)

    return wrapped


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@each_signal
def test_pictures_end_with_what_was_learned(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(NativeSteps, "__call__", sending(number, NativeSteps.__call__, 3))
    before = handlers()
    picture, folder = draw(tmp_path / "disc.png"), tmp_path / "out" / "disc"
    line = refusal(capsys, "fit", picture, "-o", tmp_path / "out", "--quiet", *QUICK, code=128 + number)
    assert line == f"interrupted; the system after 2 of 3 steps is saved in {folder}"
    assert FitResult.load(folder / "system.safetensors").steps == [2]
    assert json.loads((folder / "fit.json").read_text())["interrupted"]
    assert handlers() == before


@each_signal
def test_a_cloud_ends_with_what_was_learned(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fractalops.fitting.points.affine_chain", sending(number, affine_chain, 3))
    save_point_cloud(torch.rand(20, 2, generator=torch.Generator().manual_seed(0)), tmp_path / "cloud.npy")
    command = ["fit-points", tmp_path / "cloud.npy", "-o", tmp_path, "--quiet", "--no-animation"]
    line = refusal(capsys, *command, "--steps", 4, "--points", 20, "--maps", 2, code=128 + number)
    assert line == f"interrupted; the system after 2 of 4 steps is saved in {tmp_path / 'cloud'}"
    assert len(PointFitResult.load(tmp_path / "cloud" / "system.safetensors").losses) == 2


@each_signal
def test_a_second_signal_ends_the_drawing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(NativeSteps, "__call__", sending(number, NativeSteps.__call__, 3))
    monkeypatch.setattr(FitResult, "draw", sending(number, FitResult.draw, 1))
    picture, folder = draw(tmp_path / "disc.png"), tmp_path / "out" / "disc"
    assert run("fit", picture, "-o", tmp_path / "out", "--quiet", *QUICK) == 128 + number
    missing = f"the learned systems are saved, but drawings are missing in {folder}"
    assert capsys.readouterr() == ("", f"fractalops fit: {missing}\nfractalops fit: interrupted\n")
    assert FitResult.load(folder / "system.safetensors").steps == [2]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@each_signal
def test_other_commands_end_in_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fractalops.cli.random.IFS", sending(number, Mock(), 1))
    assert refusal(capsys, "random", "-o", tmp_path / "a.png", code=128 + number) == "interrupted"


@each_signal
def test_a_signal_before_and_after_a_command_ends_silently(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("fractalops.cli.Parser", sending(number, Mock(), 1))
        assert run("info") == 128 + number
    monkeypatch.setattr("fractalops.cli.info.run", sending(number, Mock(), 1))
    monkeypatch.setattr("fractalops.cli._fail", sending(number, Mock(), 1))  # a second signal, during the report
    assert run("info") == 128 + number
    assert capsys.readouterr() == ("", "")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.caught is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_first_signals_can_be_noted_alone() -> None:
    with Signals(noted=2) as signals:
        signals.obey()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert signals.caught == signal.SIGINT
        with pytest.raises(Interrupted):
            signals.wait(0)
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.number == signal.SIGTERM


@each_signal
def test_workers_end_in_silence(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    if (worker := os.fork()) == 0:
        end_as_worker(0)
        signal.raise_signal(number)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def slow_torch(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a fake torch whose import raises the signal NUMBER and then takes a minute."""
    text = "import os, signal, time\nos.kill(os.getpid(), int(os.environ['NUMBER']))\ntime.sleep(60)\n"
    (tmp_path / "torch.py").write_text(text)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


@each_signal
@pytest.mark.parametrize("way", ["fractalops", "-m", "-mfractalops"])
def test_a_signal_while_torch_is_imported_ends_silently(
    way: str, number: int, slow_torch: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "fractalops"  # the script that pip would install
    script.write_text("import sys\nfrom fractalops.cli import main\nsys.exit(main())\n")
    command = {"fractalops": [str(script)], "-m": ["-u", "-m", "fractalops"], "-mfractalops": ["-mfractalops"]}[way]
    environment = slow_torch | {"NUMBER": str(int(number))}
    done = subprocess.run(
        [sys.executable, *command, "info"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_other_programs_get_their_ctrl_c(slow_torch: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text("try:\n    import fractalops\nexcept KeyboardInterrupt:\n    print('caught')\n")
    environment = slow_torch | {"NUMBER": str(int(signal.SIGINT))}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "caught\n"


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_commands_do_without_each_stream(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    monkeypatch.chdir(tmp_path)
    picture = draw(tmp_path / "disc.png")
    assert run("fit", picture, "-o", tmp_path / "out", "--no-animation", *QUICK) == 0
    assert run("render", tmp_path / "missing.ifs") == 2
    assert run("random", "--size", 8, "--points", 10) == 0


def test_files_never_take_the_place_of_closed_streams(tmp_path: Path) -> None:
    """If an output file got the descriptor of a closed stream, printed text would be written to it."""
    draw(tmp_path / "disc.png")
    command = ["-m", "fractalops", "fit", "disc.png", "-o", "out", "--no-animation", *QUICK]
    shell = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']
    done = subprocess.run([*shell, sys.executable, *command], cwd=tmp_path, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0
    assert FitResult.load(tmp_path / "out" / "disc" / "system.safetensors").steps == [3]
    names = [path.name for path in (tmp_path / "out" / "disc").iterdir()]
    assert "fit.json" in names
    assert not [name for name in names if name.startswith(".")]


def kill_at_rename(number: int, *command: object) -> None:
    """Run a command in a child process that exits in place of rename `number`, counted from 1."""
    calls = itertools.count(1)
    rename = os.replace

    def die(*paths: Any) -> None:
        if next(calls) == number:
            os._exit(0)
        rename(*paths)

    if (child := os.fork()) == 0:
        try:
            os.replace = die  # type: ignore[assignment]
            run(*command)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("number", range(1, 7))
def test_what_a_killed_command_left_of_a_picture_blocks_no_other(number: int, tmp_path: Path) -> None:
    command = ["fit", draw(tmp_path / "disc.png"), "-o", tmp_path, "--quiet", "--no-animation", *QUICK]
    kill_at_rename(number, *command)
    folder = tmp_path / "disc"
    assert any(path.name.startswith(".fractalops-") for path in folder.iterdir())
    learned = (folder / "system.safetensors").exists()
    assert learned == (number > 2)  # the manifest is renamed first, then the system
    assert run(*command, *(["--overwrite"] if learned else [])) == 0
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", [2, 4])
def test_files_of_the_user_beside_what_a_killed_command_left_stay(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is killed before it writes the system (2), or the first picture that its report lists (4)."""
    save_point_cloud(torch.rand(20, 2, generator=torch.Generator().manual_seed(0)), tmp_path / "cloud.npy")
    command = ["fit-points", tmp_path / "cloud.npy", "-o", tmp_path, "--quiet", "--no-animation"]
    command += ["--steps", 2, "--points", 20, "--maps", 2]
    kill_at_rename(number, *command)
    mine = tmp_path / "cloud" / "views.png"
    mine.write_text("mine")
    expected = f"cannot write to {tmp_path / 'cloud'}: its views.png was not written by a run; use another folder"
    assert refusal(capsys, *command, "--overwrite") == expected
    assert refusal(capsys, *command).startswith(f"cannot write to {tmp_path / 'cloud'}: ")
    assert mine.read_text() == "mine"


def test_what_a_killed_conversion_left_blocks_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.ifs").write_text("a { .5 0 0 .5 0 0 .5  .5 0 0 .5 .5 0 .5 }\nb { .5 0 0 .5 0 0 .5  .5 0 0 .5 .5 0 .5 }\n")
    for number in (1, 2):
        kill_at_rename(number, "convert", "a.ifs", "out", *(["--overwrite"] if number == 2 else []))
    Path("out", "a.csv").unlink()
    assert len(list(Path("out").iterdir())) == 2
    assert run("convert", "a.ifs", "out") == 0
    assert list(read_systems("out")) == ["a", "b"]
