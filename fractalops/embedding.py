"""The fractal embedding layer of the paper: an iterated function system as the cell of a recurrent network."""

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
    """The fractal embedding layer: N affine maps as columns of two learnable matrices (paper section 4.2, eq. 7).

    `step` applies one map to each point: `v_t = A[z_t] v_(t-1) + b[z_t]`. `forward` applies a sequence of maps in one
    op. The maps start as a random system (`random_systems`). `from_maps` and `from_ifs` start with given maps.

    After `half()` or `bfloat16()` the parameters stay in half precision. The layer computes in float32 and returns
    points in the dtype of the parameters.

    Args:
        maps: Number of maps N, at least 1.
        generator: Random number generator of the initial maps. None uses torch's global generator.
        device: Device of the parameters. None uses the device of `generator`, or torch's default device.
        dtype: Dtype of the parameters, float32 or float64. Default: float32.

    Attributes:
        matrix_columns (Parameter): The matrix W_A of the paper, shape (4, N). Column n contains the entries of `A[n]`,
            row by row.
        offset_columns (Parameter): The matrix W_b of the paper, shape (2, N). Column n is `b[n]`.

    Raises:
        ValueError: If `maps` is below 1.
        TypeError: If an argument has a wrong type, or `dtype` is not float32 or float64.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> layer = fractalops.FractalEmbedding(4)
        >>> index = torch.randint(4, (8, 100))
        >>> layer(index, torch.zeros(2)).shape
        torch.Size([8, 100, 2])
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
        """Replace the maps with a new random system.

        Args:
            generator: Random number generator. None uses torch's global generator.
        """
        columns = self.offset_columns
        drawn = random_systems(1, columns.shape[1], generator=generator, dtype=widen(columns).dtype)
        factors = (drawn.theta[..., None], drawn.phi[..., None], drawn.singular_values, drawn.reflection)
        matrix = run_svd_matrix(torch.cat(factors, -1), "clamp")[0]  # (N, 2, 2)
        self.matrix_columns.copy_(matrix.flatten(1).t())
        self.offset_columns.copy_(drawn.offset[0].t())

    @classmethod
    def from_maps(cls, matrix: Arrays, offset: Arrays) -> FractalEmbedding:
        """Create a layer whose parameters are copies of given maps.

        Args:
            matrix: Linear parts of the maps; a tensor, array or nested list of shape (N, 2, 2). Its dtype and device
                are those of the layer; integers become float64.
            offset: Translations of the maps; a tensor, array or nested list of shape (N, 2).

        Returns:
            The layer.

        Raises:
            ValueError: If a shape is wrong.
            TypeError: If an argument is not an array of numbers, or the dtype is not float32 or float64.
        """
        matrix, offset = to_tensor("from_maps", "matrix", matrix), to_tensor("from_maps", "offset", offset)
        if matrix.dim() != 3 or matrix.shape[1:] != (2, 2):
            raise shape_error("from_maps", "matrix", "(N, 2, 2)", matrix)
        if offset.shape != matrix.shape[:2]:
            raise shape_error("from_maps", "offset", f"{tuple(matrix.shape[:2])}", offset)
        generator = torch.Generator()  # the initial maps are overwritten: keep the global generator's state
        layer = cls(len(matrix), generator=generator, device=matrix.device, dtype=matrix.dtype)
        with torch.no_grad():
            layer.matrix_columns.copy_(matrix.flatten(1).t())
            layer.offset_columns.copy_(offset.t())
        return layer

    @classmethod
    def from_ifs(cls, ifs: IFS) -> FractalEmbedding:
        """Create a layer whose parameters are copies of the maps of an `IFS` module. Colors are ignored.

        Args:
            ifs: Module of S systems with N maps each.

        Returns:
            A layer of S * N maps. The maps of system s start at column s * N.
        """
        matrix, offset = ifs.maps()
        return cls.from_maps(matrix.flatten(0, 1), offset.flatten(0, 1))

    def extra_repr(self) -> str:
        """Return the text that `print` shows in the parentheses of the module."""
        return f"maps={self.offset_columns.shape[1]}"

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return the maps as differentiable functions of the parameters.

        Returns:
            The linear parts `matrix`, shape (N, 2, 2), and the translations `offset`, shape (N, 2). Both have the dtype
            of the parameters, or float32 if the parameters are in half precision.
        """
        return widen(self.matrix_columns).t().reshape(-1, 2, 2), widen(self.offset_columns).t().contiguous()

    @in_float32
    def step(self, index: Tensor, points: Tensor) -> Tensor:
        """Apply one map to each point (paper, equation 7).

        Args:
            index: Index of the map for each point, in [0, N); shape (B,), any integer dtype.
            points: Points; shape (B, 2), dtype of the parameters.

        Returns:
            The images of the points; shape (B, 2), differentiable in the parameters and in `points`.

        Raises:
            ValueError: If a shape or device is wrong.
            TypeError: If a dtype or type is wrong.
            IndexError: If an index is out of range. It is checked on the CPU, and on a GPU if `FRACTALOPS_DEBUG=1`.
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
        chosen = index.long()  # torch would use a uint8 tensor as a mask
        moved = (matrix[chosen] @ points.unsqueeze(-1)).squeeze(-1) + offset[chosen]
        return moved.to(self.offset_columns.dtype)

    def forward(self, index: Tensor, start: Tensor) -> Tensor:
        """Apply a sequence of T maps to each start, as `affine_chain` does; equal to T calls of `step`.

        Args:
            index: Index of the map for each step, in [0, N); shape (B, T), dtype uint8, int32 or int64.
            start: Points where the sequences start; shape (B, 2), or (2,) for all sequences; dtype of the parameters.

        Returns:
            All points of the sequences, without the start; shape (B, T, 2), differentiable in the parameters and in
            `start`.

        Raises:
            ValueError: If a shape or device is wrong.
            TypeError: If a dtype or type is wrong.
            IndexError: If an index is out of range. It is checked on the CPU, and on a GPU if `FRACTALOPS_DEBUG=1`.
        """
        check_tensor("FractalEmbedding", start=start)
        return affine_chain(*self.maps(), index, widen(start)).to(self.offset_columns.dtype)
