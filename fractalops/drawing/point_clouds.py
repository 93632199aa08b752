"""Pictures of clouds of points: several views beside each other, turntables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fractalops.drawing.sheets import contact_sheet
from fractalops.drawing.tones import tone_map
from fractalops.rendering import Frame, frame_of, render_points

AZIMUTHS = (20.0, 80.0, 140.0)  # of the three views of a comparison, in degrees
ELEVATION = 15.0
_GAMMA = 0.5  # lifts single points against dense parts
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


def turntable(
    clouds: Sequence[Tensor], *, frames: int = 36, side: int = 256, elevation: float = ELEVATION, bandwidth: float = 1.0
) -> list[Tensor]:
    """Return the frames (H, W) of a full turn around clouds, each (P, 3) or (P, 2); lit as in `draw_point_clouds`."""
    azimuths = [360 * number / frames for number in range(frames)]
    tiles = _tiles(clouds, side, azimuths, elevation, bandwidth)  # (clouds * frames, side, side)
    return [contact_sheet(tiles[number::frames], columns=len(clouds)) for number in range(frames)]


def draw_view(cloud: Tensor, side: int, *, gamma: float | None = None) -> Tensor:
    """Return one view (side, side) in [0, 1] of a cloud (P, 3), with a power of its brightness of its own."""
    return _tiles([cloud], side, AZIMUTHS[:1], ELEVATION, 1.0, gamma or _GAMMA)[0]


@torch.no_grad()
def _tiles(
    clouds: Sequence[Tensor],
    side: int,
    azimuths: Sequence[float],
    elevation: float,
    bandwidth: float,
    gamma: float = _GAMMA,
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
    return tone_map(density, _LEAST * float(density.amax()), gamma)
