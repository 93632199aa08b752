"""A step of `fit` as a CUDA graph, which launches several hundred small kernels with one call.

Launching them one by one takes the host longer than they take on the GPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

CudaGraph = Literal["auto"] | bool
# A function that takes one step at a learning rate and returns its losses (S,). A captured step reads the rate from a
# tensor () on the GPU.
Step = Callable[["float | Tensor"], Tensor]

# The first steps run normally: they compile and load kernels and choose workspaces, which is not possible during a
# capture.
_WARM_UP = 3
_logger = logging.getLogger("fractalops")


class Recorder(Protocol):
    """An object that warms up a step and captures it."""

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Run a step, and return its losses."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Capture a step without running it. Return a function that runs it and returns its losses."""


class CudaRecorder:
    """A recorder that captures with `torch.cuda.CUDAGraph` on its own stream."""

    def __init__(self, device: torch.device, generators: list[torch.Generator]) -> None:
        self._stream = torch.cuda.Stream(device)
        self._generators = generators

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Run a step on the stream of the capture, and return its losses."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = run()
        current.wait_stream(self._stream)
        return losses

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Capture a step. Return a function that replays it and returns its losses."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            losses = run()

        def replay() -> Tensor:
            graph.replay()
            return losses.clone()  # the next replay writes to the same memory

        return replay


class StepGraph:
    """A function that runs the first steps normally, then captures a step, and replays it from then on.

    If the step can't be captured, it warns with the reason, and runs all steps normally.
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
        """Run one step at this learning rate, and return its losses (S,)."""
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
            # After a failed capture, its generators can't be used. New generators continue with the same states.
            for place, (generator, state) in enumerate(zip(self._generators, states, strict=True)):
                self._generators[place] = torch.Generator(generator.device)
                self._generators[place].set_state(state)
            reason = str(error).splitlines()[0]
            warnings.warn(f"fit: the step is not captured in a CUDA graph: {reason}", stacklevel=2)
            return None


def check_cuda_graph(cuda_graph: CudaGraph, device: torch.device) -> None:
    """Check the argument `cuda_graph` of `fit`.

    Raises:
        ValueError: If it is not "auto", True or False, or if it is True and the device has no CUDA graphs.
    """
    if not (cuda_graph == "auto" or isinstance(cuda_graph, bool)):
        raise ValueError(f"fit: cuda_graph must be 'auto', True or False, got {cuda_graph!r}")
    if cuda_graph is True and device.type != "cuda":
        raise ValueError(f"fit: cuda_graph must be 'auto' or False for targets on {device.type}, got True")


def run_as_graph(
    step: Step, generators: list[torch.Generator], device: torch.device, cuda_graph: CudaGraph, plugged_in: bool
) -> Callable[[float], Tensor]:
    """Return a function that runs `step`, in a CUDA graph if `cuda_graph` and the device allow it.

    The log says why no graph is used.

    "auto" uses no graph for a step with a custom loss, because Python code in the loss would run only during the
    capture.

    Args:
        step: The step.
        generators: Generators of the step. They are replaced in this list if the capture fails.
        device: The device of the targets.
        cuda_graph: See `fit`.
        plugged_in: Whether the step has a custom loss.
    """
    if cuda_graph == "auto" and device.type != "cuda":
        _logger.info("fit: no CUDA graph: the targets are on %s", device.type)
    elif cuda_graph == "auto" and plugged_in:
        _logger.info("fit: no CUDA graph: a custom loss is used; cuda_graph=True captures it")
    elif cuda_graph:
        return StepGraph(step, generators, device, CudaRecorder(device, generators))
    return step
