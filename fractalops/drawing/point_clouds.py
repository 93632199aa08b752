"""Pictures of clouds of points: several views beside each other, turntables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from fractalops.drawing.sheets import contact_sheet
from fractalops.drawing.tones import tone_map
from fractalops.rendering import Frame, frame_of, project, render_points

AZIMUTHS = (20.0, 80.0, 140.0)  # of the three views of a comparison, in degrees
ELEVATION = 15.0
_GAMMA = 0.5  # lifts single points against dense parts
_FINER = 2  # pixels of a surface in a pixel of its picture, along each axis
_LEAST = 1e-2  # of the highest density: less is not lit


def draw_point_clouds(
    clouds: Sequence[Tensor],
    *,
    side: int = 256,
    azimuths: Sequence[float] = AZIMUTHS,
    elevation: float = ELEVATION,
    bandwidth: float = 1.0,
) -> Tensor:
    """A picture of clouds, each (P, 3) or (P, 2): one row a cloud, one column an azimuth (degrees); no gradients.

    All tiles, of `side` pixels, show the same part of space, that of the first cloud, and are lit alike, whatever the
    clouds' numbers of points. Returns (H, W) in [0, 1].
    """
    return contact_sheet(_tiles(clouds, side, azimuths, elevation, bandwidth), columns=len(azimuths))


@torch.no_grad()
def draw_solid(cloud: Tensor, side: int, *, azimuth: float = 35.0, elevation: float = 25.0) -> Tensor:
    """Draw the points of a cloud (P, 3) that the viewer sees, as a surface in the light: (side, side) in [0, 1].

    What lies behind other points is hidden. The surface is lit by its slope, and less where it is farther away.
    """
    center, radius = frame_of(cloud)
    fine = _FINER * side
    plane, depth = project(cloud - center, azimuth, elevation)  # (P, 2), (P,)
    pixels = ((plane / (1.05 * radius) + 1) / 2 * fine).long()  # (P, 2)
    inside = ((pixels >= 0) & (pixels < fine)).all(1)  # (P,)
    place = (pixels[:, 0] * fine + pixels[:, 1])[inside]
    nearness = cloud.new_full((fine * fine,), -math.inf)
    nearness.scatter_reduce_(0, place, -depth[inside] / radius, "amax")
    surface = max_pool2d(nearness.view(1, 1, fine, fine), 3, 1, 1)[0, 0]  # closes the gaps between the points
    known = surface.isfinite()
    surface = torch.where(known, surface, -1.0)  # (F, F), from -1 to 1
    smooth = avg_pool2d(pad(surface[None, None], (2, 2, 2, 2), mode="replicate"), 5, 1)[0, 0]
    rows, columns = (part * fine / 2 for part in torch.gradient(smooth))  # towards the viewer, per unit of the plane
    # Of the normal (rows, columns, -1) and the light, which comes from above and the left.
    light = (0.5 * rows + 0.35 * columns + 0.8) / (rows.square() + columns.square() + 1).sqrt()
    shade = torch.where(known, 0.2 + 0.8 * light.clamp(0, 1) * (0.75 + 0.25 * surface), 0.0)
    return avg_pool2d(shade[None, None], _FINER)[0, 0].clamp(0, 1)


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
    """Pictures (clouds * azimuths, side, side) in [0, 1], cloud by cloud."""
    center, radius = frame_of(clouds[0])
    frame = Frame(center, 1.05 * radius)
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
