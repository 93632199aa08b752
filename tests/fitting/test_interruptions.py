"""Tests that an interruption of `fractalops.fit_dataset` at any moment changes no bit of the result."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import InputError
from fractalops.fitting import learning, run_folder
from fractalops.fitting.native_steps import NativeSteps
from tests.support.learning import Interruption, assert_same_result, at_call, finish, tiny
from tests.support.runs import SYSTEM, Stop, contents, interrupt, long, pictures, run, start
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread", "one_step_a_call")

VARIANTS: list[dict[str, Any]] = [
    {},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0},
    {"objective": "fixed"},
    {"parametrization": "matrix"},
    {"singular_values": "clamp", "viewport": "stretch"},
    {"probabilities": "determinant"},
    {"initialization": "random"},
    {"schedule": "halving"},
    {"sampling": "independent"},
    {"color": True},
    {"color": True, "objective": "fixed", "optimizer": "sgd", "parametrization": "matrix"},
    {"noise": 0.0, "gradient_clip": None, "snapshots": 0},
    {"offset_rate": 0.3},
    {"blend": "mean", "split_every": 2, "initialization": "tiles"},
    {"blend": "mean", "split_every": 1, "color": True, "offset_rate": 0.3, "optimizer": "sgd"},
    {"blend": "mean", "split_every": 3, "parametrization": "matrix", "probabilities": "determinant"},
]


@pytest.mark.parametrize("step", [1, 4, 10])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_batch_goes_on_with_the_same_bits(changes: dict[str, Any], step: int) -> None:
    config = tiny(**({"noise": 0.1, "noise_every": 2, "snapshots": 4} | changes))
    source = pictures(3, color=config.color)
    targets = torch.stack([source[image] for image in range(3)])  # (3, ...)
    expected = fractalops.fit(targets, config)
    batch = learning.Batch.start(targets, config, range(3))
    steps = learning.run_steps(batch, config, None, False)
    for _ in range(step):
        next(steps)
    state = batch.state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    for _ in steps:  # later steps of the batch do not change the state
        pass
    for name, tensor in state.items():
        assert_same_bits(tensor, kept[name])
    restored = learning.Batch.restore(targets, config, state)
    assert restored.step == step
    assert_same_result(finish(restored, config), expected)
    for name, tensor in state.items():
        assert_same_bits(tensor, kept[name])


MOMENTS: dict[str, tuple[Any, str, bool, list[int]]] = {
    "before a step": (NativeSteps, "__call__", False, [1, 2, 7, 10, 11, 25, 30]),
    "between a step and its record": (NativeSteps, "__call__", True, [4, 20]),
    "adding noise": (learning, "_add_noise", True, [1, 3]),
    "evaluating": (learning, "_evaluate", False, [1, 3]),
    "evaluated": (learning, "_evaluate", True, [2]),
    "making folders": (Path, "mkdir", False, [1, 2, 3, 4]),
    "writing a file": (run_folder, "write_tensors", False, [1, 5, 11, 12, 33]),
    "a file is written": (run_folder, "write_tensors", True, [1, 5, 11, 12, 33]),
    "putting a file in its place": (os, "replace", False, [1, 2, 3, 13, 14, 15, 38, 39, 40]),
    "a file is in its place": (os, "replace", True, [1, 2, 3, 13, 14, 15, 38, 39, 40]),
}


@pytest.mark.parametrize(
    ("moment", "number"), [(name, number) for name in MOMENTS for number in MOMENTS[name][3]], ids=str
)
def test_an_interruption_at_any_moment_changes_no_bit(
    moment: str, number: int, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, after, _ = MOMENTS[moment]
    with monkeypatch.context() as patched:
        patched.setattr(place, name, at_call(number, getattr(place, name), Stop(), after=after))
        with pytest.raises(Stop):
            run(tmp_path / "run")
    run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_run_interrupted_again_and_again_changes_no_bit(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for _ in range(40):
        with monkeypatch.context() as patched:
            interruption = Interruption(1, Stop()).install(patched)
            try:
                run(tmp_path / "run")
                break
            except Stop:
                steps += len(interruption.rates)
    assert steps == 29  # of 30: each start took one step, and none was lost
    assert contents(tmp_path / "run") == whole


def test_what_was_learned_since_the_last_checkpoint_is_learned_again(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "run", monkeypatch, step=17, checkpoint_every=1000)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    again = Interruption(-1).install(monkeypatch)
    run(tmp_path / "run", checkpoint_every=1000)
    assert len(again.rates) == 20  # the first batch is already learned
    assert contents(tmp_path / "run") == whole


@pytest.mark.parametrize(("number", "count"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_ctrl_c_ends_the_step_and_keeps_it(
    number: int, count: int, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    take = NativeSteps.__call__
    steps = 0

    def interrupted(*arguments: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 14:
            for _ in range(count):
                signal.raise_signal(number)
        return take(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(NativeSteps, "__call__", interrupted)
        partial = run(tmp_path / "run", checkpoint_every=1000)
    assert partial.interrupted
    assert (partial.signal, partial.folder) == (number, tmp_path / "run")
    assert repr(partial) == f"FitRun('{tmp_path / 'run'}', interrupted)"
    assert partial  # although it has no rows yet
    with pytest.raises(InputError, match=r"index.csv: the run is not finished; "):
        _ = partial.rows
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    checkpoint = tmp_path / "run" / "checkpoints" / "00001.safetensors"
    assert checkpoint.exists() == (count == 1)  # the second signal ends the run immediately
    again = Interruption(-1).install(monkeypatch)
    run(tmp_path / "run")
    assert len(again.rates) == (16 if count == 1 else 20)
    assert contents(tmp_path / "run") == whole


def test_what_a_killed_write_has_left_is_removed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    names = (
        "systems/.fractalops-abcd1234-00000.safetensors",
        "checkpoints/.fractalops-abcd1234-00002.safetensors",
        ".fractalops-abcd1234-run.json",
        ".fractalops-abcd1234-index.csv",
    )
    mine = dict.fromkeys((".index.my-notes.csv", "systems/.00000.mine2026.safetensors", "systems/.tmpAbC123"), b"half")
    run(tmp_path / "run")
    (tmp_path / "run" / SYSTEM).unlink()
    for name in (*names, *mine):
        (tmp_path / "run" / name).write_text("half")
    run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole | mine


def learned_so_far(folder: Path) -> dict[Path, int]:
    """Return the files of learned and unfinished batches, with the times when they were written."""
    found = {}
    for path in folder.glob("*/0*.safetensors"):
        with suppress(FileNotFoundError):  # a checkpoint is deleted when its batch is learned
            found[path] = path.stat().st_mtime_ns
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "seed"), [(2, 0), (12, 1)])
def test_a_run_that_is_killed_at_random_times_ends_with_the_same_bits(kills: int, seed: int, tmp_path: Path) -> None:
    moments, folder = random.Random(seed), tmp_path / "killed"
    for number in range(kills):
        before = learned_so_far(folder)
        with start(folder) as process:
            if number % 4 == 3:  # at any time, also while torch is imported or the run is prepared
                time.sleep(moments.uniform(0, 3))
            else:  # after it has learned something
                while learned_so_far(folder) == before and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(moments.uniform(0, 0.1))
            process.kill()
        assert number > 1 or not (folder / "index.csv").exists()  # at least the first kills are during the run
    with start(folder) as process:
        assert process.wait(240) == 0
    run(tmp_path / "whole", *long(), checkpoint_every=1000)
    assert contents(folder) == contents(tmp_path / "whole")
