"""Autograd for raw ops: derivatives of any order, in backward and forward mode.

The native backward computes the first derivative in backward mode. PyTorch computes all other derivatives from the
op's formula, which consists of tensor operations.
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
    """Save the output, tensors, None and numbers for `backward` and `jvp`."""
    tensors = [each if isinstance(each, Tensor) else None for each in values]
    ctx.save_for_backward(output, *tensors)
    if forward_ad._current_level >= 0:
        # Detached: the output refers to the context, so saving the output itself would create a reference cycle.
        ctx.save_for_forward(None if output is None else output.detach(), *tensors)
    ctx.others = tuple(None if isinstance(each, Tensor) else each for each in values)


def _saved(ctx: Any) -> list[Any]:
    """Return the values that `_save` saved, the output first."""
    output, *tensors = ctx.saved_tensors
    pairs = zip(tensors, ctx.others, strict=True)
    return [output, *(other if tensor is None else tensor for tensor, other in pairs)]


def _replaced(values: Sequence[Any], places: Sequence[int], others: Sequence[Tensor]) -> list[Any]:
    """Return `values` with those at the indices `places` replaced by `others`."""
    replaced = list(values)
    for place, other in zip(places, others, strict=True):
        replaced[place] = other
    return replaced


def _of_some(
    function: Callable[..., Any], places: Sequence[int], values: Sequence[Any]
) -> tuple[Callable[..., Any], list[Tensor]]:
    """Return `function(*values)` as a function of only the values at the indices `places`, and these values."""
    return lambda *others: function(*_replaced(values, places, others)), [values[place] for place in places]


def differentiate(
    run: Callable[..., Tensor],
    gradients: Callable[..., Gradients],
    formula: Callable[..., Tensor],
    keeps_output: bool = False,
) -> Callable[..., Tensor]:
    """Return a differentiable version of `run`.

    Backward mode calls `gradients`. If the backward pass must be differentiable too (`create_graph=True`,
    `torch.func`), it calls `gradients` in a second autograd Function. The derivatives of that Function are those of
    the gradient of `formula`. Forward mode differentiates `formula`.

    Args:
        run: A function that calls the raw op. It must have named parameters, because Dynamo counts them.
        gradients: A function that returns a gradient, or None, for each input. Its arguments are: for each input,
            whether it needs a gradient; the output's gradient; the output (None unless `keeps_output`); the inputs.
        formula: A function of the inputs that computes the op by tensor operations, which autograd and `torch.func`
            can differentiate.
        keeps_output: Whether `gradients` reads the output.

    Returns:
        A function of the inputs, with the output of `run`.
    """

    class Traced(torch.autograd.Function):
        """The autograd Function for Dynamo, which can trace it: it has no `jvp` and can be differentiated once."""

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
            """Return the gradients of `formula` for the inputs at the indices `wanted`."""
            function, tensors = _of_some(formula, wanted, inputs)
            found: tuple[Tensor, ...] = torch.func.vjp(function, *tensors)[1](grad)
            return found

        class Backward(torch.autograd.Function):
            """`gradients` as a function of grad, output and inputs; only for the inputs at the indices `wanted`."""

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
            # Forward mode is still active under `torch.no_grad`.
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

    The gradient of `function` is linear in the gradient of its output. The tangent is the gradient of this linear
    function. `torch.func.jvp` can't be used, because it can't be nested in the forward mode of
    `torch.autograd.forward_ad`.
    """
    places = [place for place, tangent in enumerate(tangents) if tangent is not None]
    function, primals = _of_some(function, places, inputs)
    # Autograd turns forward mode off here, because it passes the tangents of this level. Outer levels still need it.
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
    """Return the primal value at one level of forward mode. `forward_ad.unpack_dual` can't be vmapped."""
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
    """Call `function.apply` without its overhead, or `traced.apply` if Dynamo is tracing.

    For a Function with `setup_context`, `apply` inspects the signature and binds the arguments in every call, because
    of default arguments. Without tracing and transformations, the rest of `apply` is the code below. For a chain of
    one point (10 maps), this code takes 17 us on one core and `apply` 61 us; with gradients, 25 us and 72 us
    (torch 2.13, a shared virtual machine).
    """
    if torch.compiler.is_compiling():
        return _apply_traced(function if traced is None else traced, inputs)
    if torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)
    inputs = torch._functorch.utils.unwrap_dead_wrappers(inputs)
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]


def _apply_traced(function: type[torch.autograd.Function], inputs: tuple[Any, ...]) -> Any:
    """Call `function.apply` while Dynamo is tracing.

    Raises `RuntimeError` if compiled code would be wrong. Dynamo then runs the frame eagerly.
    """
    levels = len(_levels("Grad"))
    if forward_ad._current_level >= 0 or levels > 1:  # compiled code has guards for both
        raise RuntimeError(
            "forward mode and second derivatives can't be compiled; without fullgraph=True they run eagerly"
        )
    if levels == 1:
        # Inside `torch.func.grad`, Dynamo loses the gradients of a graph's inputs, but not those of views of them.
        inputs = tuple(each.view_as(each) if isinstance(each, Tensor) else each for each in inputs)
    return function.apply(*inputs)


def _levels(kind: str) -> tuple[int, ...]:
    """Return the levels of the active `torch.func` transformations of one kind, the innermost last.

    Dynamo calls this function instead of tracing it.
    """
    running = pyfunctorch.retrieve_all_functorch_interpreters()
    return tuple(each.level() for each in running if each.key().name == kind)


_levels._dynamo_marked_constant = True  # type: ignore[attr-defined]
