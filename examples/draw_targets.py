"""Draw the example targets: leaf.png, tree.png, galaxy.png, digit.png, and autumn.png (in color).

python examples/draw_targets.py [FOLDER]
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from fractalops.experiments.picture_targets import LEAF

SIZE = 256  # side of the finished picture, in pixels
SUPERSAMPLING = 8  # targets are drawn this many times larger and scaled down, for smooth edges
CANVAS = SIZE * SUPERSAMPLING

Point = tuple[float, float]  # (x to the right, y down), both in [0, 1]


def scaled(points: list[Point]) -> list[Point]:
    """Return points of the unit square, scaled to pixels of the canvas."""
    return [(x * CANVAS, y * CANVAS) for x, y in points]


def disc(draw: ImageDraw.ImageDraw, center: Point, radius: float) -> None:
    """Draw a filled disc."""
    draw.circle((center[0] * CANVAS, center[1] * CANVAS), radius * CANVAS, fill=255)


def stroke(draw: ImageDraw.ImageDraw, points: list[Point], width: float) -> None:
    """Draw a curve with round ends and joints."""
    draw.line(scaled(points), fill=255, width=round(width * CANVAS), joint="curve")
    for point in points:
        disc(draw, point, width / 2)


def leaf(draw: ImageDraw.ImageDraw) -> None:
    """Draw a maple leaf: its right half, from the tip to the stem, and its mirror image."""
    left = [(1.0 - x, y) for x, y in reversed(LEAF)]
    draw.polygon(scaled(LEAF + left), fill=255)


def tree(draw: ImageDraw.ImageDraw) -> None:
    """Draw a tree: a trunk that divides into two branches, five times."""

    def branch(foot: Point, angle: float, length: float, depth: int) -> None:
        head = (foot[0] + length * math.sin(angle), foot[1] - length * math.cos(angle))
        stroke(draw, [foot, head], 0.32 * length)
        if depth > 1:
            branch(head, angle - 0.50, 0.74 * length, depth - 1)
            branch(head, angle + 0.42, 0.76 * length, depth - 1)

    branch((0.48, 0.97), 0.0, 0.26, 6)


def galaxy(draw: ImageDraw.ImageDraw) -> None:
    """Draw a core and two logarithmic spiral arms that become thinner."""
    stars = random.Random(0)
    disc(draw, (0.5, 0.5), 0.085)
    for arm in range(2):
        for step in range(400):
            turn = step / 400
            angle = math.pi * arm + 1.5 * math.pi * turn
            radius = 0.07 * math.exp(1.85 * turn) + stars.gauss(0.0, 0.008)
            center = (0.5 + radius * math.cos(angle), 0.5 + 0.85 * radius * math.sin(angle))
            disc(draw, center, 0.05 * (1.0 - turn) + 0.008)


def digit(draw: ImageDraw.ImageDraw) -> None:
    """Draw a handwritten 3: two bows, slightly slanted, with a wide pen."""

    def bow(center: Point, width: float, height: float, begin: float, end: float) -> list[Point]:
        angles = [math.radians(begin + (end - begin) * step / 40) for step in range(41)]
        upright = [(center[0] + width * math.cos(a), center[1] + height * math.sin(a)) for a in angles]
        return [(x + 0.12 * (0.5 - y), y) for x, y in upright]

    upper = bow((0.47, 0.31), 0.19, 0.165, -160.0, 95.0)
    lower = bow((0.47, 0.665), 0.225, 0.19, -90.0, 150.0)
    stroke(draw, upper + lower, 0.10)


TARGETS = {paint.__name__: paint for paint in (leaf, tree, galaxy, digit)}


def drawn(paint: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    """Draw a shape white on black."""
    canvas = Image.new("L", (CANVAS, CANVAS), 0)
    paint(ImageDraw.Draw(canvas))
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def autumn() -> Image.Image:
    """Draw the leaf in color: green in the middle, then yellow, then red at the tips."""
    distance = Image.radial_gradient("L").resize((SIZE, SIZE))
    colors = ImageOps.colorize(
        distance, black="limegreen", mid="gold", white="crimson", blackpoint=20, midpoint=80, whitepoint=145
    )
    return Image.composite(colors, Image.new("RGB", (SIZE, SIZE)), drawn(leaf))


def main(folder: Path) -> None:
    """Write all targets to `folder`."""
    for name, paint in TARGETS.items():
        drawn(paint).save(folder / f"{name}.png", optimize=True)
    autumn().save(folder / "autumn.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
