"""A step of `fit` captured in a CUDA graph: some hundred small kernels, launched as one.

Launched one by one they take the host longer than the GPU needs for them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

CudaGraph = Literal["auto"] | bool
# What a learning rate makes of one step: the losses (S,). A captured step takes the rate from a tensor () on the GPU.
Step = Callable[["float | Tensor"], Tensor]

# The first steps are run as they are: they compile and load kernels, and choose workspaces, which no capture can do.
_WARM_UP = 3
_logger = logging.getLogger("fractalops")


class Recorder(Protocol):
    """The recorder that warms a step up and captures it."""

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Run a step, and return its losses."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Capture a step, without running it; what comes back runs it, and returns its losses."""


class CudaRecorder:
    """Capture by `torch.cuda.CUDAGraph`, on a stream of its own."""

    def __init__(self, device: torch.device, generators: list[torch.Generator]) -> None:
        self._stream = torch.cuda.Stream(device)
        self._generators = generators

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Run a step on the stream of the capture."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = run()
        current.wait_stream(self._stream)
        return losses

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Capture a step; return a function that replays it."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            losses = run()

        def replay() -> Tensor:
            graph.replay()
            return losses.clone()  # the next replay writes into the same memory

        return replay


class StepGraph:
    """Runs a step: a few times as it is, then captures it, and from then on replays it.

    A step that can't be captured goes on as it is, with a warning that says why.
    """

    def __init__(self, step: Step, generators: list[torch.Generator], device: torch.device, recorder: Recorder) -> None:
        self._step = step
        self._generators = generators
        self._rate = torch.zeros((), dtype=torch.float32, device=device)
        self._recorder = recorder
        self._runs = 0
        self._replay: Callable[[], Tensor] | None = None

    def _run(self) -> Tensor:
        return self._step(self._rate)

    def __call__(self, rate: float) -> Tensor:
        """Run a step at this learning rate, and return its losses (S,)."""
        self._rate.fill_(rate)
        self._runs += 1
        if self._runs == _WARM_UP + 1:
            self._replay = self._capture()
        if self._replay is not None:
            return self._replay()
        return self._recorder.warm_up(self._run)

    def _capture(self) -> Callable[[], Tensor] | None:
        states = [generator.get_state() for generator in self._generators]
        try:
            return self._recorder.record(self._run)
        except RuntimeError as error:
            # A broken capture leaves its generators in it: new ones go on where they were.
            for place, (generator, state) in enumerate(zip(self._generators, states, strict=True)):
                self._generators[place] = torch.Generator(generator.device)
                self._generators[place].set_state(state)
            reason = str(error).splitlines()[0]
            warnings.warn(f"fit: the step is not captured in a CUDA graph: {reason}", stacklevel=2)
            return None


def check_cuda_graph(cuda_graph: CudaGraph, device: torch.device) -> None:
    """Raise `ValueError` for another value than "auto", True or False, and for True where there is no such graph."""
    if not (cuda_graph == "auto" or isinstance(cuda_graph, bool)):
        raise ValueError(f"fit: cuda_graph must be 'auto', True or False, got {cuda_graph!r}")
    if cuda_graph is True and device.type != "cuda":
        raise ValueError(f"fit: cuda_graph must be 'auto' or False for targets on {device.type}, got True")


def run_as_graph(
    step: Step, generators: list[torch.Generator], device: torch.device, cuda_graph: CudaGraph, plugged_in: bool
) -> Callable[[float], Tensor]:
    """Return `step` as a graph where that is wanted and the device has graphs, else as it is, with a record in the log.

    "auto" leaves a step with a plugged-in loss as it is: Python code in it would run for the capture only.
    """
    if cuda_graph == "auto" and device.type != "cuda":
        _logger.info("fit: no CUDA graph: the targets are on %s; steps are launched one by one", device.type)
    elif cuda_graph == "auto" and plugged_in:
        _logger.info("fit: no CUDA graph: the loss is plugged in; cuda_graph=True captures it too")
    elif cuda_graph:
        return StepGraph(step, generators, device, CudaRecorder(device, generators))
    return step
