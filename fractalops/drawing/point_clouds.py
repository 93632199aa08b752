"""Pictures of clouds of points: several views beside each other, turntables."""

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

AZIMUTHS = (20.0, 80.0, 140.0)  # of the three views of a comparison, in degrees
ELEVATION = 15.0
_GAMMA = 0.5  # lifts single points against dense parts
_FINER = 2  # pixels of a surface in a pixel of its picture, along each axis
_LARGEST_SOLID = 8192  # pixels of a side, for which the depths take 1 GiB
_HIDDEN = 8  # times as many points as those of a picture in the plane
_POINTS_AT_ONCE = 2**20  # of a surface: bounds the memory, whatever number of points is asked for
_BAND_VALUES = 2**22  # fine pixels of a band of rows that is lit at once
_REACH = 4  # rows of fine pixels that the light of one depends on, on each side
_LEAST = 1e-2  # of the highest density: less is not lit


def draw_point_clouds(
    clouds: Sequence[Tensor],
    *,
    side: int = 256,
    azimuths: Sequence[float] = AZIMUTHS,
    elevation: float = ELEVATION,
    bandwidth: float = 1.0,
) -> Tensor:
    """Return a picture of clouds (P, 3) or (P, 2): a row for each cloud, a column for each azimuth in degrees.

    All tiles, of `side` pixels, show the same part of space, that of the first cloud, and are lit alike, whatever the
    clouds' numbers of points. Returns (H, W) in [0, 1].
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
    """Draw the points of a system in space that the viewer sees, as a surface in the light.

    What lies behind other points is hidden. The surface is lit by its slope, and less where it is farther away. The
    drawing takes 16 bytes a pixel and the memory of a million points, whatever their number.

    Args:
        system: of three dimensions, whose points are bounded.
        side: of the picture, in pixels, at most 8192.
        points: eight times as many are drawn, most of which are hidden.
        margin: of the picture, left empty on each side.
        azimuth: of the viewer, in degrees, as in `project`.
        elevation: likewise.
        generator: of the points, on the system's device.
        bar: counts points; it learns how many there are.

    Yields:
        Bands of rows (h, side) in [0, 1], from top to bottom.

    Raises:
        InputError: for a larger picture.
    """
    if side > _LARGEST_SOLID:
        raise InputError(f"a picture of a system in space must have at most {_LARGEST_SOLID} pixels a side, got {side}")
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
    """Yield the picture of a system in bands of rows (C, h, W), see `draw_bands`.

    One in space is drawn in gray, in a square as wide as the picture is high, from the front and above.
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
    """Return a system in float64 whose points are rows, columns and depths in pixels, and the largest depth.

    The points' middle, by the bounding box of so many of them, is that of the picture, and depth 0.
    """
    matrix, offset = system.matrix.double(), system.offset.double()  # (N, 3, 3), (N, 3)
    identity = torch.eye(3, dtype=offset.dtype, device=offset.device)
    plane, depth = project(identity, azimuth, elevation)  # (3, 2), (3,)
    axes = torch.cat((plane, depth[:, None]), 1)  # (3, 3), orthogonal
    turned = System(axes.mT @ matrix @ axes, offset @ axes, shares_of(system.probabilities))
    low, high = (bound[0] for bound in bounding_box(turned.points(points, generator=generator)[None]))  # (3,), (3,)
    middle, half = (low + high) / 2, (high - low) / 2
    extent = half[:2].amax()
    scale = (0.5 - margin) * side / torch.where(extent > 0, extent, 1)  # pixels in a unit
    picture = middle.new_tensor([side / 2, side / 2, 0])
    moved = (turned.matrix @ middle + turned.offset - middle) * scale + picture - turned.matrix @ picture  # (N, 3)
    return replace(turned, offset=moved), max(1.0, float(half[2] * scale))


def _shade(nearness: Tensor, farthest: float) -> Iterator[Tensor]:
    """Yield bands of rows (h, W) of the surface of nearness (2 H, 2 W), from minus to plus `farthest` fine pixels."""
    height, width = nearness.shape
    for begin, end in whole_rows(height // _FINER, width * _FINER, _BAND_VALUES):
        first, last = max(_FINER * begin - _REACH, 0), min(_FINER * end + _REACH, height)
        part = nearness[None, None, first:last]
        surface = max_pool2d(part, 3, 1, 1)[0, 0]  # (h', 2 W), closes the gaps between the points
        known = surface.isfinite()
        surface = torch.where(known, surface, -farthest)
        smooth = avg_pool2d(pad(surface[None, None], (2, 2, 2, 2), mode="replicate"), 5, 1)[0, 0]
        rows, columns = torch.gradient(smooth)  # towards the viewer
        # Of the normal (rows, columns, -1) and the light, which comes from above and the left.
        light = (0.5 * rows + 0.35 * columns + 0.8) / (rows.square() + columns.square() + 1).sqrt()
        shade = torch.where(known, 0.2 + 0.8 * light.clamp(0, 1) * (0.75 + 0.25 * surface / farthest), 0.0)
        shade = shade[_FINER * begin - first : _FINER * end - first]
        yield avg_pool2d(shade[None, None], _FINER)[0, 0].clamp(0, 1)


def turntable(
    clouds: Sequence[Tensor], *, frames: int = 36, side: int = 256, elevation: float = ELEVATION, bandwidth: float = 1.0
) -> list[Tensor]:
    """Return the frames (H, W) of a full turn around clouds, each (P, 3) or (P, 2); lit as in `draw_point_clouds`."""
    azimuths = [360 * number / frames for number in range(frames)]
    tiles = _tiles(clouds, side, azimuths, elevation, bandwidth)  # (clouds * frames, side, side)
    return [contact_sheet(tiles[number::frames], columns=len(clouds)) for number in range(frames)]


@torch.no_grad()
def _tiles(
    clouds: Sequence[Tensor], side: int, azimuths: Sequence[float], elevation: float, bandwidth: float
) -> Tensor:
    """Return pictures (clouds * azimuths, side, side) in [0, 1], cloud by cloud."""
    center, radius = frame_of(clouds[0].double())
    # Moved to the center in float64 and drawn in float32: far from the origin, that has few digits left.
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
