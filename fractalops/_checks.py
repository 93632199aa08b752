"""Checks that the ops share. Messages follow `<function>: <argument> must <property>, got <value>`."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence

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
    """Raise `IndexError` unless all of `index` lies in [0, maps), where that can be read."""
    if not can_read(index) or index.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in index.aminmax())
    if lowest < 0 or highest >= maps:
        raise IndexError(f"{function}: index must lie in [0, {maps}), got {lowest if lowest < 0 else highest}")


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


def check_integer(function: str, argument: str, value: object, least: int) -> None:
    """Raise `TypeError` unless `value` is an `int`, `ValueError` unless it is at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{function}: {argument} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {value}")


def check_choice(function: str, argument: str, value: object, choices: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{function}: {argument} must be one of {', '.join(choices)}, got {value!r}")


def check_dtype(function: str, dtype: torch.dtype) -> None:
    """Raise `TypeError` unless `dtype` is float32 or float64."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{function}: dtype must be torch.float32 or torch.float64, got {dtype}")


def check_floor(function: str, argument: str, floor: float) -> None:
    """Raise `TypeError` unless `floor` is a float, `ValueError` unless it lies in [0, 1)."""
    if not isinstance(floor, int | float) or isinstance(floor, bool):
        raise TypeError(f"{function}: {argument} must be a float, got {type(floor).__name__}")
    if not 0 <= floor < 1:
        raise ValueError(f"{function}: {argument} must be in [0, 1), got {floor}")


def check_viewport(function: str, viewport: object) -> None:
    """Raise `ValueError` unless `viewport` is "stretch", "fit" or four finite numbers that span a rectangle."""
    if isinstance(viewport, str) and viewport in ("stretch", "fit"):
        return
    if not (
        isinstance(viewport, (tuple, list))
        and len(viewport) == 4
        and all(isinstance(bound, numbers.Real) and math.isfinite(bound) for bound in viewport)
        and viewport[0] < viewport[2]
        and viewport[1] < viewport[3]
    ):
        raise ValueError(
            f"{function}: viewport must be 'stretch', 'fit' or (x_min, y_min, x_max, y_max) with x_min < x_max and "
            f"y_min < y_max, got {viewport!r}"
        )


def check_bandwidth(function: str, bandwidth: float) -> None:
    """Raise `ValueError` unless `bandwidth` is a finite number above 0."""
    if not _is_number(bandwidth) or bandwidth <= 0:
        raise ValueError(f"{function}: bandwidth must be a finite number above 0, got {bandwidth!r}")


def check_cutoff(function: str, cutoff: float | None) -> None:
    """Raise `ValueError` unless `cutoff` is None or a number in (0, 1)."""
    if cutoff is not None and not (_is_number(cutoff) and 0 < cutoff < 1):
        raise ValueError(f"{function}: cutoff must lie in (0, 1) or be None, got {cutoff!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
