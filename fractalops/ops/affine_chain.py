"""The recurrent affine chain as a differentiable op (paper sections 4.2 and 4.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding

from fractalops._checks import check_device, check_floating, check_index, check_index_range, check_tensor, shape_error
from fractalops.backends import Backend, debugging
from fractalops.ops._define import define, takes_native
from fractalops.ops._differentiate import Gradients, differentiate
from fractalops.reference import affine_chain as reference
from fractalops.reference.without_autocast import in_float32


def _shift_index(index: Tensor, maps: int) -> Tensor:
    """Give each copy of a batch maps of its own: index (size, B, T) -> shifted past the maps of the copies before."""
    # Once shifted, an index out of range would reach the maps of another copy.
    check_index_range("affine_chain", index, maps, debugging())
    index = index.long()
    if index.is_cuda:  # as the kernel does
        index = index.clamp(0, maps - 1)
    return index + torch.arange(len(index), device=index.device)[:, None, None] * maps


_forward = define(
    "affine_chain_fwd",
    lambda matrix, offset, index, start, form=0: matrix.new_empty(*index.shape, matrix.shape[1]),
    lambda size, matrix, offset, index, *others: (matrix, offset, _shift_index(index, matrix.shape[1]), *others),
)
_backward = define(
    "affine_chain_bwd",
    lambda grad, matrix, index, start, points, form=0: (
        matrix.new_empty(matrix.shape),
        matrix.new_empty(matrix.shape[:2]),
        start.new_empty(start.shape),
    ),
    lambda size, grad, matrix, index, *others: (grad, matrix, _shift_index(index, matrix.shape[1]), *others),
)


def _run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    output: Tensor = _forward(matrix, offset, index, start)
    return output


def _gradients(
    needed: tuple[bool, ...], grad: Tensor, points: Tensor, matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor
) -> Gradients:
    grad_matrix, grad_offset, grad_start = _backward(grad, matrix, index, start, points)
    return grad_matrix, grad_offset, None, grad_start


def _formula(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
    """Return the chain in few tensor operations: after k rounds each point has the part of the last 2^k maps."""
    index = index.long()  # (B, T)
    if index.is_cuda:  # as the kernel does
        index = index.clamp(0, len(matrix) - 1)
    # Unlike indexing, `embedding` can be vmapped in every derivative, and is deterministic on a GPU.
    maps = embedding(index, matrix.double().flatten(1)).unflatten(-1, matrix.shape[1:])  # (B, T, D, D)
    first = (maps[:, 0] * start.double()[:, None]).sum(-1)  # (B, D)
    points = embedding(index, offset.double())  # (B, T, D)
    points = torch.cat((points[:, :1] + first[:, None], points[:, 1:]), dim=1)
    products = maps[:, 1:]  # (B, T - 2^k, D, D), the products of 2^k maps
    reach = 1
    while reach < index.shape[1]:
        moved = (products * points[:, :-reach, None]).sum(-1)  # (B, T - 2^k, D)
        points = torch.cat((points[:, :reach], points[:, reach:] + moved), dim=1)
        products = (products[:, reach:, :, :, None] * products[:, :-reach, None]).sum(-2)
        reach *= 2
    return points.to(matrix.dtype)


_native = differentiate(_run, _gradients, _formula, keeps_output=True)


def check_chain(
    function: str,
    matrix: Tensor,
    offset: Tensor,
    index: Tensor,
    start: Tensor | None,
    dimensions: tuple[int, ...] = (2, 3),
) -> None:
    """Raise `ValueError` or `TypeError` for arguments that `affine_chain` doesn't take.

    The range of the index is not looked at. A `start` of None is left to the caller; D must be one of `dimensions`.
    """
    check_tensor(function, matrix=matrix, offset=offset, index=index)
    check_floating(function, matrix=matrix, offset=offset)
    if matrix.dim() != 3 or matrix.shape[1] not in dimensions or matrix.shape[2] != matrix.shape[1] or len(matrix) == 0:
        expected = f"(N, D, D) with N >= 1 and D = {' or '.join(map(str, dimensions))}"
        raise shape_error(function, "matrix", expected, matrix)
    maps, dimension = matrix.shape[:2]
    if offset.shape != (maps, dimension):
        raise shape_error(function, "offset", f"({maps}, {dimension})", offset)
    check_index(function, index)
    if index.dim() != 2 or index.shape[1] == 0:
        raise shape_error(function, "index", "(B, T) with T >= 1", index)
    check_device(function, "index", index, "matrix", matrix)
    if start is None:
        return
    check_tensor(function, start=start)
    check_floating(function, matrix=matrix, start=start)
    if start.shape not in ((dimension,), (index.shape[0], dimension)):
        raise shape_error(function, "start", f"({index.shape[0]}, {dimension}) or ({dimension},)", start)


def run_affine_chain(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, backend: Backend | None = None
) -> Tensor:
    """Run `affine_chain` on arguments that `check_chain` has passed. The range of the index is checked all the same."""
    native = takes_native("affine_chain", "matrix", matrix, backend)
    start = start.expand(index.shape[0], matrix.shape[1])  # (B, D)
    if not native or index.is_cuda:  # the native CPU op does so itself
        check_index_range("affine_chain", index, len(matrix), debugging())
    run = _native if native else reference.affine_chain
    return run(matrix, offset, index, start)


@in_float32
def affine_chain(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, *, backend: Backend | None = None
) -> Tensor:
    """Run sequences of affine maps and return every point on the way (paper, equation 3).

    `v_t = matrix[index_t] v_(t-1) + offset[index_t]` for t = 1..T, with `v_0 = start`.

    The CPU checks the index as it reads it. On a GPU the native backend takes an index out of range for the nearest
    one in range; the environment variable `FRACTALOPS_DEBUG=1`, read when the package is imported, makes it an error
    there too, for which every call waits for the device.

    Under autocast, tensors in half precision become float32.

    Args:
        matrix: (N, D, D), the maps' linear parts, D = 2 or 3; float32 or float64.
        offset: (N, D), their translations.
        index: (B, T), which map each step takes, in [0, N), T >= 1; uint8, int32 or int64. Many systems run in one
            call by concatenating their maps and shifting the index (paper section 4.2).
        start: (B, D), or (D,) for all sequences.
        backend: `"native"` or `"reference"`; None chooses by device. The reference takes any floating dtype.

    Returns:
        points (B, T, D), differentiable in matrix, offset and start, any number of times and in forward mode. The
        native backend sums the maps' gradients in double; on a GPU up to 4096 points in the dtype first. Its other
        derivatives are of log2(T) tensor operations in float64, each of which keeps B T (D^2 + D) numbers.

    Raises:
        ValueError: for a wrong shape, device or backend.
        IndexError: for an index out of range, on the CPU or in debug mode.
        TypeError: for a wrong dtype, or an argument that is no tensor.
        BackendError: where the backend asked for can't run.
    """
    check_chain("affine_chain", matrix, offset, index, start)
    return run_affine_chain(matrix, offset, index, start, backend)
