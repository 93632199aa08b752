"""Functions that draw iterated function systems (paper, figure 1) and points in space as images."""

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

# A pixel is the sum of the points' Gaussian bumps, or the mean of their colors.
Blend = Literal["add", "mean"]

Angle = float | Tensor  # degrees

EXPLODES = "points that are NaN or infinite are not drawn: the maps expand on average, or aren't finite"

DEFAULT_BANDWIDTH = 1.0  # square pixels (the paper)
DEFAULT_CUTOFF = 1e-6
DEFAULT_BACKGROUND_WEIGHT = 0.03


def _color_points(color: Tensor, index: Tensor) -> Tensor:
    """Return the color (B, T, C) of each point's map, for color (N, C) and index (B, T); deterministic gradient."""
    chosen = index.long()  # torch would use a uint8 tensor as a mask
    if chosen.device.type != "cpu":
        # The gradient of `embedding` is deterministic, that of `gather` uses atomics. The clamp prevents reads outside
        # the table for an index out of range, as in the chain.
        return embedding(chosen.clamp(0, len(color) - 1), color)
    # With one row for each channel, one thread sums the gradient of a channel, so it is deterministic. It sums in
    # float64, because a map can have a million points.
    rows = color.t().double().gather(1, chosen.flatten().expand(color.shape[1], -1))  # (C, B * T)
    return rows.t().reshape(*index.shape, color.shape[1]).to(color.dtype)


@in_float32
def blend_mean(
    sums: Tensor, points: int, bandwidth: float | Tensor, background: float, background_weight: float
) -> Tensor:
    """Return the weighted mean of the bumps' colors and the background on each pixel.

    `image = (S + e g) / (D + e)`, with the sum S of the bumps times their colors, the sum D of the bumps, the
    background g, and its weight `e = background_weight T pi bandwidth / (H W)`. For `background_weight = 1`, e is the
    mean of D over an image that contains all T bumps. So the image does not depend on the number of points.

    Args:
        sums: S in the first C channels and D in the last channel; shape (..., C + 1, H, W).
        points: number of points T.
        bandwidth: bandwidth in square pixels; a number, or a tensor that broadcasts with (..., C + 1, H, W).
        background: value g of the background in all channels.
        background_weight: weight of the background relative to the mean of D, above 0.

    Returns:
        The image, shape (..., C, H, W).
    """
    height, width = sums.shape[-2:]
    weight = bandwidth * (background_weight * points * math.pi / (height * width))
    return (sums[..., :-1, :, :] + weight * background) / (sums[..., -1:, :, :] + weight)


