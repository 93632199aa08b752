"""Compare `fit` with steps as a CUDA graph and `fit` without graphs: `python -m bench.gpu.step_graphs`."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

import fractalops
from fractalops.fitting.learning import Batch, run_steps
from fractalops.fitting.step_graph import CudaGraph
from fractalops.fitting.targets import settings_for

from ..records import Record, run_all

IMAGES = (1, 16, 64)
SETTINGS = {"default": fractalops.FitConfig(), "paper": fractalops.FitConfig.paper()}
WARM_UP, TIMED = 50, 300  # steps
SIDE = 32  # pixels
RATE = 2.0**-4  # a captured step gets the rate as a float32, in which this rate and its halves are exact


def main() -> int:
    """Measure all settings on the GPU. Return 1 if a graph gives different bits or a step is not captured, else 0."""
    return run_all(
        {
            f"fit, {name} settings, {images} images": partial(compare, config, images, torch.device("cuda"))
            for name, config in SETTINGS.items()
            for images in IMAGES
        }
    )


def compare(
    config: fractalops.FitConfig, images: int, device: torch.device, warm_up: int = WARM_UP, timed: int = TIMED
) -> Record:
    """Return the microseconds of a step with and without a graph, and whether the losses are equal."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(images, SIDE, SIDE, generator=generator) > 0.7).float().to(device)  # (S, H, W)
    config = replace(config, steps=warm_up + timed, batch_size=images, maps=10, points=300)
    config = settings_for(targets, replace(config, learning_rate=RATE, schedule="halving"))
    choices: tuple[CudaGraph, ...] = ("auto", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (graph, losses), (eager, expected) = (measure(targets, config, choice, warm_up) for choice in choices)
    messages = sorted({str(warning.message) for warning in caught})
    same = torch.equal(losses, expected)
    return {
        "passed": same and not any("CUDA graph" in message for message in messages),
        "microseconds of a step as a graph": round(graph, 1),
        "microseconds of a step without": round(eager, 1),
        "ratio": round(eager / graph, 2),
        "same bits": same,
        "warnings": messages,
    }


def measure(
    targets: torch.Tensor, config: fractalops.FitConfig, cuda_graph: CudaGraph, warm_up: int
) -> tuple[float, torch.Tensor]:
    """Return the microseconds of a step and the losses, (steps, S)."""
    batch = Batch.start(targets, config, range(len(targets)))
    steps = run_steps(batch, config, None, cuda_graph)
    _advance(steps, batch, warm_up)
    before, began = batch.step, time.perf_counter()
    _advance(steps, batch, config.steps)
    return (time.perf_counter() - began) / (batch.step - before) * 1e6, batch.losses.cpu()


def _advance(steps: Iterator[torch.Tensor], batch: Batch, until: int) -> None:
    """Run steps until `until` steps are done, and wait for the device."""
    for _ in steps:
        if batch.step >= until:
            break
    if batch.targets.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
