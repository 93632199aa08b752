"""Images of iterated function systems (paper, figure 1) and of points in space."""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

from fractalops._checks import (
    can_read,
    check_choice,
    check_floating,
    check_number,
    check_size,
    check_tensor,
    check_viewport,
    shape_error,
)
from fractalops.ops.affine_chain import check_chain, run_affine_chain
from fractalops.ops.fixed_point import run_fixed_point
from fractalops.ops.rbf_rasterize import check_bumps, run_rbf_rasterize
from fractalops.placement import DEFAULT_VIEWPORT, Viewport, bounding_box, constant_like, fold_viewport, place, rounding
from fractalops.reference.without_autocast import in_float32, widen

# How the bumps of points become an image: their sum, or the mean of their colors.
Blend = Literal["add", "mean"]

Angle = float | Tensor  # degrees

EXPLODES = "points that are NaN or infinite are not drawn: the maps expand on average, or aren't finite"

DEFAULT_BANDWIDTH = 1.0  # square pixels (the paper)
DEFAULT_CUTOFF = 1e-6
DEFAULT_BACKGROUND_WEIGHT = 0.03


def _color_points(color: Tensor, index: Tensor) -> Tensor:
    """Return the color of each point's map: color (N, C), index (B, T) -> (B, T, C). Its gradient is deterministic."""
    chosen = index.long()  # a uint8 tensor would be taken for a mask
    if chosen.device.type != "cpu":
        # The gradient is sorted by map, where that of gather would use atomics. Like the chain, never past the table.
        return embedding(chosen.clamp(0, len(color) - 1), color)
    # Gathered along rows: the gradient adds each channel up on one thread, in float64 for maps of a million points.
    rows = color.t().double().gather(1, chosen.flatten().expand(color.shape[1], -1))  # (C, B * T)
    return rows.t().reshape(*index.shape, color.shape[1]).to(color.dtype)


@in_float32
def blend_mean(
    sums: Tensor, points: int, bandwidth: float | Tensor, background: float, background_weight: float
) -> Tensor:
    """Return the mean color of the bumps on each pixel, and of the background where there are none or few.

    `image = (S + e g) / (D + e)`, with the sums S of the colors and D of the bumps themselves, the background g, and
    `e = background_weight T pi bandwidth / (H W)`: its weight as a share of what T bumps give a pixel where they are
    spread evenly over the image. So the image does not depend on how many points draw it.

    Args:
        sums: (..., C + 1, H, W), S in the first C channels and D in the last.
        points: T, those that were drawn.
        bandwidth: of the bumps, in square pixels; a number, or a tensor that broadcasts with (..., C + 1, H, W).
        background: g, of all channels.
        background_weight: above 0.

    Returns:
        image (..., C, H, W).
    """
    height, width = sums.shape[-2:]
    weight = bandwidth * (background_weight * points * math.pi / (height * width))
    return (sums[..., :-1, :, :] + weight * background) / (sums[..., -1:, :, :] + weight)


def point_values(colors: Tensor | None, weights: Tensor | None, like: Tensor, mean: bool) -> Tensor | None:
    """Return what a point of each map adds to its pixels (S, N, C), times `weights` (S, N); None is one everywhere.

    For `mean` colors the last channel is the weight itself. `like` (S, N, 1) has the dtype and device of ones.
    """
    if not mean and colors is None:
        return None if weights is None else weights[..., None]
    one = torch.ones_like(like)  # (S, N, 1)
    parts = [one if colors is None else colors] + ([one] if mean else [])
    values = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
    return values if weights is None else values * weights[..., None]


