"""Draw systems at high resolution, with many points and a tone map that keeps dim parts visible."""

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
"""The share of a picture that is empty on each side of a `System`, see `Picture.of`."""
_GAMMA = 0.4  # gamma of gray pictures: a hundredth of the full density still has brightness 0.16
DEFAULT_INTENSITY = 300 / 32**2  # points per pixel of the published settings: 300 points on 32 x 32 pixels
_LEAST_POINTS = 1_000_000  # points of a picture at least
_CANVAS_VALUES = 2**26  # values of a canvas at most, 256 MiB; drawing temporarily takes twice as much
_BAND_VALUES = 2**20  # values of a band that becomes an image in one step
_SMALL_SIDE = 256  # side of the small picture that determines the exposure of a zoomed picture
# Seams between mean colors are filled at zooms up to the first value and open from the second value on. The same values
# are in web/picture.js.
_FILLED_ZOOM, _OPEN_ZOOM = 4, 32


def proportional_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size (height, width) with the aspect ratio of `size` and a longest side of `longest` pixels."""
    height, width = size
    factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def default_points(size: tuple[int, int], blend: Blend) -> int:
    """Return the default number of points of a picture of `size`: one per pixel, and a million at least.

    With `blend="mean"` it is four per pixel, to reduce the noise.
    """
    return max(_LEAST_POINTS, size[0] * size[1] * (4 if blend == "mean" else 1))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The settings of a drawing of one system.

    `Picture.of` creates them with the defaults that suit a system.
    """

    size: tuple[int, int]
    """(height, width) of the picture, in pixels."""
    points: int
    """The number of points to draw, at least 1."""
    viewport: Viewport
    """The part of the plane that the picture shows, see `draw_high_resolution`."""
    margin: float = 0.0
    """The share of the picture that the viewports "stretch" and "fit" leave empty on each side, in [0, 0.5)."""
    zoom: Zoom | None = None
    """The part of the picture to draw; None draws the whole picture."""
    intensity: float = DEFAULT_INTENSITY
    """The points per pixel of the images for which colors of `blend="add"` were learned, times the bandwidth."""
    gamma: float | None = None
    """The exponent of the brightness; below 1, it makes dark parts brighter. None means 0.4 in gray with
    `blend="add"`, and 1 otherwise."""
    palette: Tensor | None = None
    """(L, 3), the colors that replace gray, see `read_palette`; None keeps gray."""
    transparent: bool = False
    """Add a channel of opacity, which is the brightness with `blend="add"`. With "mean" it is the share of the color
    that does not come from the background."""
    learned: tuple[int, int] | None = None
    """(height, width) of the images for which colors of `blend="mean"` were learned. A larger picture is drawn over a
    picture of this size, whose larger bumps fill the gaps between the images of the maps. None leaves the gaps open."""
    blend: Blend = "add"
    """The rule that combines points on the same pixel, see `fractalops.render`."""
    background: float = 0.0
    """With `blend="mean"`, the value of pixels without points, in all channels."""
    background_weight: float = DEFAULT_BACKGROUND_WEIGHT
    """With `blend="mean"`, the weight of the background as a share of the mean weight of the points."""

    @classmethod
    def of(cls, system: IFS | System, size: tuple[int, int], points: int | None = None, **look: Any) -> Picture:
        """Return the settings of a picture of `system`.

        An `IFS` is drawn with its own viewport, blend and background. A `System` is fitted to the picture with its
        aspect ratio and a margin, and its colors, if any, are blended by "mean".

        Args:
            system: the system to draw.
            size: (height, width) of the picture, in pixels.
            points: the number of points. Default: None, which means `default_points`.
            look: values of other fields, which replace the values above.
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
        """The part of the picture that is drawn, also if `zoom` is None."""
        return self.zoom or Zoom(0.5, 0.5, 1.0)

    def scene(self, maps: System, generator: torch.Generator | None) -> Scene:
        """Return the points of the picture. With `blend="mean"`, a last channel counts the points."""
        if self.blend == "mean":
            one = torch.ones_like(maps.offset[:, :1])  # (N, 1)
            maps = replace(maps, color=torch.cat((one if maps.color is None else maps.color, one), -1))
        return Scene(
            maps, self.size, self.points, self.viewport, margin=self.margin, zoom=self.zoom, generator=generator
        )

    def develop(self, canvas: Tensor, exposure: float, under: Tensor | None = None) -> Tensor:
        """Turn a canvas into an image (C', h, W) with values in [0, 1].

        Args:
            canvas: (C, h, W), rows of a canvas of `scene`.
            exposure: with `blend="add"`, values of `1 / exposure` and more become white. With "mean", `1 / exposure` is
                the weight of the background and of `under`.
            under: (C, h, W), a layer below the canvas with `blend="mean"`: colors times opacity, then the opacity.
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
        # The color and opacity that reproduce the opaque image over the background, which is black or the palette's
        # first color. The opacity is raised if no color in [0, 1] would reproduce the image.
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
    """Draw each system at high resolution, without gradients.

    Points are drawn as Gaussian bumps of bandwidth 1 (square pixels). In gray, the brightness is the density of points
    to the power of 0.4, scaled so that the densest 5 % of the lit pixels are white. With colors and `blend="add"`,
    images are as bright as the images for which the colors were learned. Values above 1 are clamped, which changes the
    hue. With colors and `blend="mean"`, each pixel has the mean color of its points, as in `fractalops.render`.

    Args:
        system: an `IFS` with S systems in the plane, which also gives the blend and the background.
        size: (height, width) of the images in pixels, each at least 1; a number means a square.
        points: the number of points of each image, at least 1. Default: None, which means one per pixel (four with
            `blend="mean"`), and a million at least.
        viewport: (x_min, y_min, x_max, y_max), the rectangle between the centers of the corner pixels, with x along
            rows, as in `fractalops.render`. "stretch" and "fit" use the bounding box of the points of each system.
            Default: None, which means `system.viewport`.
        margin: the share of the image that "stretch" and "fit" leave empty on each side, in [0, 0.5). Default: 0.
        zoom: (x, y, factor), the part of the image to draw, enlarged `factor` times. Its center is at column x and row
            y, where 0 and 1 are opposite edges of the whole image. The factor is in [1, 10^11], limited by float64. The
            part has `points` points of its own. With colors and `blend="add"`, it is as bright as in the whole image,
            or darker if a deep zoom would be brighter than the whole image. Default: None, which means the whole image.
        generator: the generator of the points, on the device of the system. Default: None, which means a random seed.
        intensity: `FitResult.intensity` of the images for which colors of `blend="add"` were learned: their points per
            pixel, times the bandwidth. It has no effect otherwise. Default: 300 / 32^2, as in the published settings.
        learned: (height, width) of the images for which colors of `blend="mean"` were learned. A larger image is drawn
            over an image of this size, whose larger bumps fill the gaps between the images of the maps. From zoom 4
            to 32 it fades out, so that gaps show the background. Default: None, which leaves the gaps open.

    Returns:
        Images (S, H, W), or (S, C, H, W) for systems with C channels, in [0, 1], in the dtype and on the device of the
        system.

    Raises:
        ValueError: if `points` or a side of `size` is below 1, or `zoom` or `viewport` is out of range.
        TypeError: if an argument has a wrong type.
        InputError: if a zoom shows no point of an attractor, or if a map of a zoomed system does not contract.

    Examples:
        >>> import fractalops
        >>> from fractalops.drawing.high_resolution import draw_high_resolution
        >>> system = fractalops.IFS(2, 4)
        >>> draw_high_resolution(system, (120, 160), points=50_000, viewport="fit").shape
        torch.Size([2, 120, 160])
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
    """Draw the picture of one system.

    Args:
        maps: the system, in the plane.
        picture: the settings.
        generator: draws the points, on the device of the maps; None means a random seed.

    Returns:
        The image (C, H, W) in [0, 1]. C is 1 in gray, 3 with a palette, the number of channels of the colors otherwise,
        and one more if the picture is transparent.
    """
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
    """Yield the picture of one system in bands of rows (C, h, W) from top to bottom, which limits the memory.

    The division into bands changes the picture by rounding only. The progress `bar` counts points, and its total is
    increased by their number.
    """
    height, width = picture.size
    scene = picture.scene(maps, generator)
    rows = whole_rows(height, scene.channels * width, _CANVAS_VALUES)
    limited = picture.blend == "add" and (maps.color is None or picture.zoom is not None)
    if bar is not None:
        bar.total = (bar.total or 0) + picture.points * (2 * len(rows) - 1 if limited else len(rows))
    levels = Levels(CUTOFF)
    canvas: Tensor | None = None
    if limited:  # from bottom to top, so that the last canvas is that of the first rows and is used again below
        for begin, end in reversed(rows):
            canvas = None  # frees the memory of the last canvas
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
    """Turn a canvas (C, H, W) of the whole picture into an image (C', H, W)."""
    levels = Levels(CUTOFF)
    levels.add(_brightest(canvas))
    under = _draw_under(maps, picture)  # (C, h, w)
    below = None if under is None else _part_under(under, picture, 0, picture.size[0])
    return picture.develop(canvas, _exposure(maps, picture, scene, levels.white()), below)


def _draw_under(maps: System, picture: Picture) -> Tensor | None:
    """Return the layer below a picture of mean colors, (C + 1, h, w): colors times opacity, then the opacity.

    Returns None if the picture needs no such layer.
    """
    learned = picture.learned
    factor = picture.window.factor
    # The layer fills seams narrower than a learned pixel. At large zooms it fades out, so that seams become visible.
    visible = 1 - math.log(max(factor, _FILLED_ZOOM) / _FILLED_ZOOM) / math.log(_OPEN_ZOOM / _FILLED_ZOOM)
    if picture.blend == "add" or learned is None or max(picture.size) * factor <= max(learned) or visible <= 0:
        return None
    small = replace(picture, size=learned, points=default_points(learned, "mean"), zoom=None)
    scene = small.scene(maps, generator_for(maps, 0))
    layer = scene.canvas(0, learned[0]) * _exposure(maps, small, scene, 0.0)  # (C + 1, h, w)
    # Sharper edges of opacity, because soft edges would show as a halo around the picture above the layer.
    opacity = (2 * layer[-1:] / (layer[-1:] + 1) - 0.5).clamp(0, 1) * visible  # (1, h, w)
    return torch.cat((layer[:-1] / layer[-1:] * opacity, opacity)).nan_to_num(0)


def _part_under(under: Tensor, picture: Picture, begin: int, end: int) -> Tensor:
    """Return the rows in [`begin`, `end`) of the layer `under` (C, h, w), enlarged to the size of the picture."""
    places = []  # coordinates of rows, then of columns, from -1 to 1 over the whole picture
    column, row, factor = picture.window
    for side, middle, pixels in zip(picture.size, (row, column), ((begin, end), (0, picture.size[1])), strict=True):
        whole = torch.arange(*pixels, dtype=torch.float64, device="cpu") - (side - 1) / 2
        whole = whole / factor + middle * side - 0.5
        places.append((2 * whole / max(side - 1, 1) - 1).to(under))
    grid = torch.stack(torch.meshgrid(*places, indexing="ij"), -1).flip(-1)  # (h, W, 2): column and row
    part: Tensor = grid_sample(under[None], grid[None], padding_mode="border", align_corners=True)
    return part[0]


def _exposure(maps: System, picture: Picture, scene: Scene, white: float) -> float:
    """Return the exposure of a picture. A twentieth of its lit pixels has a density above `white`."""
    if picture.blend == "mean":
        weight = picture.background_weight * picture.points * math.pi * BANDWIDTH / math.prod(picture.size)
        return scene.share * picture.window.factor**2 / weight
    if maps.color is None:
        return invert_white(white)
    exposure = picture.intensity * picture.size[0] * picture.size[1] / (picture.points * BANDWIDTH)
    if picture.zoom is None:
        return exposure
    exposure *= scene.share * picture.zoom.factor**2
    # At deep zooms the points of some fractals become denser and denser. The zoom must not be brighter than the whole.
    size = proportional_size(picture.size, min(_SMALL_SIDE, max(picture.size)))
    small = replace(picture, size=size, points=size[0] * size[1], zoom=None)
    levels = Levels(CUTOFF)
    levels.add(_brightest(small.scene(maps, generator_for(maps, 0)).canvas(0, size[0])))
    limit = levels.white() * picture.intensity / BANDWIDTH
    return min(exposure, limit * invert_white(white)) if limit > 0 else exposure


def _brightest(canvas: Tensor) -> Tensor:
    """Return the largest channel (h, W) of a canvas (C, h, W)."""
    return canvas[0] if len(canvas) == 1 else canvas.amax(0)
