"""Draw the points of one system on the pixels of a picture, in bands of rows and at any zoom."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fractalops._checks import check_number, shape_error
from fractalops.backends import choose
from fractalops.deep_zoom import Words, through_words, words_in_window
from fractalops.errors import InputError
from fractalops.ops.rbf_rasterize import rbf_rasterize
from fractalops.placement import Placement, Viewport, place
from fractalops.rendering import EXPLODES
from fractalops.systems import System
from fractalops.systems.system import shares_of

if TYPE_CHECKING:
    from tqdm import tqdm

BANDWIDTH = 1.0  # square pixels: soft enough to hide grain, sharp enough for thin branches
CUTOFF = 1e-2  # smaller values are invisible after the tone map
_REACH = 3.0  # pixels: the radius of a bump, plus half a pixel for rounding
_POINTS_AT_ONCE = 8_000_000  # bounds the memory for any number of points
_TABLE_VALUES = 2**24  # values of the reference's tables, which have one row and one column of the picture per point
_TRIED = 100_000  # a zoomed picture counts as empty if none of this many points is in it
LARGEST_ZOOM = 10**11  # at larger zooms, rounding in float64 moves points by more than a hundredth of a pixel


class Zoom(NamedTuple):
    """A part of a picture that is enlarged to the size of the whole picture."""

    x: float
    """The column of the part's center, from 0 at the left edge of the whole picture to 1 at the right edge."""
    y: float
    """The row of the part's center, from 0 at the top edge of the whole picture to 1 at the bottom edge."""
    factor: float
    """The magnification, from 1 to `LARGEST_ZOOM`."""

    def placement(self, whole: Placement, size: tuple[int, int]) -> Placement:
        """Return the placement of points in the zoomed picture, given that in the whole picture of `size`; float64."""
        origin, scale, target = (part.flatten()[:2].double() for part in whole)  # each (2,)
        side = target.new_tensor(size)  # (2,)
        center = target.new_tensor([self.y, self.x]) * side - 0.5  # (2,), in pixels of the whole
        return Placement(origin, scale * self.factor, (target - center) * self.factor + (side - 1) / 2)


def check_zoom(function: str, zoom: object) -> Zoom:
    """Return `zoom` as a `Zoom`.

    Raises `TypeError` unless it consists of three numbers (x, y, factor), and `ValueError` unless x and y are in [0, 1]
    and factor is in [1, `LARGEST_ZOOM`]. The message begins with the name of `function`.
    """
    if not isinstance(zoom, (tuple, list)) or len(zoom) != 3:
        raise TypeError(f"{function}: zoom must be (x, y, factor), got {zoom!r}")
    checked = Zoom(*zoom)
    check_number(function, "zoom's x", checked.x, least=0, most=1)
    check_number(function, "zoom's y", checked.y, least=0, most=1)
    check_number(function, "zoom's factor", checked.factor, least=1, most=LARGEST_ZOOM)
    return checked


def generator_for(maps: System, seed: int) -> torch.Generator:
    """Return a generator with the given seed, on the device of the maps."""
    return torch.Generator(maps.offset.device).manual_seed(seed)


