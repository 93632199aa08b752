"""Arithmetic that autocast leaves alone."""

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
    """Return a context without autocast, which would round products to 8 bits; "meta" tensors know none."""
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def widen(value: T) -> T:
    """Return float32 of a tensor in float16 or bfloat16, and anything else as it is."""
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value  # type: ignore[attr-defined]


def in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` in float32 where its tensors are under autocast.

    As of torch's own functions that autocast runs in float32, tensors in float16 and bfloat16 are converted, float64
    stays, and a gradient has the dtype of what was passed.
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
