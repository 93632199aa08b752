"""Systems of different numbers of maps as tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fractalops._checks import check_dtype
from fractalops.sampling import determinant_probabilities
from fractalops.systems.system import System, shares_of, to_tensor

# Tensors, arrays, or nested sequences of numbers, tensors or arrays.
Arrays: TypeAlias = Any


class Stack(NamedTuple):
    """Systems in one tensor each; those of fewer maps have maps of probability 0 at the end."""

    matrix: Tensor  # (S, N, D, D)
    offset: Tensor  # (S, N, D)
    probabilities: Tensor  # (S, N)

    @classmethod
    def of(cls, systems: Sequence[System]) -> Stack:
        """Return systems of the same dimensions in float64."""
        return cls(
            *(
                pad_sequence([getattr(system, name).double() for system in systems], batch_first=True)
                for name in cls._fields
            )
        )

    @classmethod
    def joined(cls, stacks: Sequence[Stack]) -> Stack:
        """Return the systems of several stacks, of one number of maps, in one."""
        return cls(*(torch.cat(parts) for parts in zip(*stacks, strict=True)))

    @classmethod
    def zeros(cls, systems: int, maps: int) -> Stack:
        """Return systems of the plane whose numbers are all 0, in float32."""
        zero = torch.zeros(systems, maps, 7, dtype=torch.float32, device="cpu")
        return cls(zero[..., :4].unflatten(-1, (2, 2)), zero[..., 4:6], zero[..., 6])

    def pick(self, numbers: Sequence[int]) -> Stack:
        """Return the systems of these numbers, in that order."""
        chosen = torch.tensor(numbers, dtype=torch.int64, device=self.matrix.device)
        return Stack(*(part[chosen] for part in self))

    def systems(self) -> list[System]:
        """Return a copy of each system by itself, without the maps of probability 0 at its end."""
        # Views would be pickled with the whole stack, each of them.
        systems = []
        for number, count in enumerate(self.counts()):
            matrix, offset, probabilities = (part[number, :count].clone() for part in self)
            systems.append(System(matrix, offset, probabilities))
        return systems

    def counts(self) -> list[int]:
        """Return how many maps each system has, without those of probability 0 at its end."""
        return [int(row.nonzero()[-1]) + 1 for row in self.probabilities]


def read_maps(matrix: Arrays, offset: Arrays, probabilities: Arrays | None, color: Arrays | None) -> list[System]:
    """Return the systems of arrays, as `IFS.from_maps` takes them. Raises `ValueError` or `TypeError`."""
    matrices = _split("matrix", matrix, 3)
    parts = [_split("offset", offset, 2)]
    if probabilities is not None:
        parts.append(_split("probabilities", probabilities, 1))
    if color is not None:
        parts.append(_split("color", color, 2))
    if any(len(part) != len(matrices) for part in parts):
        counts = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"IFS.from_maps: all arguments must be of {len(matrices)} systems as matrix, got {counts}")
    systems = []
    for number, each in enumerate(matrices):
        own_color = None if color is None else parts[-1][number]
        own_matrix, own_offset = _of_one_dtype(each, parts[0][number])
        own_probabilities = own_matrix.new_ones(len(own_matrix)) if probabilities is None else parts[1][number]
        try:
            system = System(own_matrix, own_offset, own_probabilities, own_color)
        except (ValueError, TypeError) as error:
            raise type(error)(str(error).replace("System: ", "IFS.from_maps: ", 1)) from None
        if probabilities is None and system.dimensions == 2:
            shares = determinant_probabilities(system.matrix.double()[None])[0]  # (N,)
            system = System(system.matrix, system.offset, shares, system.color)
        systems.append(system)
    return systems


def _of_one_dtype(matrix: Arrays, offset: Arrays) -> tuple[Tensor, Tensor]:
    """Return both as floating-point tensors, of the larger dtype where they differ."""
    first, second = to_tensor("IFS.from_maps", "matrix", matrix), to_tensor("IFS.from_maps", "offset", offset)
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def _split(argument: str, value: Arrays, dimensions: int) -> list[Any]:
    """Return arrays of so many dimensions, one for each system."""
    if isinstance(value, (Tensor, np.ndarray)):
        if value.ndim == dimensions:
            return [value]
        if value.ndim == dimensions + 1:
            return list(value)
        shape = tuple(value.shape)
        raise ValueError(f"IFS.from_maps: {argument} must have {dimensions} dimensions or one more, got shape {shape}")
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) == 0:
        kind = type(value).__name__
        raise TypeError(f"IFS.from_maps: {argument} must be a tensor, an array or a sequence of them, got {kind}")
    if _depth(value) == dimensions:  # one system
        try:
            return [torch.stack(list(value)) if isinstance(value[0], Tensor) else np.asarray(value)]
        except (ValueError, TypeError, RuntimeError):
            raise ValueError(f"IFS.from_maps: {argument} must have rows of one length, got {value!r:.80}") from None
    return list(value)


def _depth(value: Any) -> int:
    """Return how many dimensions an array, a number or a nested sequence has, by its first items."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim
    nested = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return 1 + _depth(value[0]) if nested else 0


def stack_systems(owner: str, systems: Sequence[System], settings: dict[str, Any]) -> dict[str, Tensor]:
    """Return the systems of the plane as tensors of one shape, new ones: the state of an `IFS` that holds them.

    Args:
        owner: the function that errors begin with.
        systems: S systems of at most N maps.
        settings: of the `IFS`. Its `device` is taken out of it, None is that of the first system, and its `dtype`, None
            is float64 where any of the systems is, else float32.

    Returns:
        `matrix` (S, N, 2, 2), `offset` (S, N, 2), `probability` (S, N), float64 in rows of sum 1, and `color` (S, N, C)
        unless the systems have none.

    Raises:
        ValueError: for no system, one in space, numbers that are not finite, and colors that not all systems have
            alike; TypeError: for settings that the systems give.
    """
    for name in ("systems", "maps", "parametrization", "probabilities", "channels", "color_values"):
        if name in settings:
            raise TypeError(f"{owner}: {name} must be left out, as it follows from the systems")
    device, dtype = settings.pop("device", None), settings.pop("dtype", None)
    if len(systems) == 0:
        raise ValueError(f"{owner}: systems must be at least one, got none")
    channels = {None if system.color is None else system.color.shape[1] for system in systems}
    if len(channels) > 1:
        shown = ", ".join(sorted(str(count) for count in channels))
        raise ValueError(f"{owner}: systems must have colors of one number of channels, got {shown}")
    for number, system in enumerate(systems):
        where = f"of system {number}" if len(systems) > 1 else "of the system"
        if system.dimensions != 2:
            shape = tuple(system.matrix.shape)
            raise ValueError(f"{owner}: matrix {where} must have shape (N, 2, 2), got {shape}")
        for name in ("matrix", "offset") + (() if system.color is None else ("color",)):
            if not bool(getattr(system, name).isfinite().all()):
                raise ValueError(f"{owner}: {name} {where} must be finite")
    if dtype is None:
        double = any(system.matrix.dtype == torch.float64 for system in systems)
        dtype = torch.float64 if double else torch.float32
    check_dtype(owner, dtype)
    device = systems[0].offset.device if device is None else torch.device(device)
    stack = Stack.of(systems)
    state = {"matrix": stack.matrix.to(device, dtype), "offset": stack.offset.to(device, dtype)}
    colors = [system.color.to(device, dtype) for system in systems if system.color is not None]  # each (N, C)
    if colors:
        state["color"] = pad_sequence(colors, batch_first=True)
    return state | {"probability": shares_of(stack.probabilities).to(device)}
