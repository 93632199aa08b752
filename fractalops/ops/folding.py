"""The dimension that `torch.vmap` adds, joined with the batch dimension that every op has."""

from __future__ import annotations

from torch import Tensor


def with_batch(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The vmapped dimension first; a tensor without one is repeated, not copied: (...) -> (size, ...)."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def fold(size: int, *tensors: tuple[Tensor, int | None]) -> list[Tensor]:
    """Each tensor with its vmapped dimension joined to its first one: (B, ...) -> (size * B, ...)."""
    return [with_batch(tensor, dim, size).flatten(0, 1) for tensor, dim in tensors]


def unfold(size: int, tensor: Tensor) -> Tensor:
    """The reverse for a result: (size * B, ...) -> (size, B, ...)."""
    batched: Tensor = tensor.unflatten(0, (size, tensor.shape[0] // size))
    return batched
