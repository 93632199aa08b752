"""Adam and SGD by torch's functional forms.

The classes around them load torch's compiler when the first one is made, which takes as long as learning a fractal, and
spend more time a step than the update of a few hundred parameters does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fractalops.inversion.config import FitConfig

# The learning rate is a number, or a tensor () for a step that is captured in a CUDA graph.
Step = Callable[[float | Tensor], None]


def make_optimizer(parameters: Sequence[Tensor], config: FitConfig) -> Step:
    """A function that takes a learning rate and updates `parameters` by their gradients."""
    if config.optimizer == "adam":
        return _adam(list(parameters))
    return _sgd(list(parameters), config.momentum)


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _adam(parameters: list[Tensor]) -> Step:
    means = [torch.zeros_like(parameter) for parameter in parameters]
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    steps = [torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in parameters]

    @torch.no_grad()
    def step(learning_rate: float | Tensor) -> None:
        adam(
            parameters,
            _gradients(parameters),
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    return step


def _sgd(parameters: list[Tensor], momentum: float) -> Step:
    momenta: list[Tensor | None] = [None] * len(parameters)  # each becomes its first gradient

    @torch.no_grad()
    def step(learning_rate: float | Tensor) -> None:
        sgd(
            parameters,
            _gradients(parameters),
            momenta,
            fused=True,
            weight_decay=0.0,
            momentum=momentum,
            lr=learning_rate,  # type: ignore[arg-type]  # the fused form takes a tensor too
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    return step