@in_float32
def render(
    matrix: Tensor,
    offset: Tensor,
    index: Tensor,
    size: int | tuple[int, int],
    *,
    start: Tensor | None = None,
    viewport: Viewport = DEFAULT_VIEWPORT,
    bandwidth: float | Tensor = DEFAULT_BANDWIDTH,
    weight: Tensor | None = None,
    color: Tensor | None = None,
    blend: Blend = "add",
    background: float = 0.0,
    background_weight: float = DEFAULT_BACKGROUND_WEIGHT,
    clamp: bool = True,
    cutoff: float | None = DEFAULT_CUTOFF,
) -> Tensor:
    """Draw sequences of affine maps as images (paper sections 4.2 and 4.3).

    Under autocast, tensors in half precision become float32, as in all functions of this package that draw.

    Args:
        matrix: (N, 2, 2), the maps' linear parts; float32 or float64.
        offset: (N, 2), their translations.
        index: (B, T), which map each step takes, in [0, N); uint8, int32 or int64. One image for each sequence.
        size: the images' side, or (height, width), in pixels.
        start: (B, 2) or (2,), where the sequences start; None is the (detached) fixed point of map 0. Systems that are
            concatenated need starts of their own: see `IFS.concatenated`.
        viewport: (x_min, y_min, x_max, y_max), the rectangle that the image shows, x along rows: its corners are the
            centers of the corner pixels. "stretch" and "fit" take each image's own bounding box, through which no
            gradient flows, the first for each axis by itself, the second in its proportions, in the image's middle.
        bandwidth: of the Gaussian bumps, in square pixels; a number, or a tensor () or (B,).
        weight: (B, T), or (B, T, C) for C channels; None is 1 for every point.
        color: (N, C), the weight of each map's points in C channels; excludes `weight`. Its gradient is the same bits
            in every run.
        blend: "add" sums the weighted bumps (paper). "mean" takes the weight or the color of a point as its color, and
            a pixel becomes the mean of the bumps' colors, as `blend_mean` says.
        background: of "mean", what a pixel without points shows, in all channels.
        background_weight: of "mean", above 0: the weight of the background, as a share of the mean weight of all bumps.
        clamp: limit the image to [0, 1] (paper section 4.3).
        cutoff: a point is left out of the pixels on which its bump is lower; None leaves out none.

    Returns:
        image (B, H, W), or (B, C, H, W) with a weight or colors of C channels; differentiable in matrix, offset,
        start, bandwidth, weight and color.

    Raises:
        ValueError: for a wrong shape, device, range or viewport, and for both a weight and colors.
        IndexError: for an index out of range, on the CPU.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend that `use_backend` or FRACTALOPS_BACKEND asks for can't run.

    Warns on the CPU, where gradients are off, of sequences that don't end in a finite point.
    """
    check_chain("render", matrix, offset, index, start, dimensions=(2,))
    sides = check_size("render", size)
    check_viewport("render", viewport)
    if color is not None:
        check_tensor("render", color=color)
        check_floating("render", matrix=matrix, color=color)
        if color.dim() != 2 or len(color) != len(matrix) or color.shape[1] == 0:
            raise shape_error("render", "color", f"({len(matrix)}, C) with C >= 1", color)
        if weight is not None:
            raise ValueError("render: color must be None where weight is given, got both")
    check_blend("render", blend, background, background_weight)
    bumps = check_bumps("render", (index.shape[0], index.shape[1]), bandwidth, weight, cutoff, matrix=matrix)
    if start is None:
        start = run_fixed_point(matrix[0], offset[0])  # (2,)
    if isinstance(viewport, str) or min(sides) == 1:
        points = run_affine_chain(matrix, offset, index, start)  # (B, T, 2)
        points = place(viewport, points, sides)(points)
    else:
        folded = fold_viewport(matrix, offset, start, sides, viewport)
        points = run_affine_chain(folded[0], folded[1], index, folded[2])  # (B, T, 2)
    if not torch.is_grad_enabled():  # not in a training step, which it would slow down
        _warn_of_explosion(points)
    if color is not None:
        bumps = bumps._replace(weight=_color_points(color, index))  # (B, T, C)
    if blend == "mean":
        one = points.new_ones(*points.shape[:2], 1)  # (B, T, 1)
        bumps = bumps._replace(weight=torch.cat((one if bumps.weight is None else bumps.weight, one), -1))
        sums = run_rbf_rasterize(points, sides, bumps)  # (B, C + 1, H, W)
        own_bandwidth = bumps.bandwidth.view(-1, 1, 1, 1)
        image = blend_mean(sums, points.shape[1], own_bandwidth, background, background_weight)  # (B, C, H, W)
    else:
        image = run_rbf_rasterize(points, sides, bumps)  # (B, C, H, W)
    if color is None and (weight is None or weight.dim() == 2):
        image = image.squeeze(1)
    return image.clamp(0, 1) if clamp else image


