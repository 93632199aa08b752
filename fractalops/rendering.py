"""Images of iterated function systems: chain, rasterizer, clamp (paper, figure 1)."""

from __future__ import annotations

import math
import numbers
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding

from fractalops._checks import check_floating, check_tensor, shape_error
from fractalops.ops.affine_chain import affine_chain
from fractalops.ops.fixed_point import fixed_point
from fractalops.ops.rbf_rasterize import check_size, rbf_rasterize

Viewport = tuple[float, float, float, float] | Literal["fit"]


def check_viewport(function: str, viewport: Viewport) -> None:
    """Raises `ValueError` unless `viewport` is "fit" or four finite numbers that span a rectangle."""
    if isinstance(viewport, str) and viewport == "fit":
        return
    if not (
        isinstance(viewport, (tuple, list))
        and len(viewport) == 4
        and all(isinstance(bound, numbers.Real) and math.isfinite(bound) for bound in viewport)
        and viewport[0] < viewport[2]
        and viewport[1] < viewport[3]
    ):
        raise ValueError(
            f"{function}: viewport must be 'fit' or (x_min, y_min, x_max, y_max) with x_min < x_max and y_min < y_max, "
            f"got {viewport!r}"
        )


def _scale_and_shift(
    size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> tuple[list[float], list[float]]:
    """`s` and `o` of `u = s v + o`, which takes the viewport's corners to the centers of the corner pixels."""
    x_min, y_min, x_max, y_max = viewport
    scale = [(size[0] - 1) / (x_max - x_min), (size[1] - 1) / (y_max - y_min)]
    return scale, [-x_min * scale[0], -y_min * scale[1]]


def _constant(like: Tensor, values: list[float]) -> Tensor:
    """The values (V,), of the dtype and on the device of `like`."""
    if like.device.type == "cpu":
        return like.new_tensor(values)
    # Filled in on the device: a copy from the host would wait for it, and could not be captured in a graph.
    return torch.stack([like.new_full((), value) for value in values])


def fold_viewport(
    matrix: Tensor,
    offset: Tensor,
    start: Tensor,
    size: tuple[int, int],
    viewport: tuple[float, float, float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """The same systems in pixel coordinates, so that no pass over the points is needed.

    `A' = S A S^-1`, `b' = S b + o - A' o`, `u_0 = S v_0 + o`: matrix (N, 2, 2), offset (N, 2), start (..., 2) -> the
    same shapes. Both sides of `size` must be above 1, or S has no inverse.
    """
    scale, shift = _scale_and_shift(size, viewport)
    s, o = _constant(matrix, scale), _constant(matrix, shift)  # (2,), (2,)
    if scale[0] != scale[1]:
        matrix = matrix * (s[:, None] / s)
    return matrix, offset * s + (o - (matrix * o).sum(-1)), start * s + o


def _fit_points(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Each image's own (detached) bounding box, stretched over its pixels: (B, T, 2) -> (B, T, 2)."""
    with torch.no_grad():
        finite = points.isfinite().all(dim=2, keepdim=True)  # (B, T, 1): the others are not drawn
        low = torch.where(finite, points, math.inf).amin(dim=1, keepdim=True)  # (B, 1, 2)
        high = torch.where(finite, points, -math.inf).amax(dim=1, keepdim=True)  # (B, 1, 2)
        last = _constant(points, [size[0] - 1, size[1] - 1])
        flat = ~(high > low)
        scale = torch.where(flat, 0, last / (high - low))
        middle = torch.where(flat, last / 2, 0)
    return (points - low) * scale + middle


def _color_points(color: Tensor, index: Tensor) -> Tensor:
    """The color of each point's map: color (N, C), index (B, T) -> (B, T, C). Its gradient is deterministic."""
    chosen = index.long()  # a uint8 tensor would be taken for a mask
    if chosen.device.type != "cpu":
        # The gradient is sorted by map, where that of gather would use atomics. Like the chain, never past the table.
        return embedding(chosen.clamp(0, len(color) - 1), color)
    # Gathered along rows: the gradient adds each channel up on one thread, in float64 for maps of a million points.
    rows = color.t().double().gather(1, chosen.flatten().expand(color.shape[1], -1))  # (C, B * T)
    return rows.t().reshape(*index.shape, color.shape[1]).to(color.dtype)


def render(
    matrix: Tensor,
    offset: Tensor,
    index: Tensor,
    size: int | tuple[int, int],
    *,
    start: Tensor | None = None,
    viewport: Viewport = (-5.0, -5.0, 5.0, 5.0),
    bandwidth: float | Tensor = 1.0,
    weight: Tensor | None = None,
    color: Tensor | None = None,
    clamp: bool = True,
    cutoff: float | None = 1e-6,
    backend: str | None = None,
) -> Tensor:
    """Draw sequences of affine maps as images (paper sections 4.2 and 4.3).

    Args:
        matrix: (N, 2, 2), the maps' linear parts; float32 or float64.
        offset: (N, 2), their translations.
        index: (B, T), which map each step takes, in [0, N); uint8, int32 or int64. One image for each sequence.
        size: the images' side, or (height, width), in pixels.
        start: (B, 2) or (2,), where the sequences start; None is the (detached) fixed point of map 0. Systems that are
            concatenated need starts of their own: see `IFS.concatenated`.
        viewport: (x_min, y_min, x_max, y_max), the rectangle that the image shows, x along rows: its corners are the
            centers of the corner pixels. "fit" takes each image's own bounding box, through which no gradient flows.
        bandwidth: of the Gaussian bumps, in square pixels; a number, or a tensor () or (B,).
        weight: (B, T), or (B, T, C) for C channels; None is 1 for every point.
        color: (N, C), the weight of each map's points in C channels; excludes `weight`. Its gradient is the same bits
            in every run.
        clamp: limit the image to [0, 1] (paper section 4.3).
        cutoff: a point is left out of the pixels on which its bump is lower; None leaves out none.
        backend: `"native"` or `"reference"` for the chain and the rasterizer; None chooses by device.

    Returns:
        image (B, H, W), or (B, C, H, W) with a weight or colors of C channels; differentiable in matrix, offset,
        start, bandwidth, weight and color.

    Raises:
        ValueError: for a wrong shape, device, range, viewport or backend, and for both a weight and colors.
        IndexError: for an index out of range, on the CPU.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend asked for can't run.
    """
    check_tensor("render", matrix=matrix, offset=offset, index=index)
    check_floating("render", "reference", matrix=matrix, offset=offset)  # the ops ask for what their backends can do
    if matrix.dim() != 3 or matrix.shape[1:] != (2, 2) or len(matrix) == 0:
        raise shape_error("render", "matrix", "(N, 2, 2) with N >= 1", matrix)
    if offset.shape != matrix.shape[:2]:
        raise shape_error("render", "offset", f"({matrix.shape[0]}, 2)", offset)
    if index.dim() != 2:
        raise shape_error("render", "index", "(B, T)", index)
    sides = check_size("render", size)
    check_viewport("render", viewport)
    if start is None:
        start = fixed_point(matrix[0], offset[0])  # (2,)
    # Checked here, not left to the op: folding the viewport would broadcast and promote what doesn't fit.
    check_tensor("render", start=start)
    check_floating("render", "reference", matrix=matrix, start=start)
    if start.shape not in ((2,), (len(index), 2)):
        raise shape_error("render", "start", f"({len(index)}, 2) or (2,)", start)
    if color is not None:
        check_tensor("render", color=color)
        check_floating("render", "reference", matrix=matrix, color=color)
        if color.dim() != 2 or len(color) != len(matrix) or color.shape[1] == 0:
            raise shape_error("render", "color", f"({len(matrix)}, C) with C >= 1", color)
        if weight is not None:
            raise ValueError("render: color must be None where weight is given, got both")
    if viewport == "fit":
        points = _fit_points(affine_chain(matrix, offset, index, start, backend=backend), sides)  # (B, T, 2)
    elif min(sides) == 1:
        scale, shift = _scale_and_shift(sides, viewport)
        points = affine_chain(matrix, offset, index, start, backend=backend)  # (B, T, 2)
        points = points * _constant(points, scale) + _constant(points, shift)
    else:
        folded = fold_viewport(matrix, offset, start, sides, viewport)
        points = affine_chain(folded[0], folded[1], index, folded[2], backend=backend)  # (B, T, 2)
    if color is not None:
        weight = _color_points(color, index)  # (B, T, C)
    image = rbf_rasterize(points, sides, bandwidth=bandwidth, weight=weight, cutoff=cutoff, backend=backend)
    return image.clamp(0, 1) if clamp else image
