"""How an op of the table becomes one of PyTorch's: registered, traced without values, vmapped and gradients.

The native kernels are in the libraries and, for some on GPUs, in kernels/. Without either the package imports and
traces.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        check_precision(op, argument, tensor, " (or backend='reference')")
    return native


def differentiate(
    run: Callable[..., Tensor],
    gradients: Callable[..., tuple[Any, ...]],
    save: Callable[..., tuple[Any, ...]] = lambda inputs, output: inputs,
) -> Callable[..., Tensor]:
    """Return `run` as a function that autograd differentiates, once.

    Args:
        run: calls the raw op; it names its parameters, which Dynamo counts.
        gradients: takes which inputs need a gradient, the output's gradient and what was saved; returns a gradient, or
            None, for each input.
        save: takes the inputs and the output; returns what backward needs: tensors, None and numbers.
    """

    class Native(torch.autograd.Function):
        generate_vmap_rule = True

        forward = staticmethod(run)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            saved = save(inputs, output)
            ctx.save_for_backward(*(each if isinstance(each, Tensor) else None for each in saved))
            ctx.numbers = tuple(None if isinstance(each, Tensor) else each for each in saved)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
            pairs = zip(ctx.saved_tensors, ctx.numbers, strict=True)
            saved = [number if tensor is None else tensor for tensor, number in pairs]
            return gradients(ctx.needs_input_grad, grad, *saved)

    def apply(*inputs: Any) -> Tensor:
        output: Tensor = _apply(Native, inputs)
        return output

    return apply


def _apply(function: type[torch.autograd.Function], inputs: tuple[Any, ...]) -> Any:
    """Call `function.apply`, without what it spends on default arguments.

    `apply` of a Function with `setup_context` asks `inspect` for the signature and binds the arguments on every call.
    Where nothing traces or transforms, what follows is the rest of it. For a chain of one point (10 maps) it takes
    17 us of a core where `apply` takes 61, with gradients 25 where it takes 72 (torch 2.13, a shared virtual machine).
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)
    inputs = torch._functorch.utils.unwrap_dead_wrappers(inputs)
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]
