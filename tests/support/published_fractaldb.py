"""FractalDB's generator, point by point in Python: the expected results for `rules="fractaldb"`.

Written from its rules (Kataoka et al. 2020, fractal_renderer/ifs_function.py of its repository), one statement for each
of its steps, without code of the package.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

Map = tuple[float, float, float, float, float, float, float]
"""A row of its CSV: a, b, c, d, e, f and p."""
DrawType = Literal["point_gray", "point_color", "patch_gray", "patch_color"]


def random_class(generator: random.Random, maps: int, largest: float = 1.0) -> list[Map]:
    """Draw a class as FractalDB's search does: parameters uniform in [-1, 1], times `largest`."""
    rows = [[generator.uniform(-largest, largest) for _ in range(6)] for _ in range(maps)]
    weights = [abs(a * d - b * c) for a, b, c, d, _, _ in rows]
    return [(*row, weight / sum(weights)) for row, weight in zip(rows, weights, strict=True)]  # type: ignore[misc]


def orbit(maps: Sequence[Map], weight: Sequence[float], points: int) -> tuple[list[float], list[float]]:
    """Return the coordinates of the points, the origin first. Every map's a to f are multiplied by `weight` (6)."""
    uniform = np.random.RandomState(100).random_sample(points)
    total, sums, weighted = 0.0, [], []
    for *parameters, probability in maps:
        total += probability
        sums.append(total)
        weighted.append([parameter * factor for parameter, factor in zip(parameters, weight, strict=True)])
    x = y = 0.0
    xs, ys = [x], [y]
    for number in uniform[:-1].tolist():
        for bound, (a, b, c, d, e, f) in zip(sums, weighted, strict=True):
            if number <= bound:
                x, y = x * a + y * b + e, x * c + y * d + f
                break
        xs.append(x)
        ys.append(y)
    return xs, ys


def without_nan(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays (T,) without the indices where the first is NaN, and without the 100 before the first NaN."""
    nan = np.flatnonzero(np.isnan(values))
    if len(nan) == 0:
        return values, others
    left_out = np.append(np.arange(nan[0] - 100, nan[0]), nan)
    return np.delete(values, left_out), np.delete(others, left_out)


def pixels(values: np.ndarray, side: int, padding: int) -> np.ndarray:
    """Return the rows or columns (T,) of coordinates (T,), stretched to the image."""
    if values.min() < 0:
        values = values - values.min()
    with np.errstate(invalid="ignore"):
        stretched = values / (values.max() - values.min()) * float(side - 2 * padding) + float(padding)
    return np.where(np.isnan(stretched), 0, stretched).astype(np.uint16)


def color_of(number: int) -> tuple[int, int, int]:
    """Return the color of a point: hues around the circle, saturation and intensity 0.75, blue first."""
    saturation = intensity = 0.75
    hue = 2.0 * math.pi * (float(number % 128) / 128.0)
    sector = math.floor((3.0 / math.pi) * hue)
    p = intensity * (1.0 - saturation)
    q = intensity * (1.0 - saturation * ((3.0 / math.pi) * hue - sector))
    t = intensity * (1.0 - saturation * ((1.0 - (3.0 / math.pi) * hue) + sector))
    i, p, q, t = (int(level * 255.0) for level in (intensity, p, q, t))
    return [(p, t, i), (p, i, q), (t, i, p), (i, q, p), (i, p, t), (q, p, i)][sector]


def draw(
    maps: Sequence[Map],
    draw_type: DrawType,
    *,
    points: int,
    size: tuple[int, int],
    weight: Sequence[float] = (1,) * 6,
    flip: int = 0,
    seed: int = 0,
    padding: int = 6,
) -> np.ndarray:
    """Return an image (H, W, 3), uint8. `seed` initializes the generator right before the patches are drawn."""
    height, width = size
    xs, ys = (np.array(values) for values in orbit(maps, weight, points))
    xs, ys = without_nan(xs, ys)
    ys, xs = without_nan(ys, xs)
    columns, rows = pixels(xs, width, padding).tolist(), pixels(ys, height, padding).tolist()
    shape, _, paint = draw_type.partition("_")
    generator = random.Random(seed)
    image = Image.new("RGB", (width, height))
    for number, (row, column) in enumerate(zip(rows, columns, strict=True)):
        color = color_of(number) if paint == "color" else (127, 127, 127)
        if shape == "point":
            image.putpixel((column, row), color)
        else:
            bits = f"{generator.randrange(1, 512):09b}"
            patch = np.array([int(bit) for bit in bits], np.uint8).reshape(3, 3, 1) * np.array(color, np.uint8)
            image.paste(Image.fromarray(patch), (column + 1, row + 1))
    drawn = np.array(image)[::-1]
    if flip in (1, 3):
        drawn = drawn[::-1]
    return drawn[:, ::-1] if flip in (2, 3) else drawn