def _warn_of_explosion(points: Tensor) -> None:
    """Warn where chains (B, T, 2) don't end in finite points, if looking costs nothing: on the CPU, outside vmap."""
    if can_read(points) and not bool(points[:, -1].isfinite().all()):
        warnings.warn(f"render: {EXPLODES}", stacklevel=4)  # past `in_float32`


def check_blend(owner: str, blend: object, background: object, background_weight: object) -> None:
    """Raise `ValueError` or `TypeError` unless these are a blend and its background."""
    check_choice(owner, "blend", blend, get_args(Blend))
    check_number(owner, "background", background, least=0, most=1)
    check_number(owner, "background_weight", background_weight, above=0)


class Projection(NamedTuple):
    """Points as a viewer sees them, in the units of the points."""

    plane: Tensor  # (..., 2): rows grow downwards, columns to the right, as in an image
    depth: Tensor  # (...): grows away from the viewer, 0 at the origin


class Frame(NamedTuple):
    """The part of space that a picture shows: a ball, whose projection touches the picture's nearer sides."""

    center: Tensor  # (D,)
    radius: Tensor  # ()


@in_float32
def project(points: Tensor, azimuth: Angle, elevation: Angle) -> Projection:
    """Look at points in space from a direction, without perspective.

    At azimuth 0 and elevation 0 the viewer looks from the end of the first axis, sees the second to the right and the
    third upwards. The azimuth turns the viewer around the third axis, towards the second; the elevation lifts the
    viewer. With a and e for them, and v a point: `column = v . (-sin a, cos a, 0)`, `row = v . (sin e cos a, sin e
    sin a, -cos e)`, `depth = -v . (cos e cos a, cos e sin a, sin e)`.

    Args:
        points: (..., 3), float32 or float64; or (..., 2), which are laid into the plane of the second and third axes.
        azimuth: of the viewer, in degrees; a number, or a tensor () of the points' dtype.
        elevation: likewise.

    Returns:
        plane (..., 2) and depth (...), differentiable in the points and the angles.

    Raises:
        ValueError: for a wrong shape or device, or an angle that isn't finite; TypeError: for a wrong dtype or type.
    """
    check_tensor("project", points=points)
    check_floating("project", points=points)
    if points.dim() == 0 or points.shape[-1] not in (2, 3):
        raise shape_error("project", "points", "(..., 3) or (..., 2)", points)
    turned, lifted = (_radians(name, angle, points) for name, angle in (("azimuth", azimuth), ("elevation", elevation)))
    cos_a, sin_a, cos_e, sin_e = turned.cos(), turned.sin(), lifted.cos(), lifted.sin()
    axes = torch.stack(  # (9,): row, column and depth of a unit step along each axis
        (sin_e * cos_a, sin_e * sin_a, -cos_e, -sin_a, cos_a, 0 * sin_a, -cos_e * cos_a, -cos_e * sin_a, -sin_e)
    )
    seen = in_space(points) @ axes.view(3, 3).t()  # (..., 3)
    return Projection(seen[..., :2], seen[..., 2])


def in_space(points: Tensor) -> Tensor:
    """Return points (..., 3) as they are; (..., 2) in the plane that faces the viewer at azimuth and elevation 0."""
    return points if points.shape[-1] == 3 else pad(points, (1, 0))


def frame_of(points: Tensor) -> Frame:
    """Return a ball around all finite points (..., D), detached, centered in their bounding box."""
    flat = points.detach().flatten(0, -2)  # (P, D)
    if flat.shape[0] == 0:  # `len` would fix it where it is traced
        return Frame(points.new_zeros(points.shape[-1]), points.new_ones(()))
    low, high = (bound[0] for bound in bounding_box(flat[None]))  # (D,), (D,): infinite without finite points
    center = torch.where((low <= high).all(), (low + high) / 2, 0)  # (D,)
    # In double, as squares of 1e20 leave float32's range.
    distances = torch.linalg.vector_norm(flat - center, dim=-1, dtype=torch.float64).to(points.dtype)  # (P,)
    radius = torch.where(flat.isfinite().all(-1), distances, 0).amax()
    largest = center.abs().amax()  # (), beside which points that differ by rounding alone are one
    known = torch.where(radius > 0, largest.clamp(min=1), 1)
    return Frame(center, torch.where(radius > rounding(largest), radius, known))


