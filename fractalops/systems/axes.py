"""Conversion between the axes of this package and those of common file formats.

In the plane, the first coordinate of this package goes down the rows of an image, and the second goes right along its
columns. In space, `fractalops.project` shows the first axis pointing to the viewer and the third pointing up.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Axes(NamedTuple):
    """A signed permutation P of axes: coordinate i of this package is `sign[i]` times coordinate `order[i]` of a file.

    Maps are converted by `A' = P A P^-1` and `b' = P b`, without rounding.
    """

    order: tuple[int, ...]
    sign: tuple[int, ...]

    def read(self, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Convert maps (..., D, D) and (..., D) from a file's axes to this package's axes."""
        order, sign = list(self.order), offset.new_tensor(self.sign)  # (D,)
        turned = matrix[..., order, :][..., order] * (sign[:, None] * sign)
        return turned + 0, offset[..., order] * sign + 0  # adding 0 turns -0 into 0

    def write(self, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Convert maps (..., D, D) and (..., D) from this package's axes to a file's axes."""
        return self._inverse().read(matrix, offset)

    def write_points(self, points: Tensor) -> Tensor:
        """Convert points (..., D) from this package's axes to a file's axes."""
        order, sign = self._inverse()
        return points[..., list(order)] * points.new_tensor(sign)

    def _inverse(self) -> Axes:
        order = sorted(range(len(self.order)), key=self.order.__getitem__)
        return Axes(tuple(order), tuple(self.sign[i] for i in order))


AS_THEY_STAND = {2: Axes((0, 1), (1, 1)), 3: Axes((0, 1, 2), (1, 1, 1))}
"""This package's axes, for its own files and the arrays of fractal-pretraining, whose x also goes down the rows."""

Y_UP = {2: Axes((1, 0), (-1, 1)), 3: Axes((2, 0, 1), (1, 1, 1))}
"""x to the right, y up, and in space z toward the viewer; for Fractint, and for FractalDB, which flips its pictures."""

Y_DOWN = {2: Axes((1, 0), (1, 1))}
"""x to the right and y down; for flam3."""


def from_right_and_up(matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Convert maps from the usual axes, x to the right and y up, to this package's axes, without rounding.

    In the plane, this package's x goes down the rows of an image and its y goes right along the columns: the point
    (x, y) becomes (-y, x). In space, `fractalops.project` shows this package's first axis pointing to the viewer, the
    second to the right and the third up: (x, y, z), with z toward the viewer, becomes (z, x, y).

    Args:
        matrix: Linear parts of the maps; shape (..., D, D) with D = 2 or 3.
        offset: Translations of the maps; shape (..., D).

    Returns:
        The converted `matrix` and `offset`, of the same shapes and dtypes.

    Examples:
        >>> import torch
        >>> from fractalops.systems import from_right_and_up
        >>> matrix, offset = from_right_and_up(torch.eye(2)[None] / 2, torch.tensor([[3.0, 4.0]]))
        >>> offset
        tensor([[-4.,  3.]])
    """
    return Y_UP[offset.shape[-1]].read(matrix, offset)


def to_right_and_up(matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Convert maps from this package's axes to the usual axes: the inverse of `from_right_and_up`.

    Args:
        matrix: Linear parts of the maps; shape (..., D, D) with D = 2 or 3.
        offset: Translations of the maps; shape (..., D).

    Returns:
        The converted `matrix` and `offset`, of the same shapes and dtypes.
    """
    return Y_UP[offset.shape[-1]].write(matrix, offset)