def point_values(colors: Tensor | None, weights: Tensor | None, like: Tensor, mean: bool) -> Tensor | None:
    """Return the values (S, N, C) that weight the bumps of each map's points; None means 1 for all of them.

    Args:
        colors: colors of the maps, shape (S, N, C); None for systems without colors, which have the color 1.
        weights: factors of the values, shape (S, N); None means 1.
        like: a tensor of shape (S, N, 1) with the dtype and device of the result.
        mean: append a channel of ones, which `blend_mean` needs.
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

    Each sequence is one image of T points `v_t = matrix[index_t] v_(t-1) + offset[index_t]` (`affine_chain`). With
    `blend="add"`, the image is the sum of a Gaussian bump for each point (`rbf_rasterize`; paper, equation 8). The
    viewport converts the points to pixel coordinates (x_t, y_t):

    `image[i, j] = sum_t weight_t exp(-((x_t - i)^2 + (y_t - j)^2) / bandwidth)`

    Under autocast, tensors in half precision become float32.

    Args:
        matrix: Linear parts of the maps; shape (N, 2, 2), dtype float32 or float64.
        offset: Translations of the maps; shape (N, 2), dtype of `matrix`.
        index: Index of the map for each step, in [0, N); shape (B, T), dtype uint8, int32 or int64.
        size: Side of the images, or (height, width), in pixels.
        start: Points where the sequences start; shape (B, 2), or (2,) for all sequences. None uses the fixed point of
            map 0, without gradient. If systems are concatenated, give their own starts; see `IFS.concatenated`.
        viewport: Rectangle (x_min, y_min, x_max, y_max) of the plane that the image shows. Its corners are the centers
            of the corner pixels. x goes down the rows, y goes right along the columns. "stretch" and "fit" show the
            bounding box of each image's points, without gradient: "stretch" scales each axis separately, "fit" keeps
            the proportions and centers the box. Default: (-5, -5, 5, 5), as in the published code.
        bandwidth: Bandwidth of the bumps in square pixels, above 0; a number, or a tensor of shape () or (B,).
            Default: 1.
        weight: Weight of each point; shape (B, T), or (B, T, C) for C channels. None means 1.
        color: Color of each map, used as the weight of its points; shape (N, C). At most one of `weight` and `color`
            can be given. Its gradient is deterministic.
        blend: "add" (default, paper) sums the weighted bumps. "mean" uses the weights as colors: a pixel is the mean of
            the colors, weighted by the bumps, and of the background: `(S + e g) / (D + e)` with the sum S that "add"
            gives, the sum D of the bumps with weight 1, and the background g of weight e.
        background: Value g of the background of "mean" in all channels, in [0, 1]. Default: 0.
        background_weight: Weight of the background of "mean" relative to the mean of D over the image, above 0:
            `e = background_weight T pi bandwidth / (H W)`. Default: 0.03.
        clamp: If True (default), limit the image to [0, 1] (paper section 4.3).
        cutoff: Leave out pixels far from a point, on which its bump is below this value, in (0, 1). None draws every
            point on every pixel. Default: 1e-6.

    Returns:
        Images of shape (B, H, W), or (B, C, H, W) if `color` is given or `weight` has C channels; dtype of `matrix`.
        They are differentiable in `matrix`, `offset`, `start`, `bandwidth`, `weight` and `color`. Points that are NaN
        or infinite add nothing.

    Raises:
        ValueError: If a shape, device, range or viewport is wrong, or if both `weight` and `color` are given.
        TypeError: If a dtype or type is wrong.
        IndexError: If an index is out of range. It is checked on the CPU, and on a GPU if `FRACTALOPS_DEBUG=1`.
        BackendError: If the backend of `use_backend` or `FRACTALOPS_BACKEND` can't run.

    Warns:
        UserWarning: If a sequence ends in a point that is not finite. It is checked on the CPU if gradients are off.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> matrix = 0.5 * torch.eye(2).repeat(3, 1, 1)
        >>> offset = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
        >>> index = torch.randint(3, (1, 10_000))
        >>> image = fractalops.render(matrix, offset, index, 128, viewport=(0, 0, 1, 1))
        >>> image.shape
        torch.Size([1, 128, 128])
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
            raise ValueError("render: color must be None if weight is given, got both")
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
    if not torch.is_grad_enabled():  # the check would slow down a training step
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
    """Warn if a chain in (B, T, 2) ends in a point that is not finite and `can_read` allows the check."""
    if can_read(points) and not bool(points[:, -1].isfinite().all()):
        warnings.warn(f"render: {EXPLODES}", stacklevel=4)  # the caller of `render`, outside the `in_float32` wrapper


def check_blend(owner: str, blend: object, background: object, background_weight: object) -> None:
    """Raise `ValueError` or `TypeError` unless the blend, the background and its weight are valid."""
    check_choice(owner, "blend", blend, get_args(Blend))
    check_number(owner, "background", background, least=0, most=1)
    check_number(owner, "background_weight", background_weight, above=0)


class Projection(NamedTuple):
    """Points as a viewer sees them, in the units of the points."""

    plane: Tensor
    """(..., 2): (row, column). Rows go down and columns go right, as in an image."""
    depth: Tensor
    """(...): distance behind the origin, seen from the viewer; negative in front of it."""


class Frame(NamedTuple):
    """The ball that an image of points shows. Its diameter is the shorter side of the image."""

    center: Tensor
    """(D,): center of the ball."""
    radius: Tensor
    """(): radius of the ball."""


@in_float32
def project(points: Tensor, azimuth: Angle, elevation: Angle) -> Projection:
    """Project points in space to a plane, as a viewer sees them from a direction, without perspective.

    At azimuth 0 and elevation 0 the first axis points to the viewer, the second to the right and the third up. The
    azimuth turns the viewer around the third axis toward the second. The elevation lifts the viewer. With the azimuth
    a, the elevation e and a point v:

    - `row = v . (sin e cos a, sin e sin a, -cos e)`
    - `column = v . (-sin a, cos a, 0)`
    - `depth = -v . (cos e cos a, cos e sin a, sin e)`

    Args:
        points: Points of shape (..., 3), dtype float32 or float64. Points of shape (..., 2) are placed in the plane of
            the second and third axes.
        azimuth: Azimuth of the viewer in degrees; a finite number, or a tensor of shape () and the points' dtype.
        elevation: Elevation of the viewer in degrees; a finite number, or a tensor of shape () and the points' dtype.

    Returns:
        A named tuple of `plane`, the rows and columns of the points, shape (..., 2), and `depth`, which increases away
        from the viewer and is 0 at the origin, shape (...). Both are in the units of the points, and differentiable in
        the points and the angles.

    Raises:
        ValueError: If a shape, device or angle is wrong.
        TypeError: If a dtype or type is wrong.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> plane, depth = fractalops.project(torch.rand(100, 3), azimuth=30, elevation=20)
        >>> plane.shape, depth.shape
        (torch.Size([100, 2]), torch.Size([100]))
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
    """Return points (..., 3) unchanged, and points (x, y) of shape (..., 2) as (0, x, y)."""
    return points if points.shape[-1] == 3 else pad(points, (1, 0))


