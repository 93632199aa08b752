"""What the optimizers of torch keep, as tensors by name, so that it fits into a file of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the next step depends on, by the parameter's number and its own name: "3.momentum_buffer"."""
    return {
        f"{number}.{name}": tensor
        for number, kept in optimizer.state_dict()["state"].items()
        for name, tensor in kept.items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Put back what `optimizer_state` told of an optimizer of the same parameters."""
    kept: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, name = key.split(".")
        kept.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
