"""How an op of the table becomes one of PyTorch's: registered, traced without values and vmapped.

The native kernels are in the libraries and, for some on GPUs, in kernels/. Without either the package imports and
traces.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from fractalops._checks import check_precision
from fractalops.backends import Backend, choose
from fractalops.op_table import OPS

LIBRARY = torch.library.Library("fractalops", "FRAGMENT")


def _imported_when_called(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


for _name, _op in OPS.items():
    for _schema, _raw in zip(_op.schemas, _op.names(), strict=True):
        LIBRARY.define(_schema)
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
    """Register how a raw op of the table is traced and vmapped; return it.

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

    torch.library.register_fake(f"fractalops::{name}", fake, lib=LIBRARY)
    torch.library.register_vmap(f"fractalops::{name}", vmap, lib=LIBRARY)
    return op


def takes_native(op: str, argument: str, tensor: Tensor, backend: Backend | None) -> bool:
    """Return whether `op` runs natively on `tensor`, which names its device and dtype.

    Raises as `choose` does, and `TypeError` for a dtype that the native backend doesn't take.
    """
    native = choose(op, tensor.device, backend) == "native"
    if native:
        check_precision(op, argument, tensor, " (or be under autocast, or backend='reference')")
    return native
