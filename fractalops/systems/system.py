"""One iterated function system as plain tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fractalops._checks import check_floating, shape_error


@dataclass(frozen=True, eq=False)
class System:
    """One iterated function system: N affine maps `v -> A v + b`, how often each is drawn, and their colors.

    It is how systems are read from files, written and drawn, without gradients. Arrays and nested sequences become
    tensors: of float64 unless they have a floating-point dtype, which is one for `matrix` and `offset`.

    Raises:
        ValueError, TypeError: for a wrong shape or dtype, and for probabilities that are negative, not finite or all
            zero.
    """

    matrix: Tensor
    """(N, D, D), D = 2 or 3: the maps' linear parts."""
    offset: Tensor
    """(N, D): their translations."""
    probabilities: Tensor
    """(N,): how often each map is drawn, at least 0; they need not add up to 1."""
    color: Tensor | None = None
    """(N, C): the maps' colors in [0, 1], of one channel (gray), of red, green and blue, or of any others. None is a
    system without colors."""
    name: str = ""

    def __post_init__(self) -> None:
        names = ("matrix", "offset", "probabilities") + (() if self.color is None else ("color",))
        for name in names:
            object.__setattr__(self, name, _to_tensor(getattr(self, name)))
        check_floating("System", matrix=self.matrix, offset=self.offset)
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
        probabilities = self.probabilities
        if not bool(((probabilities >= 0) & probabilities.isfinite()).all() & (probabilities > 0).any()):
            shown = probabilities[:8].tolist()
            raise ValueError(f"System: probabilities must be finite, non-negative and not all zero, got {shown}")

    @property
    def dimensions(self) -> int:
        """D: 2 in the plane, 3 in space."""
        return self.offset.shape[1]

    def __len__(self) -> int:
        """N, the number of maps."""
        return len(self.offset)


def _to_tensor(value: Any) -> Tensor:
    """Return a tensor as it is, and numbers as one on the CPU, without gradients."""
    if isinstance(value, Tensor):
        return value.detach()
    tensor = torch.as_tensor(np.asarray(value), device="cpu")  # of Python's numbers: float64 or int64
    return tensor if tensor.is_floating_point() else tensor.double()
