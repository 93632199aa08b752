"""Draw digits and garments, learn a fractal for each, and draw all in shapes.png.

python examples/draw_shapes.py [FOLDER]

The rows of digits and of garments, from the top: the targets of 32 x 32 pixels; the images of the fractals learned for
them with 10 maps and 300 points (garments: 600); the same with 20 maps; the fractals of 20 maps, drawn with a million
points.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fractalops import FitConfig, fit
from fractalops.drawing.sheets import contact_sheet, enlarge
from fractalops.io.images import save_image

SIZE = 32
SUPERSAMPLING = 8  # targets are drawn this many times larger and scaled down, for smooth edges
SHOWN = 96  # side of a tile, in pixels

Outline = list[tuple[float, float]]  # (x to the right, y down), both in [0, 1]

DIGITS = "0123456789"
# Left halves, from the middle of the top to the middle of the bottom. The right halves are their mirror images.
GARMENTS: dict[str, Outline] = {
    "shirt": [(0.5, 0.17), (0.4, 0.12), (0.12, 0.22), (0.05, 0.45), (0.24, 0.48), (0.26, 0.9), (0.5, 0.9)],
    "pullover": [(0.5, 0.2), (0.38, 0.1), (0.2, 0.2), (0.1, 0.85), (0.2, 0.9), (0.28, 0.45), (0.28, 0.9), (0.5, 0.9)],
    "trousers": [(0.5, 0.08), (0.3, 0.08), (0.24, 0.93), (0.42, 0.93), (0.5, 0.35)],
    "dress": [(0.5, 0.2), (0.42, 0.08), (0.36, 0.08), (0.4, 0.4), (0.24, 0.93), (0.5, 0.93)],
    "skirt": [(0.5, 0.2), (0.36, 0.2), (0.16, 0.8), (0.5, 0.85)],
    "vest": [(0.5, 0.3), (0.4, 0.08), (0.32, 0.08), (0.32, 0.36), (0.24, 0.44), (0.24, 0.9), (0.5, 0.9)],
    "bag": [(0.5, 0.24), (0.38, 0.26), (0.34, 0.4), (0.1, 0.4), (0.06, 0.84), (0.5, 0.84)],
    "hat": [(0.5, 0.2), (0.34, 0.24), (0.28, 0.6), (0.04, 0.66), (0.2, 0.76), (0.5, 0.78)],
}  # fmt: skip
BOOT: Outline = [(0.3, 0.08), (0.58, 0.08), (0.6, 0.5), (0.92, 0.68), (0.94, 0.86), (0.28, 0.86)]
SHOE: Outline = [(0.06, 0.4), (0.2, 0.36), (0.34, 0.5), (0.6, 0.42), (0.92, 0.62), (0.94, 0.72), (0.06, 0.72)]


def shapes() -> Tensor:
    """Return the targets (20, 32, 32), values in [0, 1]."""
    canvas = SIZE * SUPERSAMPLING
    font = ImageFont.load_default(0.9 * canvas)
    outlines = [half + [(1 - x, y) for x, y in reversed(half)] for half in GARMENTS.values()] + [BOOT, SHOE]
    drawn = []
    for shape in [*DIGITS, *outlines]:
        picture = Image.new("L", (canvas, canvas))
        draw = ImageDraw.Draw(picture)
        if isinstance(shape, str):
            draw.text((canvas / 2, canvas / 2), shape, fill=255, font=font, anchor="mm", stroke_width=canvas // 60)
        else:
            draw.polygon([(x * canvas, y * canvas) for x, y in shape], fill=255)
        drawn.append(numpy.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX)))
    return torch.from_numpy(numpy.stack(drawn)).float() / 255


def main(folder: Path, steps: int = 2000, points: int = 1_000_000) -> None:
    """Draw and learn all shapes, and write shapes.png to `folder`."""
    targets = shapes()
    rows = [enlarge(targets, SHOWN // SIZE)]  # each (20, SHOWN, SHOWN)
    for maps in (10, 20):
        # Digits and garments in separate calls, because the number of points depends on all targets of a call.
        results = [fit(part, FitConfig(maps=maps, steps=steps), progress=True) for part in targets.split(len(DIGITS))]
        if any(result.interrupted for result in results):
            sys.exit("interrupted")
        errors = torch.cat([result.minimum_mse for result in results])  # (20,)
        print(f"{maps} maps: mean of the minimum MSE {errors.mean():.4f}")
        rows.append(enlarge(torch.cat([result.best_image for result in results]), SHOWN // SIZE))
    rows.append(torch.cat([result.draw(SHOWN, points=points) for result in results]))
    # Ten columns: four rows of digits, then four rows of garments.
    order = [row[first : first + len(DIGITS)] for first in (0, len(DIGITS)) for row in rows]
    save_image(contact_sheet(torch.cat(order), columns=len(DIGITS)), folder / "shapes.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
