"""Registration of the ops with PyTorch: schemas, fake kernels and `vmap` rules.

The native kernels are in the compiled libraries and, for some ops on GPUs, in kernels/. The package can be imported and
traced without them.

A raw op (`torch.ops.fractalops.NAME`) has no derivatives. It raises an error for tensors that require gradients or
have tangents. The op's public function has derivatives; it calls the raw op below autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fractalops._checks import check_one_device, check_precision
from fractalops.backends import Backend, choose
from fractalops.op_table import OPS

LIBRARY = torch.library.Library("fractalops", "FRAGMENT")


def _imported_when_called(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _has_tangent(value: Any) -> bool:
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None


def _without_derivatives(name: str) -> Callable[..., Any]:
    """Return the autograd kernel of a raw op, which raises an error instead of dropping derivatives silently."""

    def call(keyset: Any, *arguments: Any, **named: Any) -> Any:
        given = (*arguments, *named.values())
        backward = torch.is_grad_enabled() and torch._C._any_requires_grad(*given)
        if backward or (forward_ad._current_level >= 0 and any(map(_has_tangent, given))):
            advice = "call its public function, or run it within torch.no_grad()"
            raise RuntimeError(f"torch.ops.fractalops.{name} has no derivatives: {advice}")
        op = getattr(torch.ops.fractalops, name).default
        with torch._C._AutoDispatchBelowAutograd():
            return op.redispatch(keyset & torch._C._after_autograd_keyset, *arguments, **named)

    return call


def _below_autograd(op: Any) -> Callable[..., Any]:
    """Return a function that calls a raw op below autograd, for callers that implement the derivatives.

    This skips the autograd kernel of `_without_derivatives`, whose Python code takes 10 us on one core.
    """

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    return call


def trace(name: str, fake: Callable[..., Any]) -> None:
    """Register the fake kernel of a raw op of the table. `fake` is described in `define`."""

    def checked(*arguments: Any, **named: Any) -> Any:
        # A call that mixes meta tensors with other tensors is dispatched to this function.
        check_one_device(name, (*arguments, *named.values()))
        return fake(*arguments, **named)

    torch.library.register_fake(f"fractalops::{name}", checked, lib=LIBRARY)


for _name, _op in OPS.items():
    for _schema, _raw in zip(_op.schemas, _op.names(), strict=True):
        LIBRARY.define(_schema)
        LIBRARY.impl(_raw, _without_derivatives(_raw), "Autograd", with_keyset=True)
        if _op.kernels.get("cuda") == "triton":
            LIBRARY.impl(_raw, _imported_when_called(f"fractalops.kernels.{_name}", _raw), "CUDA")


def with_batch(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Move the vmapped dimension to the front; expand a tensor that has none, without a copy: (...) -> (size, ...)."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _unfold(tensor: Tensor, size: int) -> Tensor:
    """Split the vmapped dimension off the first dimension of a result: (size * B, ...) -> (size, B, ...)."""
    unfolded: Tensor = tensor.unflatten(0, (size, len(tensor) // size))
    return unfolded


def define(name: str, fake: Callable[..., Any], fold: Callable[..., tuple[Any, ...]] | None = None) -> Any:
    """Register the fake kernel and the `vmap` rule of a raw op of the table.

    Under `torch.vmap`, the op runs once: the first dimension of all tensors of all ops is a batch, so the rule merges
    the vmapped dimension into it and splits it off again in the results.

    Args:
        name: Name of the raw op, as in its schema.
        fake: A function of the op's arguments that returns empty results of the right shapes, dtypes and devices.
        fold: A function that changes the arguments before the vmapped dimension is merged, or None. It takes the size
            of the vmapped dimension and the arguments, and returns the arguments. The vmapped dimension is the first
            dimension of all tensors among them.

    Returns:
        A function that calls the raw op below autograd.
    """
    op = getattr(torch.ops.fractalops, name)

    def vmap(info: Any, dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        batched = tuple(
            with_batch(argument, dim, size) if isinstance(argument, Tensor) else argument
            for argument, dim in zip(arguments, dims, strict=True)
        )
        if fold is not None:
            batched = fold(size, *batched)
        results = op(*(each.flatten(0, 1) if isinstance(each, Tensor) else each for each in batched))
        if isinstance(results, Tensor):
            return _unfold(results, size), 0
        return tuple(_unfold(result, size) for result in results), (0,) * len(results)

    trace(name, fake)
    torch.library.register_vmap(f"fractalops::{name}", vmap, lib=LIBRARY)
    return _below_autograd(op)


def takes_native(op: str, argument: str, tensor: Tensor, backend: Backend | None) -> bool:
    """Return whether `op` uses the native backend for the device and dtype of `tensor`.

    Raises the errors of `choose`, and `TypeError` for a dtype that the native backend doesn't support. The message
    names the tensor `argument`.
    """
    native = choose(op, tensor.device, backend) == "native"
    if native:
        check_precision(op, argument, tensor, " (or use autocast or backend='reference')")
    return native
