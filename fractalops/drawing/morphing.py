"""Animations that turn one system into another, by interpolating the factors of the maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from fractalops.drawing.canvas import generator_for
from fractalops.drawing.high_resolution import Picture, draw
from fractalops.sampling import mean_point
from fractalops.systems import System
from fractalops.systems.system import shares_of


class _Factors(NamedTuple):
    """The factors of N maps, in float64, which can be interpolated.

    A matrix is `p R(turn) + q R(mirror) diag(1, -1)`. Its singular values are `p + q` and `|p - q|`, and it reflects if
    `q > p`. In terms of the decomposition `R(theta) diag(s1, s2) R(phi) diag(d1, d2)`, the angles are the sum and the
    difference of theta and phi, and the sign of s2 is that of the determinant.
    """

    turn: Tensor  # (N,)
    mirror: Tensor  # (N,)
    p: Tensor  # (N,)
    q: Tensor  # (N,)
    middle: Tensor  # (N, 2), the image of the attractor's mean under each map
    probabilities: Tensor  # (N,)
    colors: Tensor  # (N, C), C = 0 in gray

    def pick(self, chosen: Tensor) -> _Factors:
        """Return the chosen maps."""
        return _Factors(*(part[chosen] for part in self))


class Morph:
    """The systems between two systems.

    Maps are matched one to one, with the least sum of distances between their images of the attractor's mean. A map
    without a match grows from a point, or shrinks to a point.

    Args:
        first: the system at time 0, in the plane.
        last: the system at time 1, likewise.

    Raises:
        ValueError: if only one of the systems has colors.
    """

    def __init__(self, first: System, last: System) -> None:
        if (first.color is None) != (last.color is None):
            raise ValueError("Morph: both systems or neither must have colors, got one with colors")
        self._gray = first.color is None
        self._dtype = first.offset.dtype
        self._ends = tuple(_mean(maps) for maps in (first, last))
        a, b = (_factors(maps, center) for maps, center in zip((first, last), self._ends, strict=True))
        to_b = match(torch.cdist(a.middle, b.middle))  # (N,), -1 for none
        alone = torch.ones(len(b.p), dtype=torch.bool, device="cpu")
        alone[to_b[to_b >= 0]] = False
        found = to_b >= 0
        self._first = _joined(a.pick(found), a.pick(~found), _nothing(b.pick(alone)))
        self._last = _joined(b.pick(to_b[found]), _nothing(a.pick(~found)), b.pick(alone))

    def at(self, time: float) -> System:
        """Return the system at a time in [0, 1], where 0 is the first system and 1 is the last."""
        a, b = self._first, self._last
        center = self._ends[0].lerp(self._ends[1], time)  # (2,)
        # A matrix of size 0 has no angle, so it takes that of the other system.
        turn = _turned(torch.where(a.p > 0, a.turn, b.turn), torch.where(b.p > 0, b.turn, a.turn), time)
        mirror = _turned(torch.where(a.q > 0, a.mirror, b.mirror), torch.where(b.q > 0, b.mirror, a.mirror), time)
        p, q, middle, probabilities, colors = (
            start.lerp(end, time) for start, end in zip(tuple(a)[2:], tuple(b)[2:], strict=True)
        )
        c, s, m, n = p * turn.cos(), p * turn.sin(), q * mirror.cos(), q * mirror.sin()
        matrix = torch.stack((c + m, n - s, s + n, c - m), 1).view(-1, 2, 2)
        offset = middle - matrix @ center
        matrix, offset, probabilities, colors = (
            part.to(self._dtype) for part in (matrix, offset, probabilities, colors)
        )
        return System(matrix, offset, probabilities, None if self._gray else colors)


def morph_frames(first: System, last: System, start: Picture, end: Picture, frames: int, seed: int) -> Iterator[Tensor]:
    """Yield the frames of a loop that turns one system into another and back.

    The time follows a cosine, so the change is slow near both systems. Matched maps are interpolated by their rotation
    angles, singular values and positions, see `Morph`.

    Args:
        first: the system in the first frame, in the plane.
        last: the system in the middle of the loop, likewise. Both systems or neither must have colors.
        start: the settings of the first frame. All frames have its size; `Picture.of` creates settings.
        end: the settings of a picture of `last`. The middle of the loop shows its viewport.
        frames: the number of frames.
        seed: the seed of the points, the same in each frame.

    Yields:
        Images (C, H, W) in [0, 1], with C as in `draw`.

    Raises:
        ValueError: if only one of the systems has colors.

    Examples:
        >>> import torch
        >>> from fractalops.drawing.high_resolution import Picture
        >>> from fractalops.drawing.morphing import morph_frames
        >>> from fractalops.systems import System
        >>> half, third = torch.eye(2) / 2, torch.eye(2) / 3
        >>> corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> first = System(half.expand(3, 2, 2), corners, torch.ones(3) / 3)
        >>> last = System(third.expand(3, 2, 2), corners, torch.ones(3) / 3)
        >>> pictures = [Picture.of(system, (48, 64), points=10_000) for system in (first, last)]
        >>> frames = list(morph_frames(first, last, *pictures, frames=4, seed=0))
        >>> len(frames), frames[0].shape
        (4, torch.Size([1, 48, 64]))
    """
    morph = Morph(first, last)
    bounds = [
        frame_viewport(picture.scene(maps, generator_for(maps, seed)).viewport, picture.size, start.size)
        for picture, maps in ((start, first), (end, last))
    ]  # each (4,)
    for number in range(frames):
        time = (1 - math.cos(2 * math.pi * number / frames)) / 2
        x_min, y_min, x_max, y_max = bounds[0].lerp(bounds[1], time).tolist()
        intensity = (1 - time) * start.intensity + time * end.intensity
        picture = replace(start, viewport=(x_min, y_min, x_max, y_max), intensity=intensity)
        maps = morph.at(time)
        yield draw(maps, picture, generator_for(maps, seed))


def frame_viewport(
    viewport: tuple[float, float, float, float], size: tuple[int, int], frame: tuple[int, int]
) -> Tensor:
    """Return the smallest viewport (4,) of a picture of size `frame` that contains `viewport` of a picture of `size`.

    The aspect ratio of the contents does not change.
    """
    corners = torch.tensor(viewport, dtype=torch.float64, device="cpu").view(2, 2)
    larger = corners.new_tensor([(side - 1) / max(1, own - 1) for side, own in zip(frame, size, strict=True)])
    larger = torch.where(larger > 0, larger / larger.amin().clamp(min=1e-9), 1)
    middle = corners.mean(0)
    return (middle + (corners - middle) * larger).flatten()


def match(cost: Tensor) -> Tensor:
    """Match rows to columns one to one, with the least sum of costs (the Hungarian method).

    Rows are added one after the other, each along a shortest augmenting path.

    Args:
        cost: (N, M), the cost of each pair of a row and a column.

    Returns:
        The column of each row, (N,), int64, or -1 if a row has none.
    """
    if cost.shape[0] > cost.shape[1]:
        rows_of = match(cost.t())  # (M,)
        matched = rows_of.new_full((len(cost),), -1)
        matched[rows_of] = torch.arange(len(rows_of), device="cpu")
        return matched
    costs = cost.numpy()
    rows, columns = costs.shape
    # The dual variables: row_pays + column_pays is at most the cost, and equal to it for matched pairs. Column M is a
    # placeholder for the current row.
    row_pays, column_pays = numpy.zeros(rows), numpy.zeros(columns + 1)
    owner = numpy.full(columns + 1, -1)
    for row in range(rows):
        owner[columns] = row
        least, before = numpy.full(columns + 1, math.inf), numpy.full(columns + 1, columns)
        seen = numpy.zeros(columns + 1, dtype=bool)
        last = columns
        while owner[last] >= 0:
            seen[last] = True
            reduced = costs[owner[last]] - row_pays[owner[last]] - column_pays[:columns]
            nearer = numpy.flatnonzero(~seen[:columns] & (reduced < least[:columns]))
            least[nearer], before[nearer] = reduced[nearer], last
            last = int(numpy.where(seen, math.inf, least).argmin())
            step = least[last]
            row_pays[owner[seen]] += step
            column_pays[seen] -= step
            least[~seen] -= step
        while last != columns:  # along the path, each column is given to the previous row
            owner[last] = owner[before[last]]
            last = before[last]
    taken = numpy.flatnonzero(owner[:columns] >= 0)
    columns_of = numpy.full(rows, -1)
    columns_of[owner[taken]] = taken
    return torch.from_numpy(columns_of)


def _mean(maps: System) -> Tensor:
    return mean_point(maps.matrix.double(), maps.offset.double(), shares_of(maps.probabilities)).cpu()


def _factors(maps: System, center: Tensor) -> _Factors:
    matrix = maps.matrix.double().cpu()  # (N, 2, 2)
    a00, a01, a10, a11 = matrix.flatten(1).unbind(1)
    c, s, m, n = (a00 + a11) / 2, (a10 - a01) / 2, (a00 - a11) / 2, (a10 + a01) / 2
    colors = matrix.new_zeros(len(matrix), 0) if maps.color is None else maps.color.double().cpu()
    return _Factors(
        turn=torch.atan2(s, c),
        mirror=torch.atan2(n, m),
        p=torch.hypot(c, s),
        q=torch.hypot(m, n),
        middle=matrix @ center + maps.offset.double().cpu(),
        probabilities=shares_of(maps.probabilities).cpu(),
        colors=colors,
    )


def _nothing(factors: _Factors) -> _Factors:
    """Return the same maps with size 0 and probability 0, so that they are never drawn."""
    return factors._replace(p=0 * factors.p, q=0 * factors.q, probabilities=0 * factors.probabilities)


def _joined(*factors: _Factors) -> _Factors:
    return _Factors(*(torch.cat(parts) for parts in zip(*factors, strict=True)))


def _turned(start: Tensor, end: Tensor, time: float) -> Tensor:
    """Return the angle at a time between two angles, the short way around."""
    return start + time * torch.remainder(end - start + math.pi, 2 * math.pi) - time * math.pi
