"""Views of points in space: projection and images with brightness by depth, both differentiable."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fractalops._checks import check_floating, check_number, check_size, check_tensor, shape_error
from fractalops.ops.rbf_rasterize import check_bumps, run_rbf_rasterize
from fractalops.rendering import bounding_box

Angle = float | Tensor


class Projection(NamedTuple):
    """Points as a viewer sees them, in the units of the points."""

    plane: Tensor  # (..., 2): rows grow downwards, columns to the right, as in an image
    depth: Tensor  # (...): grows away from the viewer, 0 at the origin


class Frame(NamedTuple):
    """What part of space a picture shows: a ball, whose shadow touches the picture's nearer sides."""

    center: Tensor  # (D,)
    radius: Tensor  # ()


def project(points: Tensor, azimuth: Angle, elevation: Angle) -> Projection:
    """Look at points in space from a direction, without perspective.

    At azimuth 0 and elevation 0 the viewer looks from the end of the first axis, sees the second to the right and the
    third upwards. The azimuth turns the viewer around the third axis, towards the second; the elevation lifts the
    viewer. With a and e for them, and v a point: `column = v . (-sin a, cos a, 0)`, `row = v . (sin e cos a, sin e
    sin a, -cos e)`, `depth = -v . (cos e cos a, cos e sin a, sin e)`.

    Args:
        points: (..., 3), float32 or float64; or (..., 2), which are laid into the plane of the second and third axes.
        azimuth, elevation: in degrees; numbers, or tensors () of the points' dtype.

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
    """Points (..., 3) as they are; (..., 2) in the plane that faces the viewer at azimuth and elevation 0."""
    return points if points.shape[-1] == 3 else pad(points, (1, 0))


def frame_of(points: Tensor) -> Frame:
    """A ball around all finite points (..., D), detached: around the middle of their bounding box, not the smallest."""
    flat = points.detach().flatten(0, -2)  # (P, D)
    flat = flat[flat.isfinite().all(-1)]
    if len(flat) == 0:
        return Frame(points.new_zeros(points.shape[-1]), points.new_ones(()))
    low, high = bounding_box(flat[None])  # (1, D), (1, D)
    center = ((low + high) / 2)[0]  # (D,)
    radius = torch.linalg.vector_norm(flat - center, dim=-1).amax()
    return Frame(center, torch.where(radius > 0, radius, 1))


def render_points(
    points: Tensor,
    size: int | tuple[int, int],
    *,
    azimuth: Angle = 0.0,
    elevation: Angle = 0.0,
    frame: Frame | None = None,
    fade: float = 0.75,
    bandwidth: float | Tensor = 1.0,
    clamp: bool = True,
    cutoff: float | None = 1e-6,
) -> Tensor:
    """Draw clouds of points in space as Gaussian bumps, the nearer the brighter.

    A point at `depth` d weighs `1 - fade (1 + d / radius) / 2` in `rbf_rasterize`: 1 in front, `1 - fade` at the back.

    Args:
        points: (B, T, 3) or (B, T, 2), T >= 1; float32 or float64. Those that are NaN or infinite add nothing.
        size: the images' side, or (height, width), in pixels.
        azimuth, elevation: of the viewer, in degrees, as in `project`.
        frame: what the images show, of all clouds; None takes `frame_of(points)`, through which no gradient flows.
        fade: in [0, 1], what a point at the back loses of its brightness.
        bandwidth, cutoff: as in `rbf_rasterize`.
        clamp: limit the images to [0, 1].

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
    center, radius = frame_of(points) if frame is None else frame
    plane, depth = project((points - center) / radius, azimuth, elevation)  # (B, T, 2), (B, T)
    half = (min(height, width) - 1) / 2  # pixels
    pixels = plane * half + plane.new_tensor([(height - 1) / 2, (width - 1) / 2])
    # A point that is out of reach of the frame has no brightness below 0 or above 1.
    weight = 1 - float(fade) * (1 + depth.clamp(-1, 1)) / 2
    image = run_rbf_rasterize(pixels, (height, width), bumps._replace(weight=weight[..., None])).squeeze(1)
    return image.clamp(0, 1) if clamp else image


def _radians(name: str, angle: Angle, points: Tensor) -> Tensor:
    if isinstance(angle, Tensor):
        check_floating("project", points=points, **{name: angle})
        if angle.dim() != 0:
            raise shape_error("project", name, "()", angle)
        return angle.deg2rad()
    check_number("project", name, angle)
    return points.new_tensor(math.radians(angle))
