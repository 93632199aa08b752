"""The axes of the field's files and those of this package: the one place where coordinates are turned.

In the plane this package has its first coordinate along rows, downwards, and its second along columns. In space
`fractalops.project` looks along the first coordinate, and has the third one upwards.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Axes(NamedTuple):
    """A signed permutation: coordinate i of this package is `sign[i]` times coordinate `order[i]` of the file.

    Maps are turned by `A' = P A P^-1` and `b' = P b`, which is exact.
    """

    order: tuple[int, ...]
    sign: tuple[int, ...]

    def read(self, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (..., D, D) and (..., D) in this package's axes, from those of a file."""
        order, sign = list(self.order), offset.new_tensor(self.sign)  # (D,)
        turned = matrix[..., order, :][..., order] * (sign[:, None] * sign)
        return turned + 0, offset[..., order] * sign + 0  # adding 0 makes 0 of -0

    def write(self, matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (..., D, D) and (..., D) in the axes of a file."""
        return self._inverse().read(matrix, offset)

    def write_points(self, points: Tensor) -> Tensor:
        """Return points (..., D) in the axes of a file."""
        order, sign = self._inverse()
        return points[..., list(order)] * points.new_tensor(sign)

    def _inverse(self) -> Axes:
        order = sorted(range(len(self.order)), key=self.order.__getitem__)
        return Axes(tuple(order), tuple(self.sign[i] for i in order))


AS_THEY_STAND = {2: Axes((0, 1), (1, 1)), 3: Axes((0, 1, 2), (1, 1, 1))}
"""The axes of this package's own files, and of fractal-pretraining's arrays, which have x along rows, too."""

Y_UP = {2: Axes((1, 0), (-1, 1)), 3: Axes((2, 0, 1), (1, 1, 1))}
"""x to the right and y up, in space z towards the viewer: Fractint, and FractalDB, which turns its pictures over."""

Y_DOWN = {2: Axes((1, 0), (1, 1))}
"""x to the right and y down: flam3."""


def from_right_and_up(matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps of axes that point to the right and upwards, in the package's axes; exactly.

    In the plane the package's x axis goes along the rows of a picture, downwards, and its y axis to the right: (x, y)
    becomes (-y, x). In space `project` looks from the end of the first axis and sees the second to the right and the
    third upwards: (x, y, z), with z towards the viewer, becomes (z, x, y).

    Args:
        matrix: (..., D, D), D = 2 or 3.
        offset: (..., D).

    Returns:
        Both, of the same shapes.
    """
    return Y_UP[offset.shape[-1]].read(matrix, offset)


def to_right_and_up(matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps in axes that point to the right and upwards: the inverse of `from_right_and_up`."""
    return Y_UP[offset.shape[-1]].write(matrix, offset)
