"""Adam and SGD by torch's functional forms.

The classes around them load torch's compiler when the first one is made, which takes as long as learning a fractal, and
spend more time a step than the update of a few hundred parameters does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fractalops.inversion.config import FitConfig


class Optimizer(Protocol):
    """Updates parameters by their gradients."""

    state: dict[str, list[Tensor]]
    """What a step leaves for the next one, by its name: a tensor for each parameter, changed in place."""

    def __call__(self, learning_rate: float | Tensor) -> None:
        """Take a step. The learning rate is a number, or a tensor () for a step that is captured in a CUDA graph."""


def make_optimizer(parameters: Sequence[Tensor], config: FitConfig) -> Optimizer:
    """The optimizer of `config` for `parameters`, as at its first step."""
    if config.optimizer == "adam":
        return _Adam(list(parameters))
    return _SGD(list(parameters), config.momentum)


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _zeros(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]


class _Adam:
    def __init__(self, parameters: list[Tensor]) -> None:
        self._parameters = parameters
        self.state = {
            "mean": _zeros(parameters),
            "square": _zeros(parameters),
            "step": [torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in parameters],
        }

    @torch.no_grad()
    def __call__(self, learning_rate: float | Tensor) -> None:
        adam(
            self._parameters,
            _gradients(self._parameters),
            self.state["mean"],
            self.state["square"],
            [],
            self.state["step"],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


class _SGD:
    def __init__(self, parameters: list[Tensor], momentum: float) -> None:
        self._parameters = parameters
        self._momentum = momentum
        self.state = {"momentum": _zeros(parameters)}

    @torch.no_grad()
    def __call__(self, learning_rate: float | Tensor) -> None:
        momenta: list[Tensor | None] = [*self.state["momentum"]]
        sgd(
            self._parameters,
            _gradients(self._parameters),
            momenta,
            fused=True,
            weight_decay=0.0,
            momentum=self._momentum,
            lr=learning_rate,  # type: ignore[arg-type]  # the fused form takes a tensor too
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
