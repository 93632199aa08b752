"""Calls of raw ops with invalid arguments, in a separate process: `python -m tests.support.raw_op_trials`.

Prints the name of each op before it is tried, and a line "name: problem" for each call that is neither refused nor
correct. A crash ends the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fractalops.reference.affine_chain import affine_chain
from fractalops.reference.clamped_squared_error import clamped_squared_error
from fractalops.reference.draw_balanced_index import draw_balanced_index
from fractalops.reference.draw_index import draw_index
from fractalops.reference.draw_masks import draw_masks
from fractalops.reference.fixed_point import fixed_point
from fractalops.reference.k_means import k_means
from fractalops.reference.rasterize_orbit import rasterize_orbit
from fractalops.reference.rasterize_points import rasterize_points
from fractalops.reference.rbf_rasterize import rbf_rasterize
from fractalops.reference.svd_matrix import svd_matrix
from tests.support.raw_op_arguments import ARGUMENTS

Call = tuple[Any, ...]

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)
DTYPES += (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64)


def _chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    empty = index.shape[1] == 0
    return start.new_empty(*index.shape, start.shape[1]) if empty else affine_chain(matrix, offset, index, start)


def _chain_gradients(
    grad: Tensor, matrix: Tensor, index: Tensor, start: Tensor, points: Tensor, form: int = 0
) -> tuple[Tensor, ...]:
    """Return the gradients, computed step by step from the given points."""
    assert points.shape == grad.shape == (*index.shape, matrix.shape[1])
    before = torch.cat((start[:, None], points), 1)[:, :-1]  # (B, T, D)
    grad_matrix, grad_offset = torch.zeros_like(matrix), torch.zeros_like(matrix[..., 0])
    carried = torch.zeros_like(start)
    for t in reversed(range(index.shape[1])):
        adjoint, maps = grad[:, t] + carried, index[:, t].long()  # (B, D), (B,)
        grad_matrix.index_add_(0, maps, adjoint[:, :, None] * before[:, t, None])
        grad_offset.index_add_(0, maps, adjoint)
        carried = (matrix[maps].mT @ adjoint[..., None])[..., 0]
    return grad_matrix, grad_offset, carried


def _pull(function: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    value, pull = torch.func.vjp(function, *inputs)  # type: ignore[misc]
    assert value.shape == grad.shape
    found: tuple[Tensor, ...] = pull(grad)
    return found


def _drawing_gradients(
    grad: Tensor, points: Tensor, weight: Tensor | None, bandwidth: Tensor, cutoff: float, needs_bandwidth: bool
) -> tuple[Tensor, ...]:
    one = points.new_ones(*points.shape[:2], 1) if weight is None else weight

    def draw(points: Tensor, weight: Tensor, bandwidth: Tensor) -> Tensor:
        return rbf_rasterize(points, weight, bandwidth, *grad.shape[2:], cutoff)

    of_points, of_weight, of_bandwidth = _pull(draw, grad, points, one, bandwidth)
    empty = points.new_empty(0)
    return of_points, empty if weight is None else of_weight, of_bandwidth if needs_bandwidth else empty


REFERENCES: dict[str, Callable[..., Any]] = {
    "affine_chain_fwd": _chain,
    "affine_chain_bwd": _chain_gradients,
    "rbf_rasterize_fwd": rbf_rasterize,
    "rbf_rasterize_bwd": _drawing_gradients,
    "rasterize_points": rasterize_points,
    "svd_matrix_fwd": svd_matrix,
    "svd_matrix_bwd": lambda grad, svd, clamped: _pull(lambda svd: svd_matrix(svd, clamped), grad, svd)[0],
    "clamped_squared_error_fwd": clamped_squared_error,
    "clamped_squared_error_bwd": lambda grad, images, targets: _pull(
        lambda images: clamped_squared_error(images, targets), grad, images
    )[0],
    "draw_index": draw_index,
    "draw_balanced_index": draw_balanced_index,
    "fixed_point": fixed_point,
    "k_means": k_means,
    "draw_masks": draw_masks,
    "rasterize_orbit": rasterize_orbit,
}  # learn_steps has no reference of this signature: see tests/fitting/test_native_steps.py


def _changed(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield replacements of a tensor, with descriptions of the change."""
    yield "0-D", tensor.flatten()[0]
    yield "one dimension less", tensor[0]
    yield "one dimension more", tensor[None]
    yield "one dimension more at the end", tensor[..., None]
    for dim, size in enumerate(tensor.shape):
        for other in {0, 1, size - 1, size + 1}:
            yield f"size {other} in dimension {dim}", torch.cat((tensor, tensor), dim).narrow(dim, 0, other).clone()
    yield "nothing in it", tensor.new_empty(0)
    for dtype in DTYPES:
        yield str(dtype), tensor.to(dtype)
    yield "meta", tensor.to("meta")
    yield "transposed", tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor.repeat_interleave(2)[::2]
    yield "expanded", tensor[:1].expand_as(tensor)
    if not tensor.is_floating_point():
        yield "largest values", torch.full_like(tensor, torch.iinfo(tensor.dtype).max)
    if tensor.dtype.is_signed:
        yield "negative values", -1 - tensor
    if tensor.is_floating_point():
        for value in (float("nan"), float("inf"), 1e30):
            yield f"values {value}", torch.full_like(tensor, value)
    yield "sparse", tensor.to_sparse()


