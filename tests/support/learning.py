"""Shared parts of the tests of `fit`: small targets and settings that learn them in a tenth of a second."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops import FitConfig, FitResult
from fractalops.fitting import learning
from fractalops.fitting.optimizers import make_optimizer
from tests.support.tolerances import assert_all_same_bits

# (3, 1, 1) each
RED, GREEN, WHITE = (torch.tensor(color).view(3, 1, 1) for color in ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (1, 1, 1)))


def disc(size: int = 16, radius: float = 4.0) -> Tensor:
    """Return a white disc (size, size) in the middle."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((row - size / 2) ** 2 + (column - size / 2) ** 2 <= radius**2).float()


def bar(height: int = 16, width: int = 16) -> Tensor:
    """Return a white bar across the middle rows."""
    image = torch.zeros(height, width)
    image[height // 3 : 2 * height // 3, 2:-2] = 1
    return image


class Interruption:
    """An interruption: it raises `error` instead of step `at`, counted from 0. Each call of a loop takes one step."""

    def __init__(self, at: int, error: BaseException | None = None) -> None:
        self.rates: list[float] = []
        self.at = at
        self.error = KeyboardInterrupt() if error is None else error

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Interruption:
        """Make `fit` and `fit_dataset` take their steps through this object."""
        choose_loop = learning.choose_loop

        def choose(*arguments: Any) -> tuple[learning.Steps, bool]:
            take, _ = choose_loop(*arguments)
            return lambda rates: self._step(rates[0], lambda: take(rates)), False

        monkeypatch.setattr(learning, "choose_loop", choose)
        return self

    def make_optimizer(self, parameters: list[Tensor], config: FitConfig) -> Any:
        """Return an optimizer that takes its steps through this object."""
        optimize = make_optimizer(parameters, config)
        return lambda rate: self._step(rate, lambda: optimize(rate))

    def _step(self, rate: float, take: Callable[[], Any]) -> Any:
        if len(self.rates) == self.at:
            raise self.error
        self.rates.append(rate)
        return take()


def at_call(
    number: int, function: Callable[..., Any], error: BaseException, *, after: bool = False
) -> Callable[..., Any]:
    """Return a function like `function` whose call `number`, counted from 1, raises `error`.

    With `after`, that call runs before it raises.
    """
    calls = itertools.count(1)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        now = next(calls) == number
        if now and not after:
            raise error
        value = function(*arguments, **options)
        if now:
            raise error
        return value

    return wrapped


def targets() -> Tensor:
    """Return three images (3, 16, 16): a disc, a bar and a ring."""
    return torch.stack([disc(), bar(), disc(radius=6) - disc(radius=3)])


def colored() -> Tensor:
    """Return three images (3, 3, 16, 16): a red disc, a bar half red and half green, a white ring."""
    shape = targets()[:, None]  # (3, 1, 16, 16)
    halves = torch.where(torch.arange(16) < 8, RED, GREEN)  # (3, 1, 16)
    return torch.stack([shape[0] * RED, shape[1] * halves, shape[2] * WHITE])


def images_of(config: FitConfig) -> Tensor:
    """Return three images in color or gray, as `config` requires."""
    return colored() if config.color else targets()


def mean_square(images: Tensor, target: Tensor) -> Tensor:
    """Return the default loss, for use as a custom loss: images (S, K, ...), targets (S, 1, ...) -> (S,)."""
    return (images - target).square().flatten(1).mean(1)


def quick(**changes: Any) -> FitConfig:
    """Return settings of a small run on small targets. `changes` override them."""
    settings: dict[str, Any] = {
        "maps": 4,
        "points": 100,
        "sequences": 10,
        "steps": 60,
        "evaluation_sequences": 20,
    }
    return FitConfig(**(settings | changes)).resolve((16, 16))


def tiny(**changes: Any) -> FitConfig:
    """Return settings of ten very cheap steps, for tests in which the result does not matter."""
    return quick(**({"maps": 3, "points": 20, "sequences": 3, "steps": 10, "evaluation_sequences": 4} | changes))


def finish(batch: learning.Batch, config: FitConfig) -> FitResult:
    """Run the remaining steps of a batch, and evaluate it."""
    for _ in learning.run_steps(batch, config, None, False):
        pass
    return learning.evaluate_batches([batch], config, 0.0)


def assert_same_result(actual: FitResult, expected: FitResult) -> None:
    """Assert that all learned and measured values are equal bit for bit. Time and configuration may differ."""
    for name in ("size", "steps", "snapshot_steps"):
        assert getattr(actual, name) == getattr(expected, name)
    tensors, others = actual.tensors(), expected.tensors()  # parameters, measures and snapshots
    assert set(tensors) == set(others)
    assert_all_same_bits(list(tensors.values()), [others[name] for name in tensors])
