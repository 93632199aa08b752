"""Conversion of points in the plane to pixel coordinates, by viewports and bounding boxes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fractalops._checks import can_read

# (x_min, y_min, x_max, y_max), or the bounding box of each image's points: "stretch" scales each axis separately, "fit"
# keeps the proportions.
Viewport = tuple[float, float, float, float] | Literal["stretch", "fit"]

DEFAULT_VIEWPORT = (-5.0, -5.0, 5.0, 5.0)  # as in the published code


def _scale_and_shift(
    size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> tuple[list[float], list[float]]:
    """Return `s` and `o` of `u = s v + o`, which maps the viewport's corners to the centers of the corner pixels."""
    x_min, y_min, x_max, y_max = viewport
    scale = [(size[0] - 1) / (x_max - x_min), (size[1] - 1) / (y_max - y_min)]
    return scale, [-x_min * scale[0], -y_min * scale[1]]


def rounding(largest: Tensor) -> Tensor:
    """Return a bound of the rounding errors of a chain's points, if their largest absolute coordinate is `largest`."""
    return 64 * torch.finfo(largest.dtype).eps * largest


def constant_like(like: Tensor, values: list[float]) -> Tensor:
    """Return a tensor (V,) of the values, with the dtype and device of `like`."""
    if like.device.type == "cpu":
        return like.new_tensor(values)
    # A copy from the host would wait for the device and could not be captured in a CUDA graph.
    return torch.stack([like.new_full((), value) for value in values])


def fold_viewport(
    matrix: Tensor, offset: Tensor, start: Tensor, size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Convert maps and starts to pixel coordinates, so that the points need no conversion.

    With `u = S v + o` from `_scale_and_shift`: `A' = S A S^-1`, `b' = S b + o - A' o`, `u_0 = S v_0 + o`. Both sides of
    `size` must be above 1, because S has no inverse otherwise.

    Args:
        matrix: linear parts of the maps; shape (N, 2, 2).
        offset: translations of the maps; shape (N, 2).
        start: starts of the sequences; shape (..., 2).
        size: (height, width) of the image, in pixels.
        viewport: (x_min, y_min, x_max, y_max).

    Returns:
        The converted `matrix`, `offset` and `start`, of the same shapes.
    """
    scale, shift = _scale_and_shift(size, viewport)
    s, o = constant_like(matrix, scale), constant_like(matrix, shift)  # (2,), (2,)
    if scale[0] != scale[1]:
        matrix = matrix * (s[:, None] / s)
    return matrix, offset * s + (o - (matrix * o).sum(-1)), start * s + o


class Placement(NamedTuple):
    """The conversion of points to pixel coordinates: `(points - origin) * scale + target`."""

    origin: Tensor  # (..., 2), in the plane
    scale: Tensor  # (..., 2), pixels per unit of the plane
    target: Tensor  # (..., 2), pixel coordinates of the origin

    def __call__(self, points: Tensor) -> Tensor:
        """Return the pixel coordinates (..., 2) of points (..., 2)."""
        return (points - self.origin) * self.scale + self.target

    def place_sequences(self, points: Tensor) -> Tensor:
        """Return the pixel coordinates (B, K * L, 2) of points (B, K, L, 2), for fields of shape (B, 1, 1, 2)."""
        # Each row of the computation is a whole sequence: torch is several times slower on rows of two numbers.
        origin, scale, target = (
            part.expand(len(points), 1, 1, 2).flatten(1).repeat(1, points.shape[2])[:, None] for part in self
        )  # each (B, 1, 2 L)
        pixels = (points.flatten(2) - origin).mul_(scale).add_(target)  # (B, K, 2 L)
        return pixels.view(len(points), -1, 2)


@torch.no_grad()
def bounding_box(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest coordinates (B, D) of clouds of points (B, ..., D), detached.

    Points with a coordinate that is NaN, infinite, or above a quarter of the dtype's largest number are left out. This
    keeps the sides of the box finite. If no points remain, the results are infinity and minus infinity.
    """

    def reduced(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        # One dimension at a time: torch is several times slower if it reduces all dimensions before D together.
        while low.dim() > 2:
            low, high = low.amin(dim=1), high.amax(dim=1)
        return low, high

    points = points.detach()  # `no_grad` doesn't stop forward-mode differentiation
    low, high = reduced(points, points)
    limit = torch.finfo(points.dtype).max / 4
    if can_read(low) and bool(((low >= -limit) & (high <= limit)).all()):  # a NaN makes both NaN
        return low, high
    within = (points.abs() <= limit).all(dim=-1, keepdim=True)  # (B, ..., 1)
    return reduced(torch.where(within, points, math.inf), torch.where(within, points, -math.inf))


@torch.no_grad()
def fit_to_frame(points: Tensor, size: tuple[int, int], *, keep_proportions: bool, margin: float = 0.0) -> Placement:
    """Return the placement that fits the bounding box of each cloud of points into an image.

    Args:
        points: B clouds of points; shape (B, ..., 2). NaN and infinite points are left out.
        size: (height, width) of the image, in pixels.
        keep_proportions: if True, scale both axes by one factor and center the box; if False, scale each axis
            separately. If the points differ along an axis by rounding errors only, that axis is centered.
        margin: share of the image that stays empty on each side, in [0, 0.5).

    Returns:
        The placement, without gradients. Its fields have shapes (B, ..., 2) that broadcast with the points.
    """
    low, high = (bound.view(-1, *[1] * (points.dim() - 2), 2) for bound in bounding_box(points))  # (B, 1, 2)
    last = constant_like(points, [side - 1 for side in size])  # (2,)
    # The maps mix the axes, so the rounding of one axis reaches the other.
    extended = high - low > rounding(torch.maximum(-low, high).amax(-1, keepdim=True))  # (B, 1, 2)
    scale = (1 - 2 * margin) * last / (high - low)  # (B, 1, 2)
    if not keep_proportions:
        target = torch.where(extended, margin * last, last / 2)
        return Placement(low, torch.where(extended, scale, 0), target)
    least = torch.where(extended, scale, math.inf).amin(dim=-1, keepdim=True)  # (B, 1, 1)
    scale = torch.where(least.isfinite(), least, 0).expand_as(scale)
    return Placement((low + high) / 2, scale, (last / 2).expand_as(scale))


def place(viewport: Viewport, points: Tensor, size: tuple[int, int], margin: float = 0.0) -> Placement:
    """Return the placement of points (B, ..., 2) by a checked viewport. `margin` applies to "stretch" and "fit"."""
    if isinstance(viewport, str):
        return fit_to_frame(points, size, keep_proportions=viewport == "fit", margin=margin)
    scale, shift = (constant_like(points, values) for values in _scale_and_shift(size, viewport))  # (2,), (2,)
    return Placement(torch.zeros_like(scale), scale, shift)
