"""The states of torch's modules and optimizers as named tensors, for a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fractalops.fitting.result import with_prefix

Parts = Mapping[str, nn.Module | torch.optim.Optimizer]


def state_of(parts: Parts) -> dict[str, Tensor]:
    """Return the state of the parts. Names consist of the part's name and the tensor's name: "network.0.weight".

    The state that an optimizer has for a parameter contains its number: "optimizer.3.momentum_buffer".
    """
    state: dict[str, Tensor] = {}
    for part, kept in parts.items():
        if isinstance(kept, nn.Module):
            state |= {f"{part}.{name}": tensor for name, tensor in kept.state_dict().items()}
            continue
        for number, tensors in kept.state_dict()["state"].items():
            state |= {f"{part}.{number}.{name}": tensor for name, tensor in tensors.items()}
    return state


def restore(parts: Parts, state: dict[str, Tensor]) -> None:
    """Restore the state that `state_of` returned for the same parts."""
    for part, kept in parts.items():
        tensors = with_prefix(state, f"{part}.")
        if isinstance(kept, nn.Module):
            kept.load_state_dict(tensors)
            continue
        numbered: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, name = key.split(".")
            numbered.setdefault(int(number), {})[name] = tensor
        kept.load_state_dict({"state": numbered, "param_groups": kept.state_dict()["param_groups"]})
