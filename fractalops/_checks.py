"""Checks that the ops share. Messages follow `<function>: <argument> must <property>, got <value>`."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from fractalops.backends import debugging


def check_floating(function: str, backend: str, **tensors: Tensor) -> None:
    """All of one floating dtype, which the backend knows, and on one device."""
    (first_name, first), *others = tensors.items()
    if not first.is_floating_point():
        raise TypeError(f"{function}: {first_name} must be floating-point, got {first.dtype}")
    if backend == "native" and first.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{function}: {first_name} must be float32 or float64 (or backend='reference'), got {first.dtype}"
        )
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{function}: {name} must have the dtype of {first_name} ({first.dtype}), got {tensor.dtype}"
            )
        check_device(function, name, tensor, first_name, first)


def check_device(function: str, name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    if tensor.device != first.device:
        raise ValueError(
            f"{function}: {name} must be on the device of {first_name} ({first.device}), got {tensor.device}"
        )


def shape_error(function: str, name: str, wanted: str, tensor: Tensor) -> ValueError:
    return ValueError(f"{function}: {name} must have shape {wanted}, got {tuple(tensor.shape)}")


def check_tensor(function: str, **values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{function}: {name} must be a tensor, got {type(value).__name__}")


def can_read(tensor: Tensor) -> bool:
    """Whether looking at the values is possible and waits for nothing: not while tracing, nor under vmap.

    On a GPU it waits for the device, and is done in debug mode only.
    """
    if torch.compiler.is_compiling() or not (tensor.device.type == "cpu" or (tensor.is_cuda and debugging())):
        return False
    if type(tensor) not in (Tensor, torch.nn.Parameter):  # a fake tensor has no values
        return False
    while torch._C._functorch.is_gradtrackingtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return not torch._C._functorch.is_batchedtensor(tensor)


def check_index_range(function: str, index: Tensor, maps: int) -> None:
    """Raise `ValueError` unless all of `index` lies in [0, maps), where that can be read."""
    if not can_read(index) or index.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in index.aminmax())
    if lowest < 0 or highest >= maps:
        raise ValueError(f"{function}: index must lie in [0, {maps}), got {lowest if lowest < 0 else highest}")


def check_item(owner: str, index: int, count: int) -> int:
    """Return the index of one of `count` items, counted from 0 where it was counted from the end (-1 is the last).

    Raises `IndexError`, on behalf of the class `owner`, for an item that there isn't, `TypeError` for no whole number.
    """
    try:
        number = operator.index(index)  # also of a tensor or a numpy scalar
    except TypeError:
        raise TypeError(f"{owner}: index must be a whole number, got {type(index).__name__}") from None
    if not -count <= number < count:
        raise IndexError(f"{owner}: index must lie in [0, {count}), got {number}")
    return number % count