@in_float32
def render_points(
    points: Tensor,
    size: int | tuple[int, int],
    *,
    azimuth: Angle = 0.0,
    elevation: Angle = 0.0,
    frame: Frame | None = None,
    fade: float = 0.75,
    bandwidth: float | Tensor = DEFAULT_BANDWIDTH,
    clamp: bool = True,
    cutoff: float | None = DEFAULT_CUTOFF,
) -> Tensor:
    """Draw clouds of points in space as Gaussian bumps, the nearer the brighter.

    A point at `depth` d weighs `1 - fade (1 + d / radius) / 2` in `rbf_rasterize`: 1 in front, `1 - fade` at the back.

    Args:
        points: (B, T, 3) or (B, T, 2), T >= 1; float32 or float64. Those that are NaN or infinite add nothing.
        size: the images' side, or (height, width), in pixels.
        azimuth: of the viewer, in degrees, as in `project`.
        elevation: likewise.
        frame: what the images show, of all clouds; None takes `frame_of(points)`, through which no gradient flows.
        fade: in [0, 1], what a point at the back loses of its brightness.
        bandwidth: as in `rbf_rasterize`.
        clamp: limit the images to [0, 1].
        cutoff: as in `rbf_rasterize`.

    Returns:
        image (B, H, W), differentiable in the points, the angles and the bandwidth.

    Raises:
        ValueError, TypeError: for a wrong shape, dtype, type or range.
        BackendError: where the backend that `use_backend` or FRACTALOPS_BACKEND asks for can't run.
    """
    check_tensor("render_points", points=points)
    check_floating("render_points", points=points)
    if points.dim() != 3 or points.shape[1] == 0 or points.shape[2] not in (2, 3):
        raise shape_error("render_points", "points", "(B, T, 3) or (B, T, 2) with T >= 1", points)
    height, width = check_size("render_points", size)
    check_number("render_points", "fade", fade, least=0, most=1)
    bumps = check_bumps("render_points", (points.shape[0], points.shape[1]), bandwidth, None, cutoff, points=points)
    center, radius = frame_of(points) if frame is None else _check_frame(frame, points)
    plane, depth = project((points - center) / radius, azimuth, elevation)  # (B, T, 2), (B, T)
    half = (min(height, width) - 1) / 2  # pixels
    pixels = plane * half + constant_like(plane, [(height - 1) / 2, (width - 1) / 2])
    # A point that is out of reach of the frame has no brightness below 0 or above 1.
    weight = 1 - float(fade) * (1 + depth.clamp(-1, 1)) / 2
    image = run_rbf_rasterize(pixels, (height, width), bumps._replace(weight=weight[..., None])).squeeze(1)
    return image.clamp(0, 1) if clamp else image


def _check_frame(frame: object, points: Tensor) -> Frame:
    """Return a frame that shows points (B, T, D), in float32 where it is in half precision. Raise for anything else."""
    if not isinstance(frame, tuple) or len(frame) != 2:
        raise TypeError(f"render_points: frame must be a Frame or None, got {type(frame).__name__}")
    center, radius = (widen(part) for part in frame)
    check_tensor("render_points", center=center, radius=radius)
    check_floating("render_points", points=points, center=center, radius=radius)
    for name, tensor, shape in (("center", center, points.shape[2:]), ("radius", radius, ())):
        if tensor.shape != shape:
            raise shape_error("render_points", name, f"{tuple(shape)}", tensor)
    return Frame(center, radius)


def _radians(name: str, angle: Angle, points: Tensor) -> Tensor:
    if isinstance(angle, Tensor):
        check_floating("project", points=points, **{name: angle})
        if angle.dim() != 0:
            raise shape_error("project", name, "()", angle)
        return angle.deg2rad()
    check_number("project", name, angle)
    return points.new_full((), math.radians(angle))
