"""High-resolution pictures of systems: many points, high resolution, tones that keep the dim parts visible."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_integer, check_size, check_viewport
from fractalops.drawing.tones import tone_map
from fractalops.ifs import IFS
from fractalops.ops.rbf_rasterize import rbf_rasterize
from fractalops.rendering import Placement, Viewport, place
from fractalops.sampling import sample_attractor

_POINTS_AT_ONCE = 1_000_000  # bounds the memory, whatever number of points is asked for
_BANDWIDTH = 1.0  # square pixels: soft enough against grain, sharp enough for thin branches
_GAMMA = 0.4  # a hundredth of the full density still shows as 0.16
_CUTOFF = 1e-2  # the tone map swallows what is smaller
_INTENSITY = 300 / 32**2  # of the published settings


def proportional_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A picture of the proportions of `size` (height, width) whose longest side is `longest` pixels."""
    height, width = size
    factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def draw_high_resolution(
    system: IFS,
    size: tuple[int, int],
    *,
    points: int = 1_000_000,
    viewport: Viewport | None = None,
    margin: float = 0.0,
    generator: torch.Generator | None = None,
    intensity: float = _INTENSITY,
) -> Tensor:
    """Draw each system of `system` with `points` points: images (S, H, W) in [0, 1], without gradients.

    With colors they are (S, C, H, W), and as bright as the images for which the colors were learned, where channels
    that reach 1 change the hue: `intensity` is those images' `FitResult.intensity`. It says nothing in gray.

    `viewport` (x_min, y_min, x_max, y_max) is the part of the plane that the pixel centers span, as in `render`; None
    is the system's own; "stretch" and "fit" take the bounding box of the points of each system, and leave `margin` of
    the picture empty on each side.

    Raises `ValueError` when `points` is below 1 or a side of `size` below 1.
    """
    height, width = check_size("draw_high_resolution", size)
    check_integer("draw_high_resolution", "points", points, 1)
    viewport = system.viewport if viewport is None else viewport
    check_viewport("draw_high_resolution", viewport)
    with torch.no_grad():
        matrix, offset = system.maps()  # (S, N, 2, 2), (S, N, 2)
        probabilities = system.probabilities()  # (S, N)
        colors = system.colors()  # (S, N, C)
        images = []
        for s in range(system.systems):
            one = slice(s, s + 1)
            own = matrix[one], offset[one], probabilities[one], None if colors is None else colors[s]
            density = _density(*own, size, points, viewport, margin, generator)  # (H, W) or (C, H, W)
            exposure = intensity * height * width / (points * _BANDWIDTH)
            images.append(tone_map(density, _CUTOFF, _GAMMA) if colors is None else (density * exposure).clamp(max=1))
    return torch.stack(images)


def _density(
    matrix: Tensor,  # (1, N, 2, 2)
    offset: Tensor,  # (1, N, 2)
    probabilities: Tensor,  # (1, N)
    color: Tensor | None,  # (N, C)
    size: tuple[int, int],
    points: int,
    viewport: Viewport,
    margin: float,
    generator: torch.Generator | None,
) -> Tensor:
    """How many points fall on each pixel: (H, W); with colors, their sum: (C, H, W)."""
    density = matrix.new_zeros(size if color is None else (color.shape[1], *size))
    placement: Placement | None = None
    for begin in range(0, points, _POINTS_AT_ONCE):
        count = min(_POINTS_AT_ONCE, points - begin)
        sample = sample_attractor(matrix, offset, probabilities, count, generator=generator)
        cloud = sample.points.flatten(1, 2)[:, :count]  # (1, count, 2)
        if placement is None:  # the same for all
            placement = place(viewport, cloud, size, margin)
        pixels = placement(cloud)  # (1, count, 2)
        weight = None
        if color is not None:
            weight = color[sample.maps.flatten(1)[:, :count].long()]  # (1, count, C)
        density += rbf_rasterize(pixels, size, bandwidth=_BANDWIDTH, weight=weight, cutoff=_CUTOFF)[0]
    return density
