"""The native loop of `fit`: many steps in one call, for all images of a batch.

The loop of tensor operations in `learning` defines its results. Tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from fractalops.backends import choose, list_backends
from fractalops.fitting.config import FitConfig
from fractalops.fitting.optimizers import Optimizer
from fractalops.ifs import IFS
from fractalops.ops.learn_steps import run_learn_steps
from fractalops.sampling import draws_evenly, number_dtype

# Part of a run's identity. Increase it when a change of the loop, its kernels or the automatic settings changes the
# bits of results.
LOOP_VERSION = 3


def check_native(targets: Tensor, config: FitConfig, plugged_in: bool) -> str:
    """Return the reason why steps can't run natively for targets (S, ...), or an empty string if they can.

    Raises:
        BackendError: If the native backend is requested and can't run.
    """
    if plugged_in:
        return "a custom loss is used"
    if targets.device.type != "cpu":
        return f"the targets are on {targets.device.type}"
    if config.blend != "add":
        return f"the blend is {config.blend!r}"
    if config.offset_rate != 1:
        return "offsets have their own learning rate"
    if isinstance(config.viewport, str):
        return f"the viewport is {config.viewport!r}"
    if 1 in targets.shape[-2:]:
        return "the targets have a side of one pixel"
    return "" if choose("learn_steps", targets.device) == "native" else "the reference backend was chosen"


def describe_loop() -> str:
    """Return one line that says which loop `fit` uses on the CPU, and why."""
    status = next(row for row in list_backends() if (row.op, row.device) == ("learn_steps", "cpu"))
    if status.backend == "none":
        return f"fit on the CPU: can't run: {status.reason}"
    if status.backend != "native":
        return f"fit on the CPU: tensor operations: {status.reason}"
    others = 'a custom loss, the blend "mean", the viewports "stretch" and "fit", and targets with a side of one pixel'
    return f"fit on the CPU: native steps; tensor operations for {others}"


class NativeSteps:
    """A function that takes steps of the systems of a batch, modifies them, and returns the losses."""

    def __init__(
        self,
        targets: Tensor,
        system: IFS,
        optimizer: Optimizer,
        generators: Sequence[torch.Generator],
        index: Tensor | None,
        config: FitConfig,
    ) -> None:
        self._targets = targets if config.color else targets[:, None]  # (S, C, H, W)
        self._optimizer = optimizer
        self._generators = generators
        self._index = index  # (S, K, T)
        self._config = config
        workers = min(len(generators), torch.get_num_threads())
        self._map = ThreadPoolExecutor(workers).map if workers > 1 else map
        assert not isinstance(config.viewport, str), "check_native"
        self._settings = (
            config.maps,
            config.sequences,
            config.points,
            config.color,
            *config.viewport,
            config.bandwidth,
            config.cutoff or 0.0,
            system.probability_floor,
            math.inf if config.gradient_clip is None else config.gradient_clip,
            config.momentum,
            config.parametrization == "svd",
            config.singular_values == "clamp",
            config.probabilities == "learned",
            draws_evenly(config.sampling == "balanced", config.points),
            config.clamp,
        )

    def _draw(self, steps: int) -> Tensor:
        """Return random numbers (S, steps, K, T) for the steps. Each system uses its own generator.

        Threads draw for different generators at the same time. A generator itself is serial, and takes a tenth of the
        time of the steps.
        """
        config = self._config
        shape = (len(self._generators), steps, config.sequences, config.points)
        uniform = torch.empty(shape, dtype=number_dtype(config.maps), device="cpu")

        def fill(generator: torch.Generator, own: Tensor) -> None:
            torch.rand(own.shape, generator=generator, dtype=own.dtype, device="cpu", out=own)

        for _ in self._map(fill, self._generators, uniform):
            pass
        return uniform

    def __call__(self, rates: Sequence[float]) -> Tensor:
        """Take one step for each learning rate, and return the losses (steps, S)."""
        uniform = self._draw(len(rates)) if self._index is None else None
        rows = self._optimizer.rows()  # (S, P)
        first, second, taken = self._optimizer.moments()
        losses: Tensor = run_learn_steps(
            self._targets,
            rows,
            first,
            second,
            uniform,
            self._index,
            torch.tensor(rates, dtype=torch.float64, device="cpu"),
            taken,
            *self._settings,
        )
        self._optimizer.set_rows(rows)
        self._optimizer.count(len(rates))
        return losses
