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

from fractalops.fitting.config import FitConfig


class Optimizer(Protocol):
    """Updates parameters by their gradients."""

    state: dict[str, list[Tensor]]
    """What a step leaves for the next one, by its name: tensors that are changed in place."""

    def __call__(self, learning_rate: float | Tensor) -> None:
        """Take a step. The learning rate is a number, or a tensor () for a step that is captured in a CUDA graph."""


def make_optimizer(parameters: Sequence[Tensor], config: FitConfig) -> Optimizer:
    """The optimizer of `config` for `parameters`, as at its first step."""
    if config.optimizer == "adam":
        return _Adam(list(parameters))
    return _SGD(list(parameters), config.momentum)


# The fused updates round what is left over at the end of a tensor otherwise than whole vectors (torch 2.13: in double).
# No system has a part left over when its parameters fill whole vectors of any width (AVX-512, unrolled).
_VECTOR = 32


class _Rows:
    """The parameters of S systems as one tensor (S, P), in which a system's update doesn't depend on its place."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters  # each (S, ...)
        self._widths = [parameter[0].numel() for parameter in parameters]
        self._padding = parameters[0].new_zeros(len(parameters[0]), -sum(self._widths) % _VECTOR)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors like the parameters as rows (S, P)."""
        return torch.cat([tensor.flatten(1) for tensor in tensors] + [self._padding], dim=1)

    def gradients(self) -> Tensor:
        return self.join([parameter.grad for parameter in self.parameters if parameter.grad is not None])

    def write(self, rows: Tensor) -> None:
        """Give the parameters the values of rows (S, P)."""
        for parameter, part in zip(
            self.parameters, rows.split([*self._widths, self._padding.shape[1]], 1), strict=False
        ):
            parameter.copy_(part.view(parameter.shape))

    def zeros(self) -> Tensor:
        return torch.zeros_like(self.join([parameter.detach() for parameter in self.parameters]))


class _Adam:
    def __init__(self, parameters: list[Tensor]) -> None:
        self._rows = _Rows(parameters)
        self.state = {
            "mean": [self._rows.zeros()],
            "square": [self._rows.zeros()],
            "step": [torch.zeros((), dtype=torch.float32, device=parameters[0].device)],
        }

    @torch.no_grad()
    def __call__(self, learning_rate: float | Tensor) -> None:
        rows = self._rows.join(self._rows.parameters)  # (S, P)
        adam(
            [rows],
            [self._rows.gradients()],
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
        self._rows.write(rows)


class _SGD:
    def __init__(self, parameters: list[Tensor], momentum: float) -> None:
        self._rows = _Rows(parameters)
        self._momentum = momentum
        self.state = {"momentum": [self._rows.zeros()]}

    @torch.no_grad()
    def __call__(self, learning_rate: float | Tensor) -> None:
        rows = self._rows.join(self._rows.parameters)  # (S, P)
        momenta: list[Tensor | None] = [*self.state["momentum"]]
        sgd(
            [rows],
            [self._rows.gradients()],
            momenta,
            fused=True,
            weight_decay=0.0,
            momentum=self._momentum,
            lr=learning_rate,  # type: ignore[arg-type]  # the fused form takes a tensor too
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._rows.write(rows)
