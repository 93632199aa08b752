"""The chain of affine maps as a differentiable op (paper sections 4.2 and 4.4)."""

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
    """Add to the index of each vmapped copy the number of maps of the copies before it: index (size, B, T).

    The maps of all copies are concatenated, and each copy must use its own.
    """
    # Checked here, because a shifted index that is out of range would select a map of another copy.
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
    """Compute the points in log2(T) rounds of tensor operations.

    After k rounds, each point is the result of the last 2^k maps of the sequence up to it.
    """
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
    """Raise `ValueError` or `TypeError` if arguments are not valid for `affine_chain`.

    The values of the index are not checked. If `start` is None, it is not checked. D must be one of `dimensions`.
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
    """Run `affine_chain` on arguments that `check_chain` has checked. Only the values of the index are checked here."""
    native = takes_native("affine_chain", "matrix", matrix, backend)
    start = start.expand(index.shape[0], matrix.shape[1])  # (B, D)
    if not native or index.is_cuda:  # the native CPU op checks the index itself
        check_index_range("affine_chain", index, len(matrix), debugging())
    run = _native if native else reference.affine_chain
    return run(matrix, offset, index, start)


@in_float32
def affine_chain(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, *, backend: Backend | None = None
) -> Tensor:
    """Apply sequences of affine maps to starting points and return all points of the chains.

    Each step applies one map to the previous point (paper section 4.2, equation 3):

        v_t = matrix[index_t] v_(t-1) + offset[index_t]    for t = 1..T, with v_0 = start

    To run many systems in one call, concatenate their maps, and add to each index the number of maps before its system
    (paper section 4.2).

    The op is differentiable in matrix, offset and start, any number of times, in backward and forward mode. In the
    first derivative, the native backend sums the gradients of the maps in float64; on a GPU, it first sums up to 4096
    points in the dtype of the tensors. All other derivatives use log2(T) rounds of tensor operations in float64. Each
    round keeps B T (D^2 + D) numbers in memory.

    On the CPU, an index that is out of range is an error. On a GPU, the native backend clamps the index to [0, N). If
    the environment variable `FRACTALOPS_DEBUG=1` was set when the package was imported, an index that is out of range
    is an error on a GPU too, and every call waits for the device.

    Under autocast, float16 and bfloat16 tensors are converted to float32.

    Args:
        matrix: Linear parts of the maps; shape (N, D, D) with N >= 1 and D = 2 or 3, dtype float32 or float64.
        offset: Translations of the maps; shape (N, D), dtype of `matrix`.
        index: Index of the map for each step, in [0, N); shape (B, T) with T >= 1, dtype uint8, int32 or int64.
        start: Points where the sequences start; shape (B, D), or (D,) for all sequences, dtype of `matrix`.
        backend: "native" or "reference". None (default) means the backend that `use_backend` or the environment
            variable `FRACTALOPS_BACKEND` selects, else "native" if it can run on the device. The reference takes any
            floating dtype.

    Returns:
        Points v_1 to v_T of each sequence; shape (B, T, D), dtype and device of `matrix`.

    Raises:
        ValueError: If a shape, a device or `backend` is invalid.
        IndexError: If an index is out of range, on the CPU or in debug mode.
        TypeError: If a dtype is invalid or an argument is not a tensor.
        BackendError: If the requested backend can't run.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> matrix = 0.5 * torch.eye(2).repeat(3, 1, 1)  # the maps of Sierpinski's triangle
        >>> offset = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.25, 0.5]])
        >>> index = torch.tensor([[0, 1, 2]])
        >>> fractalops.affine_chain(matrix, offset, index, start=torch.zeros(2))
        tensor([[[0.0000, 0.0000],
                 [0.5000, 0.0000],
                 [0.5000, 0.5000]]])
    """
    check_chain("affine_chain", matrix, offset, index, start)
    return run_affine_chain(matrix, offset, index, start, backend)