def frame_of(points: Tensor) -> Frame:
    """Return a ball around all finite points (..., D), detached, with the center of their bounding box."""
    flat = points.detach().flatten(0, -2)  # (P, D)
    if flat.shape[0] == 0:  # `len` would make the size a constant in traced code
        return Frame(points.new_zeros(points.shape[-1]), points.new_ones(()))
    low, high = (bound[0] for bound in bounding_box(flat[None]))  # (D,), (D,): infinite without finite points
    center = torch.where((low <= high).all(), (low + high) / 2, 0)  # (D,)
    # In float64, because squares of 1e20 overflow in float32.
    distances = torch.linalg.vector_norm(flat - center, dim=-1, dtype=torch.float64).to(points.dtype)  # (P,)
    radius = torch.where(flat.isfinite().all(-1), distances, 0).amax()
    largest = center.abs().amax()  # (), the scale of rounding errors: points that differ by less are one point
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
    """Draw clouds of points in space as images of Gaussian bumps. Near points are brighter than far points.

    `project` gives the points' positions and depths, and `rbf_rasterize` draws them. The weight of a point of depth d
    is `1 - fade (1 + d / radius) / 2`: 1 at the front of the frame, `1 - fade` at the back.

    Args:
        points: B clouds of T points, T >= 1; shape (B, T, 3) or (B, T, 2), dtype float32 or float64. Points of shape
            (B, T, 2) are placed as in `project`. NaN and infinite points add nothing.
        size: Side of the images, or (height, width), in pixels.
        azimuth: Azimuth of the viewer in degrees, as in `project`. Default: 0.
        elevation: Elevation of the viewer in degrees, as in `project`. Default: 0.
        frame: Ball that all images show: a pair (center, radius) of tensors of shapes (D,) and (), with the points' D
            and dtype. The shorter side of an image is its diameter. None uses a ball around all finite points, without
            gradient.
        fade: Share of the brightness that a point at the back loses, in [0, 1]. Default: 0.75.
        bandwidth: Bandwidth of the bumps in square pixels, as in `rbf_rasterize`. Default: 1.
        clamp: If True (default), limit the images to [0, 1].
        cutoff: Value below which a bump is left out, in (0, 1), or None, as in `rbf_rasterize`. Default: 1e-6.

    Returns:
        Images of shape (B, H, W), dtype of the points, differentiable in the points, the angles, the frame and the
        bandwidth.

    Raises:
        ValueError: If a shape, device or range is wrong.
        TypeError: If a dtype or type is wrong.
        BackendError: If the backend of `use_backend` or `FRACTALOPS_BACKEND` can't run.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> fractalops.render_points(torch.rand(2, 1000, 3), 64, azimuth=30, elevation=20).shape
        torch.Size([2, 64, 64])
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
    # The clamp keeps the weights of points outside the frame in [0, 1].
    weight = 1 - float(fade) * (1 + depth.clamp(-1, 1)) / 2
    image = run_rbf_rasterize(pixels, (height, width), bumps._replace(weight=weight[..., None])).squeeze(1)
    return image.clamp(0, 1) if clamp else image


def _check_frame(frame: object, points: Tensor) -> Frame:
    """Return a frame for points (B, T, D), half precision converted to float32; raise if it is not valid."""
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
