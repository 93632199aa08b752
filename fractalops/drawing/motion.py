"""Animations of one system: a flight into it, its points as they come, its maps as they turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fractalops.drawing.canvas import Zoom, generator_for
from fractalops.drawing.high_resolution import Picture, develop_whole, draw
from fractalops.ops.fixed_point import run_fixed_point
from fractalops.sampling import mean_point
from fractalops.systems import System

_FIRST_POINTS = 20  # of the first frame of `build`
_TURN = math.radians(8)  # the farthest that a map turns in `orbit`


def zoom_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield frames (C, H, W) from the whole picture to its zoom, each larger than the one before by one factor."""
    end = picture.zoom
    assert end is not None
    for number in range(frames):
        factor = end.factor ** (number / max(1, frames - 1))
        x, y = (_passed(center, end.factor, factor) for center in (end.x, end.y))
        yield draw(maps, replace(picture, zoom=Zoom(x, y, factor)), generator_for(maps, seed))


def _passed(center: float, last: float, factor: float) -> float:
    """Return the middle of the part that a zoom to `center` by `last` shows at `factor`."""
    if last == 1:
        return center
    still = (center - 0.5 / last) / (1 - 1 / last)  # the one coordinate that stays where it is
    return still * (1 - 1 / factor) + 0.5 / factor


def build_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield frames (C, H, W) of ever more points, from a few to all, in the order in which they are drawn."""
    scene = picture.scene(maps, generator_for(maps, seed))
    first = min(_FIRST_POINTS, picture.points)
    steps = max(1, frames - 1)
    counts = [round(first * (picture.points / first) ** (number / steps)) for number in range(frames)]
    for canvas in scene.grow(counts, 0, picture.size[0]):
        yield develop_whole(maps, picture, scene, canvas)


def orbit_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield the frames (C, H, W) of a loop in which each map turns to and fro a little, its neighbor the other way.

    What turns is the outer angle of the maps' singular value decomposition. The middle of what a map draws stays where
    it is.
    """
    center = mean_point(maps.matrix, maps.offset, maps.probabilities)  # (2,)
    middle = maps.matrix @ center + maps.offset  # (N, 2)
    way = 1.0 - 2.0 * (torch.arange(len(maps.offset), device=center.device) % 2)  # (N,)
    whole = replace(picture, zoom=None).scene(maps, generator_for(maps, seed))
    picture = replace(picture, viewport=whole.viewport)  # of the system that stands still
    for number in range(frames):
        angle = way.to(center) * (_TURN * math.sin(2 * math.pi * number / frames))  # (N,)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
        matrix = turn @ maps.matrix
        turned = replace(maps, matrix=matrix, offset=middle - matrix @ center)
        yield draw(turned, picture, generator_for(maps, seed))


def interesting_point(maps: System, picture: Picture) -> tuple[float, float]:
    """Return a point of the attractor as (x, y) in [0, 1], around which it looks alike at every depth.

    It is a fixed point of a map: of those in the picture the one farthest from the middle of the points, as edges show
    more than what lies between them. Where there is none, it is the picture's middle.
    """
    x_min, y_min, x_max, y_max = picture.scene(maps, generator_for(maps, 0)).viewport
    matrix, offset = maps.matrix.double(), maps.offset.double()
    low, high = offset.new_tensor([x_min, y_min]), offset.new_tensor([x_max, y_max])
    last = offset.new_tensor([side - 1 for side in picture.size])
    fixed = run_fixed_point(matrix, offset)  # (N, 2)
    place = ((fixed - low) / (high - low) * last + 0.5) / (last + 1)  # (N, 2)
    inside = ((place >= 0) & (place <= 1)).all(1)  # (N,)
    if not bool(inside.any()):
        return 0.5, 0.5
    distance = (fixed - mean_point(matrix, offset, maps.probabilities.double())).norm(dim=1)  # (N,)
    y, x = place[torch.where(inside, distance, -1).argmax()].tolist()
    return x, y
