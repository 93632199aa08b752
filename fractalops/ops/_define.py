"""Registration of the table's ops with PyTorch: schema, fake kernel and vmap.

The native kernels are in the libraries and, for some on GPUs, in kernels/. Without either the package imports and
traces. A raw op has no derivatives, and refuses tensors that ask for some: its public function has them, and calls it
below autograd.
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
    """Return what a raw op does where autograd looks: it refuses tensors whose derivatives it would drop."""

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
    """Return a raw op for those who take care of its derivatives: without the way through Python, 10 us of a core."""

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    return call


def trace(name: str, fake: Callable[..., Any]) -> None:
    """Register how a raw op of the table is traced: `fake` is that of `define`."""

    def checked(*arguments: Any, **named: Any) -> Any:
        # Tensors without values and others come here together.
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
    """Put the vmapped dimension first; a tensor without one is repeated, not copied: (...) -> (size, ...)."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _unfold(tensor: Tensor, size: int) -> Tensor:
    """Take the vmapped dimension of a result apart: (size * B, ...) -> (size, B, ...)."""
    unfolded: Tensor = tensor.unflatten(0, (size, len(tensor) // size))
    return unfolded


def define(name: str, fake: Callable[..., Any], fold: Callable[..., tuple[Any, ...]] | None = None) -> Any:
    """Register how a raw op of the table is traced and vmapped; return it, to be called below autograd.

    `torch.vmap` runs it once: it joins the vmapped dimension to the first one, which is a batch in all tensors of all
    ops, and takes it apart again in all results.

    Args:
        name: the raw op's, as in its schema.
        fake: takes the op's arguments and returns results of the right shapes, dtypes and devices, not filled in.
        fold: for `vmap`, what is to be done with the arguments before the vmapped dimension is joined: takes its size
            and the arguments, tensors with it in front, and returns them so.
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
    """Return whether `op` runs natively on `tensor`, which names its device and dtype.

    Raises as `choose` does, and `TypeError` for a dtype that the native backend doesn't take.
    """
    native = choose(op, tensor.device, backend) == "native"
    if native:
        check_precision(op, argument, tensor, " (or be under autocast, or backend='reference')")
    return native
