"""Adam and SGD by torch's functional forms.

The classes around them load torch's compiler when the first one is made, which takes as long as learning a fractal, and
spend more time a step than the update of a few hundred parameters does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fractalops.fitting.config import FitConfig

# The fused updates round what is left over at the end of a tensor otherwise than whole vectors (torch 2.13: in double).
# No system has a part left over when its parameters fill whole vectors of any width (AVX-512, unrolled).
_VECTOR = 32


class Optimizer:
    """Updates the parameters of S systems by their gradients, as one tensor (S, P).

    In it a system's update doesn't depend on its place.
    """

    state: dict[str, list[Tensor]]
    """The state of the optimizer by name: tensors that are changed in place."""

    def __init__(self, parameters: Sequence[Tensor], momentum: float | None, rates: Sequence[float]) -> None:
        """Update parameters, each (S, ...), with a multiple of the learning rate for each of them."""
        self._parameters = parameters
        self._momentum = momentum
        self._widths = [parameter[0].numel() for parameter in parameters]
        self._padding = parameters[0].new_zeros(len(parameters[0]), -sum(self._widths) % _VECTOR)
        self._rates: Tensor | None = None  # (P,) multiples of the learning rate; None where all are 1
        if any(rate != 1 for rate in rates):
            parts = zip((*rates, 1.0), (*self._widths, self._padding.shape[1]), strict=True)
            self._rates = parameters[0].new_tensor([rate for rate, width in parts for _ in range(width)])
        names = ("mean", "square") if momentum is None else ("momentum",)
        like = self._join([parameter.detach() for parameter in parameters])
        self.state = {name: [torch.zeros_like(like)] for name in names}
        if momentum is None:
            self.state["step"] = [torch.zeros((), dtype=torch.float32, device=like.device)]

    def _join(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return tensors like the parameters as rows (S, P)."""
        return torch.cat([*(tensor.flatten(1) for tensor in tensors), self._padding], dim=1)

    @torch.no_grad()
    def rows(self) -> Tensor:
        """Return the parameters of each system as a row, copied: (S, P)."""
        return self._join(self._parameters)

    def moments(self) -> tuple[Tensor, Tensor | None, int]:
        """Return the state that a native step changes in place.

        That is Adam's means of the gradients and of their squares, or SGD's velocities and None, each (S, P); and the
        number of steps taken, which only Adam counts.
        """
        if self._momentum is not None:
            return self.state["momentum"][0], None, 0
        return self.state["mean"][0], self.state["square"][0], int(self.state["step"][0])

    def count(self, steps: int) -> None:
        """Count steps that were taken natively."""
        if self._momentum is None:
            self.state["step"][0] += steps

    @torch.no_grad()
    def set_rows(self, rows: Tensor) -> None:
        """Copy rows (S, P) to the parameters."""
        parts = rows.split([*self._widths, self._padding.shape[1]], 1)
        for parameter, part in zip(self._parameters, parts, strict=False):
            parameter.copy_(part.view(parameter.shape))

    @torch.no_grad()
    def __call__(self, learning_rate: float | Tensor) -> None:
        """Take a step. The learning rate is a number, or a tensor () for a step that is captured in a CUDA graph."""
        rows = self.rows()  # (S, P)
        before = rows.clone() if self._rates is not None else rows  # (S, P)
        gradients = self._join(parameter.grad for parameter in self._parameters if parameter.grad is not None)
        settings: dict[str, Any] = {"fused": True, "lr": learning_rate, "weight_decay": 0.0, "maximize": False}
        if self._momentum is None:
            mean, square, step = (self.state[name] for name in ("mean", "square", "step"))
            settings |= {"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
            adam([rows], [gradients], mean, square, [], step, **settings)
        else:
            momenta: list[Tensor | None] = [*self.state["momentum"]]
            sgd([rows], [gradients], momenta, momentum=self._momentum, dampening=0.0, nesterov=False, **settings)
        self.set_rows(rows if self._rates is None else before.lerp_(rows, self._rates))

    @torch.no_grad()
    def forget(self, system: int, maps: Tensor) -> None:
        """Take maps (M,) of a system for new ones: no gradient so far, and squares of gradients like the others'."""
        begin = 0
        for parameter, width in zip(self._parameters, self._widths, strict=True):
            shape = parameter.shape[1:]  # (N, ...)
            for name, (rows,) in self.state.items():
                if name == "step":
                    continue
                own = rows[system, begin : begin + width].view(shape)  # (N, ...)
                own[maps] = own.mean(0) if name == "square" else 0.0
            begin += width


def make_optimizer(parameters: Sequence[Tensor], config: FitConfig, rates: Sequence[float] | None = None) -> Optimizer:
    """Return the optimizer of `config` for `parameters`, as at its first step.

    `rates` are multiples of the learning rate, one for each parameter; None is 1 for all.
    """
    momentum = config.momentum if config.optimizer == "sgd" else None
    return Optimizer(parameters, momentum, [1.0] * len(parameters) if rates is None else rates)