def trials(name: str, arguments: Call) -> Iterator[tuple[str, Call, bool]]:
    """Yield calls in which one argument or all tensors are changed, and whether their results can be compared."""
    tensors = [place for place, argument in enumerate(arguments) if isinstance(argument, Tensor)]
    for place, argument in enumerate(arguments):
        others: list[tuple[str, Any, bool]] = []
        if isinstance(argument, Tensor):
            # The results for values that no caller passes are undefined. Such values must not cause accesses outside
            # the tables.
            others = [(what, tensor, "values" not in what) for what, tensor in _changed(argument)]
        elif type(argument) is int and (name, place) != ("k_means", 2):  # it would take so many rounds
            others = [(str(number), number, False) for number in (-1, 0, 2**62)]
        elif type(argument) is float:
            others = [(str(number), number, False) for number in (-1.0, float("nan"), float("inf"))]
        for what, other, comparable in others:
            yield f"argument {place}: {what}", (*arguments[:place], other, *arguments[place + 1 :]), comparable
    for what, change in (
        ("float32", lambda tensor: tensor.float() if tensor.is_floating_point() else tensor),
        ("an empty batch", lambda tensor: tensor[:0]),
        ("meta", lambda tensor: tensor.to("meta")),
    ):
        yield (
            f"all {what}",
            tuple(change(each) if place in tensors else each for place, each in enumerate(arguments)),
            True,
        )


def _results(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def problem(name: str, arguments: Call, comparable: bool) -> str:
    """Return the problem of a call, empty if it is refused or correct."""
    copies = tuple(each.clone() if isinstance(each, Tensor) else each for each in arguments)
    try:
        found = _results(getattr(torch.ops.fractalops, name)(*copies))
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        return "" if str(error) else "an error without a message"
    if not comparable or name not in REFERENCES or any(each.is_meta for each in found):
        return ""
    try:
        expected = _results(REFERENCES[name](*arguments))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    except Exception as error:
        return f"it was taken, and is not what the reference gives: {error!r:.300}"
    return ""


def main() -> None:
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    for name, calls in ARGUMENTS.items():
        print(f"trying {name}", flush=True)
        for arguments in calls:
            for what, changed, comparable in trials(name, arguments):
                if wrong := problem(name, changed, comparable):
                    print(f"{name}: {what}: {wrong}".replace("\n", " "), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
