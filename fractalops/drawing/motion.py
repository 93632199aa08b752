"""Animations of one system: a zoom, the growth of its points, and rotating maps."""

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
from fractalops.systems.system import shares_of

_FIRST_POINTS = 20  # points in the first frame of `build_frames`
_TURN = math.radians(8)  # largest rotation of a map in `orbit_frames`


def zoom_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield the frames of a zoom from the whole picture to `picture.zoom`.

    The magnification grows by the same factor from each frame to the next.

    Args:
        maps: the system, in the plane.
        picture: the settings of the last frame, with a zoom. `Picture.of` creates settings.
        frames: the number of frames.
        seed: the seed of the points, the same in each frame.

    Yields:
        Images (C, H, W) in [0, 1], with C as in `draw`.

    Raises:
        InputError: if a frame shows no point of the attractor, or if a map does not contract.

    Examples:
        >>> import torch
        >>> from fractalops.drawing.canvas import Zoom
        >>> from fractalops.drawing.high_resolution import Picture
        >>> from fractalops.drawing.motion import zoom_frames
        >>> from fractalops.systems import System
        >>> corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> system = System(torch.eye(2).expand(3, 2, 2) / 2, corners, torch.ones(3) / 3)
        >>> picture = Picture.of(system, (48, 64), points=10_000, zoom=Zoom(0.5, 0.5, 100.0))
        >>> len(list(zoom_frames(system, picture, frames=3, seed=0)))
        3
    """
    end = picture.zoom
    assert end is not None
    for number in range(frames):
        factor = end.factor ** (number / max(1, frames - 1))
        x, y = (_passed(center, end.factor, factor) for center in (end.x, end.y))
        yield draw(maps, replace(picture, zoom=Zoom(x, y, factor)), generator_for(maps, seed))


def _passed(center: float, last: float, factor: float) -> float:
    """Return the center of the part that is shown at `factor`, in a zoom to `center` with the final factor `last`."""
    if last == 1:
        return center
    still = (center - 0.5 / last) / (1 - 1 / last)  # the coordinate that does not move during the zoom
    return still * (1 - 1 / factor) + 0.5 / factor


def build_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield frames with more and more points, from 20 to `picture.points`, in the order in which they are drawn.

    The number of points grows by the same factor from each frame to the next.

    Args:
        maps: the system, in the plane.
        picture: the settings of the last frame. `Picture.of` creates settings.
        frames: the number of frames.
        seed: the seed of the points.

    Yields:
        Images (C, H, W) in [0, 1], with C as in `draw`.

    Raises:
        InputError: if a zoom shows no point of the attractor, or if a map of a zoomed system does not contract.

    Examples:
        >>> import torch
        >>> from fractalops.drawing.high_resolution import Picture
        >>> from fractalops.drawing.motion import build_frames
        >>> from fractalops.systems import System
        >>> corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> system = System(torch.eye(2).expand(3, 2, 2) / 2, corners, torch.ones(3) / 3)
        >>> picture = Picture.of(system, (48, 64), points=10_000)
        >>> len(list(build_frames(system, picture, frames=3, seed=0)))
        3
    """
    scene = picture.scene(maps, generator_for(maps, seed))
    first = min(_FIRST_POINTS, picture.points)
    steps = max(1, frames - 1)
    counts = [round(first * (picture.points / first) ** (number / steps)) for number in range(frames)]
    for canvas in scene.grow(counts, 0, picture.size[0]):
        yield develop_whole(maps, picture, scene, canvas)


def orbit_frames(maps: System, picture: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield the frames of a loop in which each map rotates back and forth, by up to 8 degrees.

    Maps with an even index and maps with an odd index rotate in opposite directions. The rotation changes the angle
    theta of `A = R(theta) diag(s1, s2) R(phi) diag(d1, d2)`. The image of the attractor's mean under each map stays at
    the same position.

    Args:
        maps: the system, in the plane.
        picture: the settings of the frames. `Picture.of` creates settings. A fitted viewport is that of the unchanged
            system in all frames.
        frames: the number of frames.
        seed: the seed of the points, the same in each frame.

    Yields:
        Images (C, H, W) in [0, 1], with C as in `draw`.

    Raises:
        InputError: if a frame of a zoom shows no point of the attractor, or if a map of a zoomed system does not
            contract.

    Examples:
        >>> import torch
        >>> from fractalops.drawing.high_resolution import Picture
        >>> from fractalops.drawing.motion import orbit_frames
        >>> from fractalops.systems import System
        >>> corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> system = System(torch.eye(2).expand(3, 2, 2) / 2, corners, torch.ones(3) / 3)
        >>> picture = Picture.of(system, (48, 64), points=10_000)
        >>> len(list(orbit_frames(system, picture, frames=3, seed=0)))
        3
    """
    center = mean_point(maps.matrix, maps.offset, shares_of(maps.probabilities).to(maps.offset))  # (2,)
    middle = maps.matrix @ center + maps.offset  # (N, 2)
    way = 1.0 - 2.0 * (torch.arange(len(maps.offset), device=center.device) % 2)  # (N,)
    whole = replace(picture, zoom=None).scene(maps, generator_for(maps, seed))
    picture = replace(picture, viewport=whole.viewport)  # the viewport of the unchanged system
    for number in range(frames):
        angle = way.to(center) * (_TURN * math.sin(2 * math.pi * number / frames))  # (N,)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
        matrix = turn @ maps.matrix
        turned = replace(maps, matrix=matrix, offset=middle - matrix @ center)
        yield draw(turned, picture, generator_for(maps, seed))


def interesting_point(maps: System, picture: Picture) -> tuple[float, float]:
    """Return a point (x, y), in [0, 1], around which the attractor looks similar at every zoom.

    It is the fixed point of a map. Among the fixed points in the picture, the one farthest from the mean of the points
    is chosen, because edges show more structure. If no fixed point is in the picture, it is the picture's center.
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
    distance = (fixed - mean_point(matrix, offset, shares_of(maps.probabilities))).norm(dim=1)  # (N,)
    y, x = place[torch.where(inside, distance, -1).argmax()].tolist()
    return x, y
