"""Functions whose arithmetic autocast must not change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context manager that disables autocast, which would round products to 8 bits.

    "meta" tensors have no autocast. For them, the context manager does nothing.
    """
    # Dynamo of torch 2.11 can trace this test, but not `torch.amp.is_autocast_available`.
    needed = device != "meta" and torch._C._is_any_autocast_enabled()
    return torch.autocast(device, enabled=False) if needed else nullcontext()


def widen(value: T) -> T:
    """Convert a float16 or bfloat16 tensor to float32; return any other value unchanged."""
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value  # type: ignore[attr-defined]


def in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """Return a version of `function` that runs in float32 under autocast.

    It behaves like those functions of torch that autocast runs in float32: float16 and bfloat16 tensors are converted,
    float64 tensors are not, and a gradient has the dtype of the tensor that was passed.
    """

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        if not torch._C._is_any_autocast_enabled():
            return function(*arguments, **options)
        values = (*arguments, *options.values())
        device = next((value.device.type for value in values if isinstance(value, Tensor)), "meta")
        if device == "meta" or not torch.is_autocast_enabled(device):  # "meta" has no autocast
            return function(*arguments, **options)
        with torch.autocast(device, enabled=False):
            widened = {name: widen(value) for name, value in options.items()}
            return function(*map(widen, arguments), **widened)  # type: ignore[arg-type]

    return call
