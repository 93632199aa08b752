"""The recurrent affine chain as a differentiable op (paper sections 4.2 and 4.4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fractalops._checks import check_device, check_floating, check_index_range, check_tensor, shape_error
from fractalops.backends import choose
from fractalops.ops.folding import fold, unfold, with_batch
from fractalops.ops.function import apply_function
from fractalops.ops.library import LIBRARY
from fractalops.reference import affine_chain as reference

INDEX_DTYPES = (torch.uint8, torch.int32, torch.int64)


@torch.library.register_fake("fractalops::affine_chain_fwd", lib=LIBRARY)
def _forward_fake(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, form: int = 0) -> Tensor:
    return matrix.new_empty(index.shape[0], index.shape[1], matrix.shape[1])


@torch.library.register_fake("fractalops::affine_chain_bwd", lib=LIBRARY)
def _backward_fake(
    grad: Tensor, matrix: Tensor, index: Tensor, start: Tensor, points: Tensor, form: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    return matrix.new_empty(matrix.shape), matrix.new_empty(matrix.shape[:2]), start.new_empty(start.shape)


def _fold_index(index: Tensor, dim: int | None, size: int, maps: int) -> Tensor:
    """Each copy of the batch has maps of its own: (B, T) -> (size * B, T), shifted past the maps of those before."""
    # Once shifted, an index out of range would reach the maps of another copy.
    check_index_range("affine_chain", index, maps)
    index = with_batch(index, dim, size).long()  # (size, B, T)
    if index.is_cuda:  # as the kernel does
        index = index.clamp(0, maps - 1)
    first = torch.arange(size, device=index.device)[:, None, None] * maps  # (size, 1, 1)
    return (index + first).flatten(0, 1)


@torch.library.register_vmap("fractalops::affine_chain_fwd", lib=LIBRARY)
def _forward_vmap(
    info: Any,
    dims: tuple[int | None, ...],
    matrix: Tensor,
    offset: Tensor,
    index: Tensor,
    start: Tensor,
    form: int = 0,
) -> tuple[Tensor, int]:
    size = info.batch_size
    matrix, offset, start = fold(size, (matrix, dims[0]), (offset, dims[1]), (start, dims[3]))
    index = _fold_index(index, dims[2], size, matrix.shape[0] // size)
    return unfold(size, torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, form)), 0


@torch.library.register_vmap("fractalops::affine_chain_bwd", lib=LIBRARY)
def _backward_vmap(
    info: Any,
    dims: tuple[int | None, ...],
    grad: Tensor,
    matrix: Tensor,
    index: Tensor,
    start: Tensor,
    points: Tensor,
    form: int = 0,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    size = info.batch_size
    grad, matrix, start, points = fold(size, (grad, dims[0]), (matrix, dims[1]), (start, dims[3]), (points, dims[4]))
    index = _fold_index(index, dims[2], size, matrix.shape[0] // size)
    grads = torch.ops.fractalops.affine_chain_bwd(grad, matrix, index, start, points, form)
    return tuple(unfold(size, grad) for grad in grads), (0, 0, 0)


class AffineChain(torch.autograd.Function):
    """The native chain. Saved for backward: the points, the index and the small inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
        points: Tensor = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
        return points

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        matrix, _, index, start = inputs
        ctx.save_for_backward(matrix, index, start, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        matrix, index, start, points = ctx.saved_tensors
        grad_matrix, grad_offset, grad_start = torch.ops.fractalops.affine_chain_bwd(grad, matrix, index, start, points)
        return grad_matrix, grad_offset, None, grad_start


def affine_chain(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, *, backend: str | None = None) -> Tensor:
    """Run sequences of affine maps and return every point on the way (paper, equation 3).

    `v_t = matrix[index_t] v_(t-1) + offset[index_t]` for t = 1..T, with `v_0 = start`.

    The CPU checks the index as it reads it. On a GPU the native backend takes an index out of range for the nearest
    one in range; the environment variable `FRACTALOPS_DEBUG=1`, read when the package is imported, makes it an error
    there too, for which every call waits for the device.

    Args:
        matrix: (N, D, D), the maps' linear parts, D = 2 or 3; float32 or float64.
        offset: (N, D), their translations.
        index: (B, T), which map each step takes, in [0, N), T >= 1; uint8, int32 or int64. Many systems run in one
            call by concatenating their maps and shifting the index (paper section 4.2).
        start: (B, D), or (D,) for all sequences.
        backend: `"native"` or `"reference"`; None chooses by device. The reference takes any floating dtype.

    Returns:
        points (B, T, D), differentiable in matrix, offset and start. The native backend sums the maps' gradients in
        double; on a GPU up to 4096 points in the dtype first.

    Raises:
        ValueError: for a wrong shape, device or backend.
        IndexError: for an index out of range, on the CPU or in debug mode.
        TypeError: for a wrong dtype, or an argument that is no tensor.
        BackendError: where the backend asked for can't run.
    """
    check_tensor("affine_chain", matrix=matrix, offset=offset, index=index, start=start)
    chosen = choose("affine_chain", matrix.device, backend)
    check_floating("affine_chain", chosen, matrix=matrix, offset=offset, start=start)
    if matrix.dim() != 3 or matrix.shape[1] not in (2, 3) or matrix.shape[2] != matrix.shape[1] or len(matrix) == 0:
        raise shape_error("affine_chain", "matrix", "(N, D, D) with N >= 1 and D = 2 or 3", matrix)
    maps, dimensions = matrix.shape[:2]
    if offset.shape != (maps, dimensions):
        raise shape_error("affine_chain", "offset", f"({maps}, {dimensions})", offset)
    if index.dtype not in INDEX_DTYPES:
        raise TypeError(f"affine_chain: index must be uint8, int32 or int64, got {index.dtype}")
    if index.dim() != 2 or index.shape[1] == 0:
        raise shape_error("affine_chain", "index", "(B, T) with T >= 1", index)
    check_device("affine_chain", "index", index, "matrix", matrix)
    if start.shape not in ((dimensions,), (index.shape[0], dimensions)):
        raise shape_error("affine_chain", "start", f"({index.shape[0]}, {dimensions}) or ({dimensions},)", start)
    start = start.expand(index.shape[0], dimensions)  # (B, D)
    if chosen == "reference" or index.is_cuda:  # the native CPU op does so itself
        check_index_range("affine_chain", index, maps)
    points: Tensor
    arguments = (matrix, offset, index, start)
    points = apply_function(AffineChain, *arguments) if chosen == "native" else reference.affine_chain(*arguments)
    return points
