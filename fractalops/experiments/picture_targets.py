"""Targets of `fractalops experiment pictures`: drawn shapes, glyphs of fonts and sample photographs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fractalops.drawing.high_resolution import proportional_size
from fractalops.errors import MissingExtra

Outline = list[tuple[float, float]]  # (x to the right, y down), both in [0, 1]

LEAF: Outline = [
    (0.500, 0.050), (0.575, 0.200), (0.655, 0.160), (0.620, 0.400), (0.735, 0.275), (0.765, 0.350), (0.920, 0.320),
    (0.870, 0.465), (0.935, 0.510), (0.720, 0.690), (0.745, 0.770), (0.525, 0.730), (0.525, 0.950),
]  # fmt: skip
"""The right half of a maple leaf, from the tip to the stem. The left half is its mirror image."""

_SUPERSAMPLING = 8  # shapes are drawn this many times larger and scaled down, for smooth edges
_GLYPH = 0.85  # the ratio of the longer side of a glyph to the side of its picture


def _leaf(draw: ImageDraw.ImageDraw, side: int) -> None:
    outline = LEAF + [(1 - x, y) for x, y in reversed(LEAF)]
    draw.polygon([(x * side, y * side) for x, y in outline], fill=255)


def _star(draw: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a star with five points."""
    steps = torch.arange(10)
    radius = torch.where(steps % 2 == 0, 0.45, 0.18)  # (10,)
    angle = steps * torch.pi / 5  # (10,)
    x, y = 0.5 + radius * angle.sin(), 0.52 - radius * angle.cos()
    draw.polygon([(p * side, q * side) for p, q in zip(x.tolist(), y.tolist(), strict=True)], fill=255)


def _ellipse(draw: ImageDraw.ImageDraw, side: int, box: tuple[float, float, float, float], fill: int) -> None:
    draw.ellipse([coordinate * side for coordinate in box], fill=fill)


def _ring(draw: ImageDraw.ImageDraw, side: int) -> None:
    _ellipse(draw, side, (0.1, 0.1, 0.9, 0.9), 255)
    _ellipse(draw, side, (0.27, 0.27, 0.73, 0.73), 0)


def _cross(draw: ImageDraw.ImageDraw, side: int) -> None:
    """Draw two bars of the same length that cross."""
    for box in ((0.38, 0.1, 0.62, 0.9), (0.1, 0.38, 0.9, 0.62)):
        draw.rectangle([coordinate * side for coordinate in box], fill=255)


def _crescent(draw: ImageDraw.ImageDraw, side: int) -> None:
    _ellipse(draw, side, (0.1, 0.1, 0.9, 0.9), 255)
    _ellipse(draw, side, (0.3, 0.05, 1.05, 0.8), 0)


_PAINTERS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "leaf": _leaf, "star": _star, "ring": _ring, "cross": _cross, "crescent": _crescent,
}  # fmt: skip
SHAPES = tuple(_PAINTERS)

_DEJAVU, _STIX = "DejaVuSans.ttf", "STIXGeneral.ttf"
GLYPHS = (
    *((_DEJAVU, glyph) for glyph in "AgR&@8\u2602\u265e\u260e\u2665"),  # umbrella, knight, telephone, heart
    *((_STIX, glyph) for glyph in "QSk5?\u00a7\u03a9\u2211\u222e\u2663"),  # section, Omega, sum, contour integral, club
)
"""Fonts of matplotlib, and a character of each."""

PHOTOGRAPHS: dict[str, tuple[str, bool, int, tuple[int, ...]]] = {
    "camera": ("camera.png", False, 128, (64, 256)),
    "astronaut": ("astronaut.png", True, 128, (256, 1024)),
    "chelsea": ("chelsea.png", True, 256, (1024,)),
    "coffee": ("coffee.png", True, 256, (1024,)),
    "rocket": ("rocket.jpg", True, 256, (1024,)),
}
"""Sample pictures of scikit-image: file, whether to learn it in color, longest side in pixels, numbers of maps."""


def draw_shape(name: str, size: int) -> Tensor:
    """Return one of `SHAPES` as an image (size, size), white on black, with smooth edges."""
    side = size * _SUPERSAMPLING
    picture = Image.new("L", (side, side))
    _PAINTERS[name](ImageDraw.Draw(picture), side)
    return _scaled_down(picture, size)


def draw_glyphs(count: int, size: int) -> Tensor:
    """Return images (count, size, size) of the first `GLYPHS`, white on black, scaled to the same longer side.

    Raises `MissingExtra` if matplotlib is not installed.
    """
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise MissingExtra("pictures", "matplotlib", "plot") from error
    fonts = Path(get_data_path()) / "fonts" / "ttf"
    side = size * _SUPERSAMPLING
    pictures = []
    for file, glyph in GLYPHS[:count]:
        font = ImageFont.truetype(str(fonts / file), side)
        left, top, right, bottom = font.getbbox(glyph)
        font = ImageFont.truetype(str(fonts / file), _GLYPH * side * side / max(right - left, bottom - top))
        left, top, right, bottom = font.getbbox(glyph)
        picture = Image.new("L", (side, side))
        corner = ((side - left - right) / 2, (side - top - bottom) / 2)
        ImageDraw.Draw(picture).text(corner, glyph, fill=255, font=font)
        pictures.append(_scaled_down(picture, size))
    return torch.stack(pictures)


def read_photograph(name: str, most: int) -> Tensor:
    """Return one of `PHOTOGRAPHS` (H, W), or (3, H, W) in color, whose longest side is at most `most` pixels.

    It is read from the folder of scikit-image, which need not be imported. Lanczos resampling scales it down and keeps
    more details than `read_image`. Raises `MissingExtra` if scikit-image is not installed.
    """
    place = find_spec("skimage")
    if place is None or not place.submodule_search_locations:
        raise MissingExtra("pictures", "scikit-image", "dev")
    file, color, side, _ = PHOTOGRAPHS[name]
    path = Path(place.submodule_search_locations[0]) / "data" / file
    with Image.open(path) as picture:
        small = picture.convert("RGB" if color else "L")
        small = small.resize(proportional_size(small.size, min(side, most)), Image.Resampling.LANCZOS)
    image = _to_tensor(small)  # (H, W) or (H, W, 3)
    return image.permute(2, 0, 1).contiguous() if color else image


def _scaled_down(picture: Image.Image, size: int) -> Tensor:
    """Return a picture, scaled down, as a target (size, size)."""
    return _to_tensor(picture.resize((size, size), Image.Resampling.BOX))


def _to_tensor(picture: Image.Image) -> Tensor:
    """Return a picture as a tensor (H, W) or (H, W, 3) with values in [0, 1]."""
    values: Tensor = torch.from_numpy(numpy.array(picture)).float() / 255
    return values
