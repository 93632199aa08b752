"""Where points of the plane lie in an image: viewports and bounding boxes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fractalops._checks import can_read

# (x_min, y_min, x_max, y_max), or each image's own bounding box: stretched over the image, or in its proportions.
Viewport = tuple[float, float, float, float] | Literal["stretch", "fit"]

DEFAULT_VIEWPORT = (-5.0, -5.0, 5.0, 5.0)  # of the published code


def _scale_and_shift(
    size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> tuple[list[float], list[float]]:
    """Return `s` and `o` of `u = s v + o`, which takes the viewport's corners to the centers of the corner pixels."""
    x_min, y_min, x_max, y_max = viewport
    scale = [(size[0] - 1) / (x_max - x_min), (size[1] - 1) / (y_max - y_min)]
    return scale, [-x_min * scale[0], -y_min * scale[1]]


def rounding(largest: Tensor) -> Tensor:
    """Return by how much coordinates of up to `largest` may differ by rounding, along a chain at rest."""
    return 64 * torch.finfo(largest.dtype).eps * largest


def constant_like(like: Tensor, values: list[float]) -> Tensor:
    """Return the values (V,), of the dtype and on the device of `like`."""
    if like.device.type == "cpu":
        return like.new_tensor(values)
    # Filled in on the device: a copy from the host would wait for it, and could not be captured in a graph.
    return torch.stack([like.new_full((), value) for value in values])


def fold_viewport(
    matrix: Tensor, offset: Tensor, start: Tensor, size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same systems in pixel coordinates, so that no pass over the points is needed.

    `A' = S A S^-1`, `b' = S b + o - A' o`, `u_0 = S v_0 + o`: matrix (N, 2, 2), offset (N, 2), start (..., 2) -> the
    same shapes. Both sides of `size` must be above 1, or S has no inverse.
    """
    scale, shift = _scale_and_shift(size, viewport)
    s, o = constant_like(matrix, scale), constant_like(matrix, shift)  # (2,), (2,)
    if scale[0] != scale[1]:
        matrix = matrix * (s[:, None] / s)
    return matrix, offset * s + (o - (matrix * o).sum(-1)), start * s + o


class Placement(NamedTuple):
    """The map from points to pixels: `(points - origin) * scale + target`."""

    origin: Tensor  # (..., 2), in the plane
    scale: Tensor  # (..., 2), pixels for a unit of the plane
    target: Tensor  # (..., 2), in pixels: where the origin lies

    def __call__(self, points: Tensor) -> Tensor:
        """Return the points (..., 2) in pixels."""
        return (points - self.origin) * self.scale + self.target

    def place_sequences(self, points: Tensor) -> Tensor:
        """Return points (B, K, L, 2) in pixels (B, K L, 2), by a placement of each cloud, (B, 1, 1, 2)."""
        # By whole sequences, in which the placement repeats: along pairs of numbers torch is several times slower.
        origin, scale, target = (
            part.expand(len(points), 1, 1, 2).flatten(1).repeat(1, points.shape[2])[:, None] for part in self
        )  # each (B, 1, 2 L)
        pixels = (points.flatten(2) - origin).mul_(scale).add_(target)  # (B, K, 2 L)
        return pixels.view(len(points), -1, 2)


@torch.no_grad()
def bounding_box(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest coordinates (B, D) of clouds of points (B, ..., D), detached.

    Points with a coordinate that is NaN, infinite or beyond a quarter of the dtype's range, in which sides are finite,
    are left out. The coordinates of a cloud without any other are infinity and minus infinity.
    """

    def reduced(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        # Dimension after dimension: along pairs of numbers torch is several times slower than along whole rows.
        while low.dim() > 2:
            low, high = low.amin(dim=1), high.amax(dim=1)
        return low, high

    points = points.detach()  # for forward mode, which `no_grad` doesn't stop
    low, high = reduced(points, points)
    limit = torch.finfo(points.dtype).max / 4
    if can_read(low) and bool(((low >= -limit) & (high <= limit)).all()):  # NaN reaches both
        return low, high
    within = (points.abs() <= limit).all(dim=-1, keepdim=True)  # (B, ..., 1)
    return reduced(torch.where(within, points, math.inf), torch.where(within, points, -math.inf))


@torch.no_grad()
def fit_to_frame(points: Tensor, size: tuple[int, int], *, keep_proportions: bool, margin: float = 0.0) -> Placement:
    """Return the placement that puts the bounding box of each cloud of points into an image.

    Args:
        points: (B, ..., 2). Those that are NaN or infinite are left out.
        size: (height, width) of the image, in pixels.
        keep_proportions: scale both axes alike, the box in the middle of the image; else each axis by itself. An axis
            along which the points differ by no more than rounding does is put in the middle.
        margin: the share of the image that stays empty on each side, in [0, 0.5).

    Returns:
        The placement, without gradients, in shapes (B, ..., 2) that broadcast with the points.
    """
    low, high = (bound.view(-1, *[1] * (points.dim() - 2), 2) for bound in bounding_box(points))  # (B, 1, 2)
    last = constant_like(points, [side - 1 for side in size])  # (2,)
    # The maps mix the axes, and so their rounding.
    extended = high - low > rounding(torch.maximum(-low, high).amax(-1, keepdim=True))  # (B, 1, 2)
    scale = (1 - 2 * margin) * last / (high - low)  # (B, 1, 2)
    if not keep_proportions:
        target = torch.where(extended, margin * last, last / 2)
        return Placement(low, torch.where(extended, scale, 0), target)
    least = torch.where(extended, scale, math.inf).amin(dim=-1, keepdim=True)  # (B, 1, 1)
    scale = torch.where(least.isfinite(), least, 0).expand_as(scale)
    return Placement((low + high) / 2, scale, (last / 2).expand_as(scale))


def place(viewport: Viewport, points: Tensor, size: tuple[int, int], margin: float = 0.0) -> Placement:
    """Return where a viewport that has been checked puts points (B, ..., 2), by their bounding boxes if it says so."""
    if isinstance(viewport, str):
        return fit_to_frame(points, size, keep_proportions=viewport == "fit", margin=margin)
    scale, shift = (constant_like(points, values) for values in _scale_and_shift(size, viewport))  # (2,), (2,)
    return Placement(torch.zeros_like(scale), scale, shift)
