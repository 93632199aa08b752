"""Draw still-life.png, a color target: fruit on a table, by ray tracing.

python examples/draw_still_life.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
from PIL import Image

SIZE = 256  # side of the finished picture, in pixels
SUPERSAMPLING = 3  # the picture is traced this many times larger and scaled down, for smooth edges
LIGHT = numpy.array([-0.55, 0.75, -0.45])  # the direction to the lamp
EYE = numpy.array([0.0, 1.35, -4.2])
WALL = 2.6  # the distance of the wall behind the table
# Center, radius and color of an orange, an apple, a lemon, a plum and grapes, on the table at height 0.
FRUIT = [
    ((-0.75, 0.62, 0.35), 0.62, (0.95, 0.50, 0.08)),
    ((0.55, 0.55, 0.15), 0.55, (0.75, 0.10, 0.10)),
    ((-0.10, 0.36, -0.75), 0.36, (0.95, 0.85, 0.15)),
    ((1.02, 0.33, -0.62), 0.33, (0.35, 0.12, 0.42)),
    ((-1.15, 0.20, -0.75), 0.20, (0.30, 0.52, 0.20)),
    ((-0.80, 0.18, -1.00), 0.18, (0.38, 0.58, 0.22)),
    ((-0.90, 0.46, -0.80), 0.16, (0.34, 0.55, 0.21)),
]


def hit(origin: numpy.ndarray, ray: numpy.ndarray, center: tuple[float, ...], radius: float) -> numpy.ndarray:
    """Return the distances (P,) from origins (P, 3) along rays (P, 3) to a sphere; infinity if a ray misses it."""
    away = origin - numpy.array(center)
    half = (away * ray).sum(-1)
    root = half**2 - (away**2).sum(-1) + radius**2
    distance = -half - numpy.sqrt(root.clip(0))
    return numpy.where((root > 0) & (distance > 1e-3), distance, numpy.inf)


def trace(side: int) -> numpy.ndarray:
    """Return the picture (side, side, 3) in [0, 1]."""
    light = LIGHT / numpy.linalg.norm(LIGHT)
    down, right = numpy.mgrid[0.5 - side / 2 : side / 2, 0.5 - side / 2 : side / 2] / side
    ray = numpy.stack((right, -down - 0.16, numpy.full_like(right, 1.35)), -1).reshape(-1, 3)  # (P, 3)
    ray /= numpy.linalg.norm(ray, axis=-1, keepdims=True)
    with numpy.errstate(divide="ignore"):
        table = numpy.where(ray[:, 1] < 0, -EYE[1] / ray[:, 1], numpy.inf)
    wall = (WALL - EYE[2]) / ray[:, 2]
    distances = numpy.stack([*(hit(EYE, ray, center, radius) for center, radius, _ in FRUIT), table, wall])
    thing, distance = distances.argmin(0), distances.min(0)  # (P,)
    point = EYE + ray * distance[:, None]  # (P, 3)

    normal, color = numpy.zeros_like(point), numpy.zeros_like(point)
    for number, (center, radius, paint) in enumerate(FRUIT):
        own = thing == number
        normal[own], color[own] = (point[own] - center) / radius, paint
    on_table, on_wall = thing == len(FRUIT), thing == len(FRUIT) + 1
    normal[on_table], normal[on_wall] = (0, 1, 0), (0, 0, -1)
    stripes = (numpy.floor(point[:, 0] / 0.45) % 2)[:, None]
    color[on_table] = numpy.where(stripes[on_table] == 1, (0.86, 0.82, 0.74), (0.35, 0.48, 0.62))
    color[on_wall] = (0.30, 0.24, 0.20) + 0.12 * numpy.exp(-((point[on_wall][:, :1] + 0.9) ** 2))

    lit = (normal @ light).clip(0)  # (P,)
    for center, radius, _ in FRUIT:
        lit[numpy.isfinite(hit(point + 1e-3 * normal, light[None], center, radius))] *= 0.12
    mirrored = light - 2 * (normal @ light)[:, None] * normal  # (P, 3)
    shine = ((mirrored * ray).sum(-1).clip(0) ** 40) * (thing < len(FRUIT)) * (lit > 0.2)
    return (color * (0.22 + 0.85 * lit[:, None]) + 0.5 * shine[:, None]).clip(0, 1).reshape(side, side, 3)


def main(folder: Path) -> None:
    """Write still-life.png to `folder`."""
    picture = Image.fromarray((trace(SIZE * SUPERSAMPLING) * 255).round().astype(numpy.uint8))
    picture.resize((SIZE, SIZE), Image.Resampling.BOX).save(folder / "still-life.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
