"""The class `System`: one iterated function system as plain tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fractalops._checks import check_device, check_floating, check_tensor, shape_error
from fractalops.sampling import sample_attractor


@dataclass(frozen=True, eq=False)
class System:
    """One iterated function system: N affine maps `v -> A v + b` with probabilities and optional colors.

    Systems are read from files, written and drawn in this form, without gradients. Arguments are tensors, NumPy arrays
    or nested sequences. Numbers without a floating-point dtype become float64. `IFS.from_systems` creates a learnable
    module from systems.

    Args:
        matrix: Linear parts of the maps; shape (N, D, D) with N >= 1 and D = 2 or 3, floating-point.
        offset: Translations of the maps; shape (N, D), dtype of `matrix`.
        probabilities: Probabilities of the maps, at least 0, of any sum above 0; shape (N,).
        color: Colors of the maps in [0, 1], converted to the dtype of `offset`; shape (N, C), C = 1 for gray, C = 3 for
            red, green and blue. None (default) means a system without colors.
        name: Name of the system. Default: "".

    Raises:
        ValueError: If a shape or device is wrong, colors are outside [0, 1], or probabilities are negative, not finite,
            or all zero. Maps may be NaN or infinite.
        TypeError: If a dtype or type is wrong.

    Examples:
        >>> from fractalops.systems import System
        >>> system = System([[[0.5, 0], [0, 0.5]]] * 3, [[0, 0], [0.5, 0], [0, 0.5]], [1, 1, 1])
        >>> len(system), system.dimensions
        (3, 2)
        >>> system.points(1000).shape
        torch.Size([1000, 2])
    """

    matrix: Tensor
    """Linear parts of the maps, (N, D, D)."""
    offset: Tensor
    """Translations of the maps, (N, D)."""
    probabilities: Tensor
    """Probabilities of the maps, (N,), of any sum."""
    color: Tensor | None = None
    """Colors of the maps in [0, 1], (N, C); None for a system without colors."""
    name: str = ""
    """Name of the system."""

    def __post_init__(self) -> None:
        names = ("matrix", "offset", "probabilities") + (() if self.color is None else ("color",))
        for name in names:
            object.__setattr__(self, name, to_tensor("System", name, getattr(self, name)))
        check_floating("System", matrix=self.matrix, offset=self.offset)
        for name in names[2:]:
            check_device("System", name, getattr(self, name), "matrix", self.matrix)
        offset, color = self.offset, self.color
        if offset.dim() != 2 or len(offset) < 1 or offset.shape[1] not in (2, 3):
            raise shape_error("System", "offset", "(N, 2) or (N, 3) with N >= 1", offset)
        maps, dimensions = offset.shape
        if self.matrix.shape != (maps, dimensions, dimensions):
            raise shape_error("System", "matrix", f"({maps}, {dimensions}, {dimensions})", self.matrix)
        if self.probabilities.shape != (maps,):
            raise shape_error("System", "probabilities", f"({maps},)", self.probabilities)
        if color is not None and (color.dim() != 2 or len(color) != maps or color.shape[1] == 0):
            raise shape_error("System", "color", f"({maps}, C) with C >= 1", color)
        if color is not None:
            if bool(((color < 0) | (color > 1)).any()):
                low, high = (float(bound) for bound in color.aminmax())
                raise ValueError(f"System: color must lie in [0, 1], got values from {low:g} to {high:g}")
            object.__setattr__(self, "color", color.to(offset.dtype))
        probabilities = self.probabilities
        if not bool(((probabilities >= 0) & probabilities.isfinite()).all() & (probabilities > 0).any()):
            shown = probabilities[:8].tolist()
            raise ValueError(f"System: probabilities must be finite, non-negative and not all zero, got {shown}")

    @property
    def dimensions(self) -> int:
        """Number of dimensions D: 2 in the plane, 3 in space."""
        return self.offset.shape[1]

    @property
    def channels(self) -> int | None:
        """Number of color channels C; None for a system without colors."""
        return None if self.color is None else self.color.shape[1]

    def __len__(self) -> int:
        """Return the number of maps N."""
        return len(self.offset)

    def sample(
        self, points: int, *, burn_in: int = 20, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw points of the attractor and the maps that were applied last; see `sample_attractor`.

        Args:
            points: Number of points P, at least 1.
            burn_in: Number of points that are left out at the start of each sequence, at least 0. Default: 20.
            generator: Random number generator. None uses torch's global generator.

        Returns:
            The points, shape (P, D), and the index of the map that was applied last for each point, shape (P,), dtype
            uint8 if N <= 256, else int32.

        Raises:
            ValueError: If a number is out of range.
            TypeError: If an argument has a wrong type.
        """
        sample = sample_attractor(
            self.matrix[None], self.offset[None], self.probabilities[None], points, burn_in=burn_in, generator=generator
        )  # (1, K, L, D), (1, K, L)
        return sample.points.flatten(0, 2)[:points], sample.maps.flatten()[:points]

    def points(self, points: int, *, burn_in: int = 20, generator: torch.Generator | None = None) -> Tensor:
        """Draw points of the attractor, as `sample` does.

        Args:
            points: Number of points P, at least 1.
            burn_in: Number of points that are left out at the start of each sequence, at least 0. Default: 20.
            generator: Random number generator. None uses torch's global generator.

        Returns:
            The points, shape (P, D).

        Raises:
            ValueError: If a number is out of range.
            TypeError: If an argument has a wrong type.
        """
        return self.sample(points, burn_in=burn_in, generator=generator)[0]


def split_systems(
    matrix: Tensor, offset: Tensor, probabilities: Tensor, color: Tensor | None, numbers: Iterable[int]
) -> list[System]:
    """Return copies of the systems with the indices `numbers`.

    The arguments have shapes (S, N, D, D), (S, N, D), (S, N), and (S, N, C) or None.
    """
    return [
        System(
            matrix[number].clone(),
            offset[number].clone(),
            probabilities[number].clone(),
            None if color is None else color[number].clone(),
        )
        for number in numbers
    ]


def shares_of(probabilities: Tensor, rounding: float = 0.0) -> Tensor:
    """Return probabilities (..., N) of any positive sum, scaled to sum 1, in float64. The sum may overflow.

    Rows whose sum differs from 1 by at most `rounding` keep their values.
    """
    values = probabilities.double()
    total = values.sum(-1, keepdim=True)  # (..., 1)
    if not bool(total.isfinite().all()):
        scaled = values / values.amax(-1, keepdim=True)  # the sum of these does not overflow
        values = torch.where(total.isfinite(), values, scaled)
        total = values.sum(-1, keepdim=True)
    return torch.where((total - 1).abs() <= rounding, values, values / total)


def to_tensor(function: str, argument: str, value: Any) -> Tensor:
    """Convert a tensor, NumPy array or nested sequence of numbers to a floating-point tensor without gradients.

    A tensor keeps its device; other values are converted on the CPU. Integers and bools become float64. Raises
    `TypeError` if `value` is not an array of numbers.
    """
    if isinstance(value, Tensor):
        check_tensor(function, **{argument: value})
        tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{function}: {argument} must be a tensor or an array of numbers, got {value!r:.80}")
        tensor = torch.as_tensor(array, device="cpu")
    return tensor if tensor.is_floating_point() else tensor.double()