class Scene:
    """The points of one system in a picture. Every canvas of a scene is drawn with the same points.

    The points are not kept. For each canvas the generator is set back to its first state and draws them again, so a
    picture of any size with any number of points takes the memory of one canvas. After a canvas, the generator is in
    the state after the last point.

    Args:
        maps: a system in the plane.
        size: (height, width) of the picture, in pixels.
        points: the number of points to draw.
        viewport: the part of the plane that the picture shows, see `fractalops.render`.
        margin: the share of the picture that "stretch" and "fit" leave empty on each side.
        zoom: the part of the picture to draw; None draws the whole picture.
        generator: draws the points, on the device of the maps; None creates one with a random seed.

    Raises:
        InputError: if a zoom shows no point of the attractor or cannot be drawn.
        ValueError: if the system is in space.
    """

    def __init__(
        self,
        maps: System,
        size: tuple[int, int],
        points: int,
        viewport: Viewport,
        *,
        margin: float = 0.0,
        zoom: Zoom | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if maps.dimensions != 2:
            raise shape_error("Scene", "matrix", "(N, 2, 2)", maps.matrix)
        self._maps = maps
        self._size = size
        self._points = points
        self._words: Words | None = None
        if generator is None:
            generator = generator_for(maps, int(torch.randint(2**62, (), device="cpu")))
        self._generator = generator
        self._state = generator.get_state()
        self._checked = False
        first = maps.offset.new_zeros(1, 1, 2)
        if isinstance(viewport, str):
            first = maps.points(min(_POINTS_AT_ONCE, points), generator=generator)[None]  # (1, P, 2)
            generator.set_state(self._state)
        self._placement = place(viewport, first, size, margin)
        if zoom is not None:
            self._placement = zoom.placement(self._placement, size)
            self._words = self._find_words()
            self._state = generator.get_state()
            self._check_lit(zoom)

    @property
    def viewport(self) -> tuple[float, float, float, float]:
        """The rectangle (x_min, y_min, x_max, y_max) between the centers of the corner pixels, also if it is fitted.

        Its side along an axis is 1 if the picture has only one pixel there, or if all points have the same coordinate.
        """
        origin, scale, target = (part.flatten()[:2].double() for part in self._placement)
        last = target.new_tensor([side - 1 for side in self._size])  # (2,)
        known = (scale > 0) & (last > 0)
        low = origin - torch.where(known, target / scale, 0.5)
        high = low + torch.where(known, last / scale, 1)
        (x_min, y_min), (x_max, y_max) = low.tolist(), high.tolist()
        return x_min, y_min, x_max, y_max

    @property
    def share(self) -> float:
        """The share of the attractor from which points are drawn: 1 if the picture is not zoomed."""
        return 1.0 if self._words is None else float(self._words.probability.sum())

    @property
    def channels(self) -> int:
        """C, the number of channels of a canvas."""
        return self._maps.channels or 1

    def canvas(self, begin: int, end: int, bar: tqdm[Any] | None = None) -> Tensor:
        """Draw the rows in [`begin`, `end`). Returns (C, end - begin, W), the density of points on each pixel.

        For a system with colors, it is the sum of the points' colors in each channel. Without colors, C is 1. Each
        point is a Gaussian bump. The progress `bar` counts points.
        """
        (canvas,) = self.grow([self._points], begin, end, bar)
        return canvas

    def grow(self, counts: Sequence[int], begin: int, end: int, bar: tqdm[Any] | None = None) -> Iterator[Tensor]:
        """Yield the canvas with only the first points, for each of the ascending numbers `counts`.

        All yielded values are the same tensor, to which points are added.
        """
        canvas = self._maps.offset.new_zeros(self.channels, end - begin, self._size[1])
        left, drawn = list(counts), 0
        for pixels, maps in self._pixels():
            while left:
                count = min(left[0] - drawn, len(pixels))
                self._add(canvas, pixels[:count], maps[:count], begin, end)
                pixels, maps, drawn = pixels[count:], maps[count:], drawn + count
                if bar is not None:
                    bar.update(count)
                if drawn < left[0]:
                    break
                yield canvas
                del left[0]
            if not left:
                return

    def _add(self, canvas: Tensor, pixels: Tensor, maps: Tensor, begin: int, end: int) -> None:
        """Draw points (P, 2), in pixels, on a canvas (C, h, W). `maps` (P,) are the maps that created the points."""
        if (begin, end) != (0, self._size[0]):
            near = (pixels[:, 0] > begin - _REACH) & (pixels[:, 0] < end - 1 + _REACH)
            chosen = near.nonzero()[:, 0]
            pixels, maps = pixels[chosen].sub_(pixels.new_tensor([begin, 0])), maps[chosen]
        if len(pixels) == 0:
            return
        colors = self._maps.color
        size = end - begin, self._size[1]
        in_tables = choose("rbf_rasterize", pixels.device) == "reference"
        at_once = max(1, _TABLE_VALUES // sum(size)) if in_tables else len(pixels)
        for some, own in zip(pixels.split(at_once), maps.split(at_once), strict=True):
            weight = None if colors is None else colors.index_select(0, own.int())[None]  # (1, P, C)
            canvas += rbf_rasterize(some[None], size, bandwidth=BANDWIDTH, weight=weight, cutoff=CUTOFF)[0]

    def _pixels(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all points in batches: (P, 2) in pixels, and the maps (P,) that created them."""
        self._generator.set_state(self._state)
        for begin in range(0, self._points, _POINTS_AT_ONCE):
            pixels, maps = self._some(min(_POINTS_AT_ONCE, self._points - begin))
            self._check_seen(pixels)
            yield pixels, maps

    def _check_seen(self, pixels: Tensor) -> None:
        """Warn, in the first call only, if some points (P, 2) are not finite or if none is in the picture."""
        if self._checked:
            return
        self._checked = True
        last = pixels.new_tensor([side - 1 for side in self._size])  # (2,)
        if not bool(pixels.sum().isfinite()):
            warnings.warn(f"draw: {EXPLODES}", stacklevel=2)
        elif not bool(((pixels > -_REACH) & (pixels < last + _REACH)).all(1).any()):
            warnings.warn("draw: the picture is empty: no point of the attractor is in its viewport", stacklevel=2)

    def _some(self, count: int) -> tuple[Tensor, Tensor]:
        cloud, maps = self._maps.sample(count, generator=self._generator)
        if self._words is None:
            origin, scale, target = (part.flatten()[:2] for part in self._placement)
            return cloud.sub_(origin).mul_(scale).add_(target), maps  # in place, to save memory
        pixels, last = through_words(self._words, cloud, self._generator)
        return pixels, torch.where(last < 0, maps, last)

    def _find_words(self) -> Words:
        """Return the words of the zoomed window (see `fractalops.deep_zoom`). They map points to pixels."""
        origin, scale, target = self._placement
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise InputError(
                "deep zoom: size must be at least 2 pixels, and the attractor must have an extent, along each axis, "
                f"got {self._size}"
            )
        last = target.new_tensor([side - 1 for side in self._size])  # (2,)
        low, high = (origin + (edge - target) / scale for edge in (-_REACH, last + _REACH))
        maps = self._maps
        words = words_in_window(maps.matrix, maps.offset, shares_of(maps.probabilities), low, high, self._generator)
        # Pixel coordinates keep the precision that plane coordinates of a deep window lose.
        return words._replace(matrix=scale[:, None] * words.matrix, offset=self._placement(words.offset))

    def _check_lit(self, zoom: Zoom) -> None:
        """Raise `InputError` unless at least one of many points is in the picture."""
        height, width = self._size
        last = self._placement.target.new_tensor([height - 1, width - 1])  # (2,)
        if self._words is not None and len(self._words.last) > 0:
            pixels = self._some(_TRIED)[0]
            if bool(((pixels > -0.5) & (pixels < last + 0.5)).all(1).any()):
                return
        maps = self._maps
        double = System(maps.matrix.double(), maps.offset.double(), maps.probabilities.double())
        points = double.points(_TRIED, generator=self._generator)  # (P, 2)
        away = self._placement(points) - last / 2  # (P, 2), in pixels
        row, column = away[away.square().sum(1).argmin()].tolist()
        x, y = zoom.x + column / (width * zoom.factor), zoom.y + row / (height * zoom.factor)
        raise InputError(
            f"cannot draw this zoom: it shows no point of the attractor; the nearest point is at {x:.12g},{y:.12g}"
        )


def whole_rows(height: int, values: int, most: int) -> list[tuple[int, int]]:
    """Return (begin, end) of bands of rows. A row has `values` values, and a band at most `most` (or one row)."""
    rows = max(1, most // values)
    count = math.ceil(height / rows)
    return [(height * i // count, height * (i + 1) // count) for i in range(count)]
