"""The paper's fractal embedding layer: an iterated function system as the cell of a recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fractalops._checks import (
    check_dtype,
    check_floating,
    check_generator,
    check_index_range,
    check_integer,
    check_tensor,
    shape_error,
)
from fractalops.backends import debugging
from fractalops.ifs import IFS
from fractalops.ops.affine_chain import affine_chain
from fractalops.ops.svd_matrix import run_svd_matrix
from fractalops.reference.without_autocast import in_float32, widen
from fractalops.systems import device_for, random_systems
from fractalops.systems.stacking import Arrays
from fractalops.systems.system import to_tensor


class FractalEmbedding(nn.Module):
    """The fractal embedding layer of paper section 4.2, with the maps as the columns of two matrices (eq. 7).

    Parameters: `matrix_columns` (4, N), the paper's W_A, whose column n is `A[n]` row by row, and
    `offset_columns` (2, N), the paper's W_b, whose column n is `b[n]`. They start as a random system
    (`random_systems`), float32 or float64, on `device`, else on the generator's, else on torch's default. After
    `half()` or `bfloat16()` the parameters are kept so, all is computed in float32, and points have the parameters'
    dtype. Raises `ValueError` and `TypeError`.
    """

    def __init__(
        self,
        maps: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        maps = check_integer("FractalEmbedding", "maps", maps, 1)
        check_generator("FractalEmbedding", generator)
        check_dtype("FractalEmbedding", dtype)
        device = device_for(device, generator)
        self.matrix_columns = nn.Parameter(torch.empty(4, maps, device=device, dtype=dtype))
        self.offset_columns = nn.Parameter(torch.empty(2, maps, device=device, dtype=dtype))
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw a new random system."""
        columns = self.offset_columns
        drawn = random_systems(1, columns.shape[1], generator=generator, dtype=widen(columns).dtype)
        factors = (drawn.theta[..., None], drawn.phi[..., None], drawn.singular_values, drawn.reflection)
        matrix = run_svd_matrix(torch.cat(factors, -1), "clamp")[0]  # (N, 2, 2)
        self.matrix_columns.copy_(matrix.flatten(1).t())
        self.offset_columns.copy_(drawn.offset[0].t())

    @classmethod
    def from_maps(cls, matrix: Arrays, offset: Arrays) -> FractalEmbedding:
        """Return a layer that starts as a copy of `matrix` (N, 2, 2) and `offset` (N, 2), tensors, arrays or lists.

        Raises `ValueError` and `TypeError`.
        """
        matrix, offset = to_tensor("from_maps", "matrix", matrix), to_tensor("from_maps", "offset", offset)
        if matrix.dim() != 3 or matrix.shape[1:] != (2, 2):
            raise shape_error("from_maps", "matrix", "(N, 2, 2)", matrix)
        if offset.shape != matrix.shape[:2]:
            raise shape_error("from_maps", "offset", f"{tuple(matrix.shape[:2])}", offset)
        generator = torch.Generator()  # its draws are overwritten; the global generator stays as it is
        layer = cls(len(matrix), generator=generator, device=matrix.device, dtype=matrix.dtype)
        with torch.no_grad():
            layer.matrix_columns.copy_(matrix.flatten(1).t())
            layer.offset_columns.copy_(offset.t())
        return layer

    @classmethod
    def from_ifs(cls, ifs: IFS) -> FractalEmbedding:
        """Return a layer with the maps of all systems, without colors: S * N columns, system s from column s N on."""
        matrix, offset = ifs.maps()
        return cls.from_maps(matrix.flatten(0, 1), offset.flatten(0, 1))

    def extra_repr(self) -> str:
        """Return the text that `print` shows of the module."""
        return f"maps={self.offset_columns.shape[1]}"

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return `matrix` (N, 2, 2) and `offset` (N, 2), differentiable; float32 of parameters of half precision."""
        return widen(self.matrix_columns).t().reshape(-1, 2, 2), widen(self.offset_columns).t().contiguous()

    @in_float32
    def step(self, index: Tensor, points: Tensor) -> Tensor:
        """Return one call of the layer (eq. 7): `points` (B, 2) moved by the maps of the integer `index` (B,).

        Returns (B, 2). Raises `ValueError`, `TypeError` and, on the CPU, `IndexError`.
        """
        check_tensor("FractalEmbedding.step", index=index, points=points)
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"FractalEmbedding.step: index must be an integer tensor, got {index.dtype}")
        (matrix, offset), points = self.maps(), widen(points)
        check_floating("FractalEmbedding.step", offset_columns=offset, points=points)
        if index.dim() != 1 or points.shape != (len(index), 2):
            raise ValueError(
                "FractalEmbedding.step: index and points must have shapes (B,) and (B, 2), "
                f"got {tuple(index.shape)} and {tuple(points.shape)}"
            )
        check_index_range("FractalEmbedding.step", index, len(matrix), debugging())
        chosen = index.long()  # a uint8 tensor would be taken for a mask
        moved = (matrix[chosen] @ points.unsqueeze(-1)).squeeze(-1) + offset[chosen]
        return moved.to(self.offset_columns.dtype)

    def forward(self, index: Tensor, start: Tensor) -> Tensor:
        """Return T calls of the layer as one op: `index` (B, T), `start` (B, 2) or (2,), to points (B, T, 2)."""
        check_tensor("FractalEmbedding", start=start)
        return affine_chain(*self.maps(), index, widen(start)).to(self.offset_columns.dtype)
