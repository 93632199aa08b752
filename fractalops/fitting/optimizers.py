"""Adam and SGD in PyTorch's functional form.

The classes `torch.optim.Adam` and `SGD` load PyTorch's compiler when the first optimizer is created. This takes as long
as learning a fractal. In each step they also spend more time than the update of a few hundred parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fractalops.fitting.config import FitConfig

# The fused updates round the remainder of a tensor, after the last whole vector, differently (PyTorch 2.13: in
# float64). Padding to whole vectors of any width (AVX-512, unrolled) leaves no remainder in any system.
_VECTOR = 32


class Optimizer:
    """An optimizer that updates the parameters of S systems as one tensor (S, P).

    The update of a system does not depend on its index.
    """

    state: dict[str, list[Tensor]]
    """The state by name. The tensors are modified in place."""

    def __init__(self, parameters: Sequence[Tensor], momentum: float | None, rates: Sequence[float]) -> None:
        """Create the optimizer before its first step.

        Args:
            parameters: Tensors (S, ...), which are updated in place.
            momentum: The momentum of SGD. None uses Adam.
            rates: For each parameter, a multiple of the learning rate.
        """
        self._parameters = parameters
        self._momentum = momentum
        self._widths = [parameter[0].numel() for parameter in parameters]
        self._padding = parameters[0].new_zeros(len(parameters[0]), -sum(self._widths) % _VECTOR)
        self._rates: Tensor | None = None  # (P,) multiples of the learning rate; None if all are 1
        if any(rate != 1 for rate in rates):
            parts = zip((*rates, 1.0), (*self._widths, self._padding.shape[1]), strict=True)
            self._rates = parameters[0].new_tensor([rate for rate, width in parts for _ in range(width)])
        names = ("mean", "square") if momentum is None else ("momentum",)
        like = self._join([parameter.detach() for parameter in parameters])
        self.state = {name: [torch.zeros_like(like)] for name in names}
        if momentum is None:
            self.state["step"] = [torch.zeros((), dtype=torch.float32, device=like.device)]

    def _join(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return tensors with the shapes of the parameters as rows (S, P)."""
        return torch.cat([*(tensor.flatten(1) for tensor in tensors), self._padding], dim=1)

    @torch.no_grad()
    def rows(self) -> Tensor:
        """Return a copy of the parameters, one row for each system: (S, P)."""
        return self._join(self._parameters)

    def moments(self) -> tuple[Tensor, Tensor | None, int]:
        """Return the state that a native step modifies.

        It is (mean, square, steps) for Adam, with the running means of the gradients and of their squares, (S, P), and
        the number of steps taken. For SGD it is (velocity, None, 0).
        """
        if self._momentum is not None:
            return self.state["momentum"][0], None, 0
        return self.state["mean"][0], self.state["square"][0], int(self.state["step"][0])

    def count(self, steps: int) -> None:
        """Add the number of steps that were taken natively."""
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
        """Take one step. The learning rate is a number, or a tensor () if the step is captured in a CUDA graph."""
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
        """Reset the state of maps that were replaced.

        Their means of gradients, or velocities, become 0. Their means of squares become the average over all maps of
        the system.

        Args:
            system: The index of the system.
            maps: The indices of the maps, (M,).
        """
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
    """Return the optimizer of `config` before its first step.

    Args:
        parameters: Tensors (S, ...), which are updated in place.
        config: The settings.
        rates: For each parameter, a multiple of the learning rate. None is 1 for all.
    """
    momentum = config.momentum if config.optimizer == "sgd" else None
    return Optimizer(parameters, momentum, [1.0] * len(parameters) if rates is None else rates)
