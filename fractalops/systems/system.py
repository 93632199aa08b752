"""One iterated function system as plain tensors."""

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
    """One iterated function system: N affine maps `v -> A v + b`, how often each is drawn, and their colors.

    It is how systems are read from files, written and drawn, without gradients. Arrays and nested sequences become
    tensors: of float64 unless they have a floating-point dtype, which is one for `matrix` and `offset`.

    Raises:
        ValueError, TypeError: for a wrong shape, dtype or device, for colors outside [0, 1], and for probabilities that
            are negative, not finite or all zero. Maps may be NaN or infinite.
    """

    matrix: Tensor
    """(N, D, D), D = 2 or 3: the maps' linear parts."""
    offset: Tensor
    """(N, D): their translations."""
    probabilities: Tensor
    """(N,): how often each map is drawn, at least 0; they need not add up to 1."""
    color: Tensor | None = None
    """(N, C), of the dtype of `offset`: the maps' colors in [0, 1], of one channel (gray), of three (red, green, blue)
    or of others. None is a system without colors."""
    name: str = ""

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
        """D: 2 in the plane, 3 in space."""
        return self.offset.shape[1]

    @property
    def channels(self) -> int | None:
        """C, the number of channels of the maps' colors; None without colors."""
        return None if self.color is None else self.color.shape[1]

    def __len__(self) -> int:
        """Return the number of maps (N)."""
        return len(self.offset)

    def sample(
        self, points: int, *, burn_in: int = 20, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw points (points, D) of the attractor, and the maps (points,) that led to them; see `sample_attractor`."""
        sample = sample_attractor(
            self.matrix[None], self.offset[None], self.probabilities[None], points, burn_in=burn_in, generator=generator
        )  # (1, K, L, D), (1, K, L)
        return sample.points.flatten(0, 2)[:points], sample.maps.flatten()[:points]

    def points(self, points: int, *, burn_in: int = 20, generator: torch.Generator | None = None) -> Tensor:
        """Draw points (points, D) of the attractor, as `sample`."""
        return self.sample(points, burn_in=burn_in, generator=generator)[0]


def split_systems(
    matrix: Tensor, offset: Tensor, probabilities: Tensor, color: Tensor | None, numbers: Iterable[int]
) -> list[System]:
    """Return copies of some of S systems: (S, N, D, D), (S, N, D), (S, N), and (S, N, C) or None."""
    return [
        System(
            matrix[number].clone(),
            offset[number].clone(),
            probabilities[number].clone(),
            None if color is None else color[number].clone(),
        )
        for number in numbers
    ]


def shares_of(probabilities: Tensor) -> Tensor:
    """Return probabilities (..., N) of any positive sums in float64, scaled to add up to 1, also huge ones."""
    values = probabilities.double()
    total = values.sum(-1, keepdim=True)  # (..., 1)
    if not bool(total.isfinite().all()):
        scaled = values / values.amax(-1, keepdim=True)  # whose sum does not overflow
        values = torch.where(total.isfinite(), values, scaled)
        total = values.sum(-1, keepdim=True)
    return values / total


def to_tensor(function: str, argument: str, value: Any) -> Tensor:
    """Return numbers as a floating-point tensor without gradients, on the CPU unless they are one elsewhere.

    Whole numbers become float64. Raises `TypeError` for what is no array of numbers.
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
