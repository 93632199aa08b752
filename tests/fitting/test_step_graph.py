"""Tests of `fit(..., cuda_graph=)`: a captured step equals the plain step. Without a graph there is a notice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.fitting import learning, step_graph
from tests.support.learning import assert_same_result, targets, tiny
from tests.support.requirements import skip_or_fail

# A captured step takes the rate as a float32. This rate and its halves are exact in float32.
RATE = 2.0**-4


class Recorder:
    """A simulation of capture and replay on the CPU. As on a GPU, a capture runs nothing."""

    def __init__(self, failure: RuntimeError | None = None) -> None:
        self.failure = failure
        self.calls: list[str] = []
        self.generators: list[torch.Generator] = []

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        self.calls.append("warm-up")
        return run()

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.calls.append("capture")
        if self.failure is not None:
            for generator in self.generators:
                generator.manual_seed(99)  # a failed capture leaves useless states
            raise self.failure

        def replay() -> Tensor:
            self.calls.append("replay")
            return run().clone()

        return replay


def use(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_as_graph(
        step: step_graph.Step, generators: list[torch.Generator], device: torch.device, *rest: Any
    ) -> step_graph.StepGraph:
        recorder.generators = list(generators)
        return step_graph.StepGraph(step, generators, device, recorder)

    monkeypatch.setattr(learning, "run_as_graph", run_as_graph)


@pytest.fixture(autouse=True)
def tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the native loop, which has no steps to capture."""
    monkeypatch.setattr(learning, "check_native", lambda *arguments: "to be captured")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd"},
        {"objective": "fixed"},
        {"noise": 0.1, "noise_every": 2, "snapshots": 4},
        {"steps": 3},
        {"steps": 0},
    ],
    ids=str,
)
def test_a_captured_step_does_what_the_step_does(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(schedule="halving", learning_rate=RATE, **changes)
    expected = fractalops.fit(targets(), config, cuda_graph=False)
    recorder = Recorder()
    use(recorder, monkeypatch)
    assert_same_result(fractalops.fit(targets(), config), expected)
    replays = max(config.steps - 3, 0)
    assert recorder.calls == ["warm-up"] * (config.steps - replays) + ["capture"] * (replays > 0) + ["replay"] * replays


def test_a_step_that_can_not_be_captured_goes_on_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(schedule="halving", learning_rate=RATE)
    expected = fractalops.fit(targets(), config, cuda_graph=False)
    recorder = Recorder(RuntimeError("operation not permitted when stream is capturing\nand more"))
    use(recorder, monkeypatch)
    with pytest.warns(UserWarning, match=r"^fit: the step is not captured in a CUDA graph: operation not p\S+ when"):
        result = fractalops.fit(targets(), config)
    assert_same_result(result, expected)
    assert recorder.calls == ["warm-up"] * 3 + ["capture"] + ["warm-up"] * (config.steps - 3)


def test_on_the_cpu_a_notice_says_that_there_is_no_graph(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fractalops"):
        result = fractalops.fit(targets(), tiny())
    loop = "fit: steps use tensor operations: to be captured"
    assert caplog.messages == [loop, "fit: no CUDA graph: the targets are on cpu"]
    caplog.clear()
    with caplog.at_level(logging.INFO, "fractalops"):
        assert_same_result(fractalops.fit(targets(), tiny(), cuda_graph=False), result)
    assert caplog.messages == [loop]


def test_a_plugged_in_loss_is_left_as_it_is_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(step_graph, "CudaRecorder", lambda device, generators: Recorder())
    cuda = torch.device("cuda")

    step = Mock()
    monkeypatch.setattr(step_graph.StepGraph, "__init__", lambda *arguments: None)
    for plugged_in, cuda_graph in [(False, "auto"), (False, True), (True, True)]:
        run = step_graph.run_as_graph(step, [], cuda, cuda_graph, plugged_in)
        assert isinstance(run, step_graph.StepGraph)
    assert step_graph.run_as_graph(step, [], cuda, False, False) is step
    with caplog.at_level(logging.INFO, "fractalops"):
        assert step_graph.run_as_graph(step, [], cuda, "auto", True) is step
    assert caplog.messages == ["fit: no CUDA graph: a custom loss is used; cuda_graph=True captures it"]


@pytest.mark.parametrize("wrong", ["always", 1, None, True])
def test_what_can_not_be_is_refused(wrong: Any) -> None:
    choices = "'auto' or False for targets on cpu" if wrong is True else "'auto', True or False"
    with pytest.raises(ValueError, match=rf"^fit: cuda_graph must be {choices}, got {wrong!r}$"):
        fractalops.fit(targets(), tiny(), cuda_graph=wrong)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd"},
        {"objective": "fixed"},
        {"viewport": "stretch", "noise": 0.1, "noise_every": 2},
        {"color": True},
    ],
    ids=str,
)
def test_on_a_gpu_a_replay_does_what_the_step_does(changes: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")
    config = tiny(schedule="halving", learning_rate=RATE, **changes)
    pictures = targets().cuda()  # (S, H, W)
    if config.color:
        pictures = pictures[:, None].repeat(1, 3, 1, 1)  # (S, 3, H, W)
    expected = fractalops.fit(pictures, config, cuda_graph=False)
    assert_same_result(fractalops.fit(pictures, config), expected)
    assert_same_result(fractalops.fit(pictures, config, cuda_graph=True), expected)
    assert not [warning for warning in recwarn if "CUDA graph" in str(warning.message)]
