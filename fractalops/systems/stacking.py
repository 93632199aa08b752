"""Several systems in tensors of one shape, even if the systems have different numbers of maps."""

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

# Tensors, NumPy arrays, or nested sequences of numbers, tensors or arrays.
Arrays: TypeAlias = Any


class Stack(NamedTuple):
    """S systems in one tensor for each property. Systems with fewer than N maps end with maps of probability 0."""

    matrix: Tensor  # (S, N, D, D)
    offset: Tensor  # (S, N, D)
    probabilities: Tensor  # (S, N)

    @classmethod
    def of(cls, systems: Sequence[System]) -> Stack:
        """Stack systems of the same number of dimensions, in float64."""
        return cls(
            *(
                pad_sequence([getattr(system, name).double() for system in systems], batch_first=True)
                for name in cls._fields
            )
        )

    @classmethod
    def joined(cls, stacks: Sequence[Stack]) -> Stack:
        """Join stacks of the same number of maps N into one stack."""
        return cls(*(torch.cat(parts) for parts in zip(*stacks, strict=True)))

    @classmethod
    def zeros(cls, systems: int, maps: int) -> Stack:
        """Return a stack of systems in the plane whose numbers are all 0, in float32."""
        zero = torch.zeros(systems, maps, 7, dtype=torch.float32, device="cpu")
        return cls(zero[..., :4].unflatten(-1, (2, 2)), zero[..., 4:6], zero[..., 6])

    def pick(self, numbers: Sequence[int]) -> Stack:
        """Return a stack of the systems with these indices, in this order."""
        chosen = torch.tensor(numbers, dtype=torch.int64, device=self.matrix.device)
        return Stack(*(part[chosen] for part in self))

    def systems(self) -> list[System]:
        """Return a copy of each system, without the maps of probability 0 at its end."""
        # Copies, because pickling a view saves the whole stack.
        systems = []
        for number, count in enumerate(self.counts()):
            matrix, offset, probabilities = (part[number, :count].clone() for part in self)
            systems.append(System(matrix, offset, probabilities))
        return systems

    def counts(self) -> list[int]:
        """Return the number of maps of each system, without the maps of probability 0 at its end."""
        return [int(row.nonzero()[-1]) + 1 for row in self.probabilities]


def read_maps(matrix: Arrays, offset: Arrays, probabilities: Arrays | None, color: Arrays | None) -> list[System]:
    """Return the systems of the arguments of `IFS.from_maps`; raise `ValueError` or `TypeError` if they are wrong."""
    matrices = _split("matrix", matrix, 3)
    parts = [_split("offset", offset, 2)]
    if probabilities is not None:
        parts.append(_split("probabilities", probabilities, 1))
    if color is not None:
        parts.append(_split("color", color, 2))
    if any(len(part) != len(matrices) for part in parts):
        counts = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"IFS.from_maps: all arguments must have {len(matrices)} systems, like matrix, got {counts}")
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
    """Return both as floating-point tensors of one dtype, the larger of their dtypes."""
    first, second = to_tensor("IFS.from_maps", "matrix", matrix), to_tensor("IFS.from_maps", "offset", offset)
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def _split(argument: str, value: Arrays, dimensions: int) -> list[Any]:
    """Split an argument of `IFS.from_maps` into one array for each system, with `dimensions` dimensions."""
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
            raise ValueError(f"IFS.from_maps: {argument} must have rows of equal length, got {value!r:.80}") from None
    return list(value)


def _depth(value: Any) -> int:
    """Return the number of dimensions of an array, a number or a nested sequence, judged by its first items."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim
    nested = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return 1 + _depth(value[0]) if nested else 0


def stack_systems(owner: str, systems: Sequence[System], settings: dict[str, Any]) -> dict[str, Tensor]:
    """Return the `state_dict` of an `IFS` module of given systems, as new tensors.

    Args:
        owner: the function whose name starts the error messages.
        systems: S systems in the plane with at most N maps each.
        settings: arguments of `IFS`. `device` and `dtype` are removed from it. If `device` is None or missing, the
            device of the first system is used. If `dtype` is None or missing, it is float64 if any system is float64,
            else float32.

    Returns:
        `matrix` (S, N, 2, 2), `offset` (S, N, 2), `probability` (S, N), float64 with rows of sum 1, and `color`
        (S, N, C) if the systems have colors.

    Raises:
        ValueError: If `systems` is empty, a system is three-dimensional or not finite, or the systems differ in their
            number of color channels.
        TypeError: If `settings` contains an argument that follows from the systems, or the dtype is not float32 or
            float64.
    """
    for name in ("systems", "maps", "parametrization", "probabilities", "channels", "color_values"):
        if name in settings:
            raise TypeError(f"{owner}: {name} must be left out, because it follows from the systems")
    device, dtype = settings.pop("device", None), settings.pop("dtype", None)
    if len(systems) == 0:
        raise ValueError(f"{owner}: systems must have at least one system, got none")
    channels = {None if system.color is None else system.color.shape[1] for system in systems}
    if len(channels) > 1:
        shown = ", ".join(sorted(str(count) for count in channels))
        raise ValueError(f"{owner}: systems must all have the same number of color channels, got {shown}")
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
