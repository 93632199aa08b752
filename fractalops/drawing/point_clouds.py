"""Draw point clouds and systems in space: views from several directions, turntables, and lit surfaces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from fractalops.drawing.canvas import whole_rows
from fractalops.drawing.high_resolution import Picture, draw_bands
from fractalops.drawing.palettes import apply_palette
from fractalops.drawing.sheets import contact_sheet
from fractalops.drawing.tones import tone_map
from fractalops.errors import InputError
from fractalops.placement import bounding_box
from fractalops.rendering import Frame, frame_of, project, render_points
from fractalops.systems import System
from fractalops.systems.system import shares_of

if TYPE_CHECKING:
    from tqdm import tqdm

AZIMUTHS = (20.0, 80.0, 140.0)  # default directions of the views, in degrees
ELEVATION = 15.0  # default elevation of the viewer, in degrees
_GAMMA = 0.5  # makes single points brighter relative to dense parts
_FINER = 2  # a surface has this many fine pixels per pixel of the picture, along each axis
_LARGEST_SOLID = 8192  # largest side of a picture, in pixels; its depths take 1 GiB
_HIDDEN = 8  # a surface has this many times the points of a picture in the plane, because most are hidden
_POINTS_AT_ONCE = 2**20  # points of a surface per batch, which bounds the memory for any number of points
_BAND_VALUES = 2**22  # fine pixels of a band of rows that is lit in one step
_REACH = 4  # rows of fine pixels on each side that affect the light of a row
_LEAST = 1e-2  # densities up to this share of the highest density are ignored for the white point


def draw_point_clouds(
    clouds: Sequence[Tensor],
    *,
    side: int = 256,
    azimuths: Sequence[float] = AZIMUTHS,
    elevation: float = ELEVATION,
    bandwidth: float = 1.0,
) -> Tensor:
    """Draw point clouds in a table with a row for each cloud and a column for each azimuth.

    All tiles show the same part of space, the one around the first cloud. The brightness does not depend on the numbers
    of points.

    Args:
        clouds: point clouds, each (P, 3) or (P, 2). P may differ.
        side: the side of each tile, in pixels.
        azimuths: the azimuths of the viewer, in degrees, as in `fractalops.project`.
        elevation: the elevation of the viewer, in degrees.
        bandwidth: the bandwidth of the points' bumps, in square pixels.

    Returns:
        The picture (H, W) in [0, 1].
    """
    return contact_sheet(_tiles(clouds, side, azimuths, elevation, bandwidth), columns=len(azimuths))


@torch.no_grad()
def draw_solid(
    system: System,
    side: int,
    points: int,
    *,
    margin: float = 0.05,
    azimuth: float = 35.0,
    elevation: float = 25.0,
    generator: torch.Generator | None = None,
    bar: tqdm[Any] | None = None,
) -> Iterator[Tensor]:
    """Draw a system in space as a lit surface, without the points that are hidden behind others.

    The brightness depends on the slope of the surface and decreases with the distance. The memory is 16 bytes per pixel
    of the picture plus that of a million points, for any number of points.

    Args:
        system: a system in space, whose points are bounded.
        side: the side of the picture, in pixels, at most 8192.
        points: an eighth of the number of points to draw. Most of them are hidden.
        margin: the share of the picture that is empty on each side.
        azimuth: the azimuth of the viewer, in degrees, as in `fractalops.project`.
        elevation: the elevation of the viewer, in degrees.
        generator: draws the points, on the device of the system; None means a random seed.
        bar: a progress bar that counts points. Its total is increased by their number.

    Yields:
        Bands of rows (h, side) in [0, 1], from top to bottom.

    Raises:
        InputError: if `side` is above 8192.
    """
    if side > _LARGEST_SOLID:
        raise InputError(
            f"a picture of a system in space must have at most {_LARGEST_SOLID} pixels per side, got {side}"
        )
    points *= _HIDDEN
    if bar is not None:
        bar.total = (bar.total or 0) + points
    fine = _FINER * side
    nearness = torch.full((fine * fine,), -math.inf, dtype=torch.float32, device=system.offset.device)  # fine pixels
    maps, depth = _in_pixels(system, fine, margin, min(points, _POINTS_AT_ONCE), azimuth, elevation, generator)
    for begin in range(0, points, _POINTS_AT_ONCE):
        count = min(_POINTS_AT_ONCE, points - begin)
        row, column, away = maps.points(count, generator=generator).unbind(1)  # each (P,)
        inside = (row >= 0) & (row < fine) & (column >= 0) & (column < fine)  # (P,)
        place = (row.long() * fine + column.long())[inside]
        nearness.scatter_reduce_(0, place, -away[inside].float(), "amax")
        if bar is not None:
            bar.update(count)
    yield from _shade(nearness.view(fine, fine), depth)


def draw_rows(
    system: System, picture: Picture, generator: torch.Generator | None = None, bar: tqdm[Any] | None = None
) -> Iterator[Tensor]:
    """Yield the picture of a system in the plane or in space, in bands of rows (C, h, W), see `draw_bands`.

    A system in space is drawn by `draw_solid`, in a square as wide as the picture is high, without its own colors.
    """
    if system.dimensions == 2:
        yield from draw_bands(system, picture, generator, bar)
        return
    for rows in draw_solid(
        system, picture.size[0], picture.points, margin=picture.margin, generator=generator, bar=bar
    ):
        image = rows ** (picture.gamma or 1.0)  # (h, W)
        yield image[None] if picture.palette is None else apply_palette(picture.palette, image)


def _in_pixels(
    system: System,
    side: int,
    margin: float,
    points: int,
    azimuth: float,
    elevation: float,
    generator: torch.Generator | None,
) -> tuple[System, float]:
    """Return a system in float64 whose points are (row, column, depth) in pixels, and the largest depth.

    The bounding box of `points` points is centered in the picture, with depth 0 in its center.
    """
    matrix, offset = system.matrix.double(), system.offset.double()  # (N, 3, 3), (N, 3)
    identity = torch.eye(3, dtype=offset.dtype, device=offset.device)
    plane, depth = project(identity, azimuth, elevation)  # (3, 2), (3,)
    axes = torch.cat((plane, depth[:, None]), 1)  # (3, 3), orthogonal
    turned = System(axes.mT @ matrix @ axes, offset @ axes, shares_of(system.probabilities))
    low, high = (bound[0] for bound in bounding_box(turned.points(points, generator=generator)[None]))  # (3,), (3,)
    middle, half = (low + high) / 2, (high - low) / 2
    extent = half[:2].amax()
    scale = (0.5 - margin) * side / torch.where(extent > 0, extent, 1)  # pixels per unit
    picture = middle.new_tensor([side / 2, side / 2, 0])
    moved = (turned.matrix @ middle + turned.offset - middle) * scale + picture - turned.matrix @ picture  # (N, 3)
    return replace(turned, offset=moved), max(1.0, float(half[2] * scale))


def _shade(nearness: Tensor, farthest: float) -> Iterator[Tensor]:
    """Yield bands of rows (h, W) of the lit surface.

    `nearness` (2 H, 2 W) is the surface, in fine pixels towards the viewer, from -`farthest` to `farthest`. It is
    -infinity at fine pixels without a point.
    """
    height, width = nearness.shape
    for begin, end in whole_rows(height // _FINER, width * _FINER, _BAND_VALUES):
        first, last = max(_FINER * begin - _REACH, 0), min(_FINER * end + _REACH, height)
        part = nearness[None, None, first:last]
        surface = max_pool2d(part, 3, 1, 1)[0, 0]  # (h', 2 W), without gaps between the points
        known = surface.isfinite()
        surface = torch.where(known, surface, -farthest)
        smooth = avg_pool2d(pad(surface[None, None], (2, 2, 2, 2), mode="replicate"), 5, 1)[0, 0]
        rows, columns = torch.gradient(smooth)  # the slopes of the surface towards the viewer
        # The cosine between the normal (rows, columns, -1) and the light, which comes from the upper left.
        light = (0.5 * rows + 0.35 * columns + 0.8) / (rows.square() + columns.square() + 1).sqrt()
        shade = torch.where(known, 0.2 + 0.8 * light.clamp(0, 1) * (0.75 + 0.25 * surface / farthest), 0.0)
        shade = shade[_FINER * begin - first : _FINER * end - first]
        yield avg_pool2d(shade[None, None], _FINER)[0, 0].clamp(0, 1)


def turntable(
    clouds: Sequence[Tensor], *, frames: int = 36, side: int = 256, elevation: float = ELEVATION, bandwidth: float = 1.0
) -> list[Tensor]:
    """Return the frames (H, W), in [0, 1], of a full turn around point clouds, side by side.

    The arguments and the brightness are those of `draw_point_clouds`. The azimuths are `frames` equal steps.
    """
    azimuths = [360 * number / frames for number in range(frames)]
    tiles = _tiles(clouds, side, azimuths, elevation, bandwidth)  # (clouds * frames, side, side)
    return [contact_sheet(tiles[number::frames], columns=len(clouds)) for number in range(frames)]


@torch.no_grad()
def _tiles(
    clouds: Sequence[Tensor], side: int, azimuths: Sequence[float], elevation: float, bandwidth: float
) -> Tensor:
    """Return pictures (clouds * azimuths, side, side) in [0, 1], cloud by cloud."""
    center, radius = frame_of(clouds[0].double())
    # Moved to the center in float64 before the conversion to float32, which is imprecise far from the origin.
    frame = Frame(torch.zeros_like(center).float(), 1.05 * radius.float())
    clouds = [(cloud - center).float() for cloud in clouds]
    densities = [
        render_points(
            cloud[None], side, azimuth=azimuth, elevation=elevation, frame=frame, bandwidth=bandwidth, clamp=False
        )[0]
        / len(cloud)
        for cloud in clouds
        for azimuth in azimuths
    ]
    density = torch.stack(densities)  # (clouds * azimuths, side, side)
    return tone_map(density, _LEAST * float(density.amax()), _GAMMA)
