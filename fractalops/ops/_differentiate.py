"""Autograd for raw ops: any number of derivatives, in both modes.

Derivatives of the first order are the native backward's. All others are torch's own, of a formula: the op in tensor
operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map

from fractalops.reference.without_autocast import without_autocast

Gradients = tuple[Tensor | None, ...]


def _save(ctx: Any, values: Sequence[Any], output: Tensor | None = None) -> None:
    """Keep the output, tensors, None and numbers for backward and `jvp`."""
    tensors = [each if isinstance(each, Tensor) else None for each in values]
    ctx.save_for_backward(output, *tensors)
    if forward_ad._current_level >= 0:
        # Not the output itself: it holds the context, which would hold it.
        ctx.save_for_forward(None if output is None else output.detach(), *tensors)
    ctx.others = tuple(None if isinstance(each, Tensor) else each for each in values)


def _saved(ctx: Any) -> list[Any]:
    """Return what `_save` kept, the output first."""
    output, *tensors = ctx.saved_tensors
    pairs = zip(tensors, ctx.others, strict=True)
    return [output, *(other if tensor is None else tensor for tensor, other in pairs)]


def _replaced(values: Sequence[Any], places: Sequence[int], others: Sequence[Tensor]) -> list[Any]:
    """Return `values` with `others` at `places`."""
    replaced = list(values)
    for place, other in zip(places, others, strict=True):
        replaced[place] = other
    return replaced


def _of_some(
    function: Callable[..., Any], places: Sequence[int], values: Sequence[Any]
) -> tuple[Callable[..., Any], list[Tensor]]:
    """Return `function(*values)` as a function of the values at `places` alone, and those values."""
    return lambda *others: function(*_replaced(values, places, others)), [values[place] for place in places]


def differentiate(
    run: Callable[..., Tensor],
    gradients: Callable[..., Gradients],
    formula: Callable[..., Tensor],
    keeps_output: bool = False,
) -> Callable[..., Tensor]:
    """Return `run` as a function that autograd differentiates.

    Backward calls `gradients`. Where a graph of it is wanted (`create_graph=True`, `torch.func`), it does so as a
    Function whose own derivatives are those of `formula`'s gradient. Forward mode differentiates `formula`.

    Args:
        run: calls the raw op; it names its parameters, which Dynamo counts.
        gradients: takes which inputs need a gradient, the output's gradient, the output (None unless `keeps_output`)
            and the inputs; returns a gradient, or None, for each input.
        formula: takes what `run` takes; the op in tensor operations that autograd and `torch.func` differentiate.
        keeps_output: whether `gradients` reads the output.
    """

    class Traced(torch.autograd.Function):
        """A Function that Dynamo can trace: without `jvp`, differentiated once."""

        generate_vmap_rule = True

        forward = staticmethod(run)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _save(ctx, inputs, output if keeps_output else None)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, grad: Tensor) -> Gradients:
            return gradients(ctx.needs_input_grad, grad, *_saved(ctx))

    @functools.cache
    def backward_of(wanted: tuple[int, ...]) -> type[torch.autograd.Function]:
        def gradient(grad: Tensor, output: None, *inputs: Any) -> tuple[Tensor, ...]:
            """Return the formula's gradient of the inputs at the places `wanted`."""
            function, tensors = _of_some(formula, wanted, inputs)
            found: tuple[Tensor, ...] = torch.func.vjp(function, *tensors)[1](grad)
            return found

        class Backward(torch.autograd.Function):
            """`gradients`, of the inputs at the places `wanted` alone: takes grad, the output and the inputs."""

            generate_vmap_rule = True

            @staticmethod
            def forward(grad: Tensor, output: Tensor | None, *inputs: Any) -> tuple[Tensor, ...]:
                needed = tuple(place in wanted for place in range(len(inputs)))
                found = gradients(needed, grad, output, *inputs)
                return tuple(found[place] for place in wanted)  # type: ignore[misc]

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
                grad, _, *others = inputs
                _save(ctx, (grad, None, *others))

            @staticmethod
            def backward(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
                _, *values = _saved(ctx)
                places = [place for place, needed in enumerate(ctx.needs_input_grad) if needed and place != 1]
                function, tensors = _of_some(gradient, places, values)
                with without_autocast(tensors[0].device.type):
                    _, pull = torch.func.vjp(function, *tensors)  # type: ignore[misc]
                    return tuple(_replaced([None] * len(values), places, pull(cotangents)))

            @staticmethod
            def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
                _, *values = _saved(ctx)
                return _push(gradient, values, [tangents[0], None, *tangents[2:]])

        return Backward

    class Native(Traced):
        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Gradients:
            output, *inputs = _saved(ctx)
            # Forward mode goes on where gradients are turned off.
            if not torch.is_grad_enabled() and forward_ad._current_level < 0:
                return gradients(ctx.needs_input_grad, grad, output, *inputs)
            wanted = tuple(place for place, needed in enumerate(ctx.needs_input_grad) if needed)
            found = _apply(backward_of(wanted), (grad, output, *inputs))
            return tuple(_replaced([None] * len(inputs), wanted, found))

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
            _, *inputs = _saved(ctx)
            return _push(formula, inputs, tangents)

    def apply(*inputs: Any) -> Tensor:
        output: Tensor = _apply(Native, inputs, Traced)
        return output

    return apply


def _push(function: Callable[..., Any], inputs: Sequence[Any], tangents: Sequence[Tensor | None]) -> Any:
    """Return the tangent of `function` at `inputs`; a tangent of None is zero.

    Taken as the gradient of a gradient, which is linear in the output's: `torch.func.jvp` can't be nested in the
    forward mode of `torch.autograd.forward_ad`.
    """
    places = [place for place, tangent in enumerate(tangents) if tangent is not None]
    function, primals = _of_some(function, places, inputs)
    # Forward mode is off here, as the tangents of this level are passed. That of levels below must go on.
    levels = _levels("Jvp")
    nested = len(levels) > 1
    if nested:
        primals = [_without_tangent(each, levels[-1]) for each in primals]
    with forward_ad._set_fwd_grad_enabled(nested), without_autocast(primals[0].device.type):
        value, pull = torch.func.vjp(function, *primals)  # type: ignore[misc]
        _, push = torch.func.vjp(pull, tree_map(torch.zeros_like, value))  # type: ignore[misc]
        (tangent,) = push(tuple(tangents[place] for place in places))
    return tangent


def _without_tangent(tensor: Tensor, level: int) -> Tensor:
    """Return the primal value of one level of forward mode. `forward_ad.unpack_dual` can't be vmapped."""
    functorch = torch._C._functorch
    if functorch.is_batchedtensor(tensor):
        value = _without_tangent(functorch.get_unwrapped(tensor), level)
        return functorch._add_batch_dim(value, functorch.maybe_get_bdim(tensor), functorch.maybe_get_level(tensor))
    return functorch._unwrap_for_grad(tensor, level)


def _apply(
    function: type[torch.autograd.Function],
    inputs: tuple[Any, ...],
    traced: type[torch.autograd.Function] | None = None,
) -> Any:
    """Call `function.apply`, without what it spends on default arguments, or that of `traced` where Dynamo traces it.

    `apply` of a Function with `setup_context` asks `inspect` for the signature and binds the arguments on every call.
    Where nothing traces or transforms, what follows is the rest of it. For a chain of one point (10 maps) it takes
    17 us of a core where `apply` takes 61, with gradients 25 where it takes 72 (torch 2.13, a shared virtual machine).
    """
    if torch.compiler.is_compiling():
        return _apply_traced(function if traced is None else traced, inputs)
    if torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)
    inputs = torch._functorch.utils.unwrap_dead_wrappers(inputs)
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]


def _apply_traced(function: type[torch.autograd.Function], inputs: tuple[Any, ...]) -> Any:
    """Call `function.apply`. It raises where compiled code would be wrong, and Dynamo then leaves the frame alone."""
    levels = len(_levels("Grad"))
    if forward_ad._current_level >= 0 or levels > 1:  # the code is guarded on both
        raise RuntimeError(
            "neither forward mode nor second derivatives can be compiled: without fullgraph=True they run eagerly"
        )
    if levels == 1:
        # Dynamo drops the backward of a graph's inputs inside `torch.func.grad`, but not that of their views.
        inputs = tuple(each.view_as(each) if isinstance(each, Tensor) else each for each in inputs)
    return function.apply(*inputs)


def _levels(kind: str) -> tuple[int, ...]:
    """Return the levels of those of torch.func's transformations that run, of one kind, the innermost last.

    A compiler calls it instead of tracing it.
    """
    running = pyfunctorch.retrieve_all_functorch_interpreters()
    return tuple(each.level() for each in running if each.key().name == kind)


_levels._dynamo_marked_constant = True  # type: ignore[attr-defined]
