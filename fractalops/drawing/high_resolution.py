"""High-resolution pictures of systems: many points, high resolution, tones that keep the dim parts visible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from fractalops._checks import check_generator, check_integer, check_size, check_viewport
from fractalops.drawing.canvas import (
    BANDWIDTH,
    CUTOFF,
    Scene,
    Zoom,
    check_zoom,
    generator_for,
    whole_rows,
)
from fractalops.drawing.palettes import apply_palette
from fractalops.drawing.tones import Levels, expose, invert_white
from fractalops.ifs import IFS
from fractalops.placement import Viewport
from fractalops.rendering import DEFAULT_BACKGROUND_WEIGHT, Blend
from fractalops.systems import System

if TYPE_CHECKING:
    from tqdm import tqdm

MARGIN = 0.04
"""The share of a picture that is left empty on each side of a system that was not learned."""
_GAMMA = 0.4  # of gray: a hundredth of the full density still shows as 0.16
DEFAULT_INTENSITY = 300 / 32**2  # of the published settings
_LEAST_POINTS = 1_000_000
_CANVAS_VALUES = 2**26  # held at once, 256 MiB; drawing on them takes twice as much for a while
_BAND_VALUES = 2**20  # of a band that is made a picture of
_SMALL_SIDE = 256  # of the picture by which a zoomed one is exposed
# Zooms up to which seams between mean colors are filled, and from which on they are open; web/picture.js has them, too.
_FILLED_ZOOM, _OPEN_ZOOM = 4, 32


def proportional_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a picture of the proportions of `size` (height, width) whose longest side is `longest` pixels."""
    height, width = size
    factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def default_points(size: tuple[int, int], blend: Blend) -> int:
    """Return how many points a picture of `size` is drawn with: one a pixel, and a million at least.

    Mean colors take four a pixel, with which their noise fades.
    """
    return max(_LEAST_POINTS, size[0] * size[1] * (4 if blend == "mean" else 1))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The settings of a drawing. `draw_high_resolution` describes those of the same name."""

    size: tuple[int, int]
    points: int
    viewport: Viewport
    margin: float = 0.0
    zoom: Zoom | None = None
    intensity: float = DEFAULT_INTENSITY
    gamma: float | None = None
    """The power that brightness is raised to: below 1 it lifts dark parts. None is 0.4 for sums in gray, else 1."""
    palette: Tensor | None = None  # (L, 3)
    """The colors that take the place of gray, see `read_palette`."""
    transparent: bool = False
    """Whether brightness becomes opacity, in one more channel; of mean colors, the share that is not background."""
    learned: tuple[int, int] | None = None
    """The size of the images that mean colors were learned for. A larger picture is laid over one of this size, whose
    larger bumps fill the gaps between the tiles."""
    blend: Blend = "add"
    background: float = 0.0
    background_weight: float = DEFAULT_BACKGROUND_WEIGHT

    @classmethod
    def of(cls, system: IFS | System, size: tuple[int, int], points: int | None = None, **look: Any) -> Picture:
        """Return a picture of `default_points` unless `points` is given, with other fields in `look`.

        Those of an `IFS` are drawn as they draw themselves. A plain system fills the picture in its own proportions,
        but for a margin, and where it has colors, these are means.
        """
        own: dict[str, Any]
        if isinstance(system, IFS):
            own = {name: getattr(system, name) for name in ("viewport", "blend", "background", "background_weight")}
        else:
            own = {"viewport": "fit", "margin": MARGIN, "blend": "add" if system.color is None else "mean"}
        own |= look
        return cls(size=size, points=default_points(size, own["blend"]) if points is None else points, **own)

    @property
    def window(self) -> Zoom:
        """The part of the whole picture that is drawn."""
        return self.zoom or Zoom(0.5, 0.5, 1.0)

    def scene(self, maps: System, generator: torch.Generator | None) -> Scene:
        """Return the points of the picture, with one more channel for their number where colors are means."""
        if self.blend == "mean":
            one = torch.ones_like(maps.offset[:, :1])  # (N, 1)
            maps = replace(maps, color=torch.cat((one if maps.color is None else maps.color, one), -1))
        return Scene(
            maps, self.size, self.points, self.viewport, margin=self.margin, zoom=self.zoom, generator=generator
        )

    def develop(self, canvas: Tensor, exposure: float, under: Tensor | None = None) -> Tensor:
        """Make an image (C', h, W) of a canvas (C, h, W), whose values become white from `1 / exposure` on.

        Where colors are means, `1 / exposure` is the weight of the background, and of what lies `under` the canvas
        (C, h, W): colors times opacity, and opacity.
        """
        if self.blend == "mean":
            layer = canvas * exposure + (0 if under is None else under)  # (C + 1, h, W)
            layer = layer / (canvas[-1:] * exposure + 1)
            opaque = layer[:-1] + (1 - layer[-1:]) * self.background
            if self.transparent and self.palette is None:
                color = (layer[:-1] / layer[-1:]).nan_to_num(0).clamp(0, 1) ** (self.gamma or 1.0)
                return torch.cat((color, layer[-1:].clamp(0, 1)))
            image = opaque.clamp(0, 1) ** (self.gamma or 1.0)
        else:
            gamma = self.gamma if self.gamma is not None else _GAMMA if len(canvas) == 1 else 1.0
            image = expose(canvas, exposure, gamma)  # (C, h, W)
        opacity = image.amax(0)  # (h, W)
        background = image.new_zeros(len(image), 1, 1)
        if self.palette is not None:
            image = apply_palette(self.palette, opacity)  # (3, h, W)
            background = self.palette[0].to(image)[:, None, None]
        if not self.transparent:
            return image
        # The color that gives the opaque image over its own background: where there is none, less shines through.
        change = image - background
        least = torch.where(change > 0, change / (1 - background), -change / background).nan_to_num(0)  # (C', h, W)
        opacity = torch.maximum(opacity, least.amax(0)).clamp(max=1)
        color = (background + change / opacity).nan_to_num(0).clamp(0, 1)
        return torch.cat((color, opacity[None]))


def draw_high_resolution(
    system: IFS,
    size: tuple[int, int],
    *,
    points: int | None = None,
    viewport: Viewport | None = None,
    margin: float = 0.0,
    zoom: tuple[float, float, float] | None = None,
    generator: torch.Generator | None = None,
    intensity: float = DEFAULT_INTENSITY,
    learned: tuple[int, int] | None = None,
) -> Tensor:
    """Draw each system of `system`: images (S, H, W) in [0, 1], without gradients.

    With colors they are (S, C, H, W). Those that blend by "mean" are drawn as they were learned. Those that blend by
    "add" are as bright as the images for which the colors were learned, where channels that reach 1 change the hue:
    `intensity` is those images' `FitResult.intensity`. It says nothing in gray.

    Args:
        system: S systems.
        size: (height, width) of the images, in pixels.
        points: of each image; None takes `default_points`.
        viewport: (x_min, y_min, x_max, y_max), the part of the plane that the pixel centers span, as in `render`; None
            is the system's own; "stretch" and "fit" take the bounding box of the points of each system.
        margin: the share of the picture that "stretch" and "fit" leave empty on each side.
        zoom: (x, y, factor) draws a part of the image `factor` times larger, with as many points in it: column x and
            row y, from 0 to 1 of the whole image, are in its middle. The depth is limited by float64 alone, to
            10^11. The part is as bright as in the whole image, but where a deep zoom would be brighter all over.
        generator: draws the points.
        intensity: of the images that colors were learned for.
        learned: the size of those images; larger ones of mean colors are laid over one of this size, without gaps.

    Raises:
        ValueError: when `points` or a side of `size` is below 1, or a zoom is out of range.
        InputError: for a zoom that shows no point of an attractor, or of a system whose maps don't all contract.
    """
    size = check_size("draw_high_resolution", size)
    check_generator("draw_high_resolution", generator, system.offset.device)
    if points is not None:
        points = check_integer("draw_high_resolution", "points", points, 1)
    viewport = system.viewport if viewport is None else viewport
    check_viewport("draw_high_resolution", viewport)
    picture = Picture.of(
        system,
        size,
        points,
        viewport=viewport,
        margin=margin,
        zoom=None if zoom is None else check_zoom("draw_high_resolution", zoom),
        intensity=intensity,
        learned=learned,
    )
    images = torch.stack([draw(each, picture, generator) for each in system.each_system()])  # (S, C, H, W)
    return images[:, 0] if system.channels is None else images


def draw(maps: System, picture: Picture, generator: torch.Generator | None = None) -> Tensor:
    """Draw the picture of one system: (C, H, W)."""
    height, width = picture.size
    image: Tensor | None = None
    top = 0
    for band in draw_bands(maps, picture, generator):
        if image is None:
            image = band.new_empty(len(band), height, width)
        image[:, top : top + band.shape[1]] = band
        top += band.shape[1]
    assert image is not None
    return image


@torch.no_grad()
def draw_bands(
    maps: System, picture: Picture, generator: torch.Generator | None = None, bar: tqdm[Any] | None = None
) -> Iterator[Tensor]:
    """Yield the picture of one system in bands of rows (C, h, W) from top to bottom, in the memory of a few.

    The picture is the same however it is cut into bands, but for the rounding of sums. The progress `bar` counts
    points; it learns how many there are.
    """
    height, width = picture.size
    scene = picture.scene(maps, generator)
    rows = whole_rows(height, scene.channels * width, _CANVAS_VALUES)
    limited = picture.blend == "add" and (maps.color is None or picture.zoom is not None)
    if bar is not None:
        bar.total = (bar.total or 0) + picture.points * (2 * len(rows) - 1 if limited else len(rows))
    levels = Levels(CUTOFF)
    canvas: Tensor | None = None
    if limited:  # from bottom to top, so that the canvas of the first rows is the last
        for begin, end in reversed(rows):
            canvas = None  # frees its memory
            canvas = scene.canvas(begin, end, bar)
            levels.add(_brightest(canvas))
    exposure = _exposure(maps, picture, scene, levels.white())
    under = _draw_under(maps, picture)  # (C, h', W')
    for begin, end in rows:
        if canvas is None:
            canvas = scene.canvas(begin, end, bar)
        for first, last in whole_rows(end - begin, scene.channels * width, _BAND_VALUES):
            below = None if under is None else _part_under(under, picture, begin + first, begin + last)
            yield picture.develop(canvas[:, first:last], exposure, below)
        canvas = None


def develop_whole(maps: System, picture: Picture, scene: Scene, canvas: Tensor) -> Tensor:
    """Make an image (C', H, W) of a canvas (C, H, W) that is all of a picture."""
    levels = Levels(CUTOFF)
    levels.add(_brightest(canvas))
    under = _draw_under(maps, picture)  # (C, h, w)
    below = None if under is None else _part_under(under, picture, 0, picture.size[0])
    return picture.develop(canvas, _exposure(maps, picture, scene, levels.white()), below)


def _draw_under(maps: System, picture: Picture) -> Tensor | None:
    """Return what a picture of mean colors is laid over (C + 1, h, w): colors times opacity, and opacity."""
    learned = picture.learned
    factor = picture.window.factor
    # It fills seams narrower than a learned pixel. Far enough in, they are a part of the fractal to be seen.
    visible = 1 - math.log(max(factor, _FILLED_ZOOM) / _FILLED_ZOOM) / math.log(_OPEN_ZOOM / _FILLED_ZOOM)
    if picture.blend == "add" or learned is None or max(picture.size) * factor <= max(learned) or visible <= 0:
        return None
    small = replace(picture, size=learned, points=default_points(learned, "mean"), zoom=None)
    scene = small.scene(maps, generator_for(maps, 0))
    layer = scene.canvas(0, learned[0]) * _exposure(maps, small, scene, 0.0)  # (C + 1, h, w)
    # It has no soft edges, which would show as a halo around what is drawn above it.
    opacity = (2 * layer[-1:] / (layer[-1:] + 1) - 0.5).clamp(0, 1) * visible  # (1, h, w)
    return torch.cat((layer[:-1] / layer[-1:] * opacity, opacity)).nan_to_num(0)


def _part_under(under: Tensor, picture: Picture, begin: int, end: int) -> Tensor:
    """Return rows from `begin` to before `end` of the picture `under` (C, h, w), as large as the one above it."""
    places = []  # of rows and of columns, each from -1 to 1 over the whole picture
    column, row, factor = picture.window
    for side, middle, pixels in zip(picture.size, (row, column), ((begin, end), (0, picture.size[1])), strict=True):
        whole = torch.arange(*pixels, dtype=torch.float64, device="cpu") - (side - 1) / 2
        whole = whole / factor + middle * side - 0.5
        places.append((2 * whole / max(side - 1, 1) - 1).to(under))
    grid = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).flip(-1)  # (h, W, 2): column and row
    part: Tensor = grid_sample(under[None], grid[None], padding_mode="border", align_corners=True)
    return part[0]


def _exposure(maps: System, picture: Picture, scene: Scene, white: float) -> float:
    """Return the exposure of a picture, of which `white` is the density that a twentieth of the lit pixels exceeds."""
    if picture.blend == "mean":
        weight = picture.background_weight * picture.points * math.pi * BANDWIDTH / math.prod(picture.size)
        return scene.share * picture.window.factor**2 / weight
    if maps.color is None:
        return invert_white(white)
    exposure = picture.intensity * picture.size[0] * picture.size[1] / (picture.points * BANDWIDTH)
    if picture.zoom is None:
        return exposure
    exposure *= scene.share * picture.zoom.factor**2
    # Where a fractal's points lie ever denser, the deeper the zoom, it is to be no brighter than the whole.
    size = proportional_size(picture.size, min(_SMALL_SIDE, max(picture.size)))
    small = replace(picture, size=size, points=size[0] * size[1], zoom=None)
    levels = Levels(CUTOFF)
    levels.add(_brightest(small.scene(maps, generator_for(maps, 0)).canvas(0, size[0])))
    limit = levels.white() * picture.intensity / BANDWIDTH
    return min(exposure, limit * invert_white(white)) if limit > 0 else exposure


def _brightest(canvas: Tensor) -> Tensor:
    """Return the largest channel (h, W) of a canvas (C, h, W)."""
    return canvas[0] if len(canvas) == 1 else canvas.amax(0)
