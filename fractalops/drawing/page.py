"""An interactive page of a system: one HTML file that needs nothing beside it, and no network."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import torch

from fractalops._checks import check_size
from fractalops.drawing.canvas import generator_for
from fractalops.drawing.high_resolution import DEFAULT_INTENSITY, Picture
from fractalops.errors import InputError
from fractalops.ifs import IFS
from fractalops.io.files import as_text, atomic_path
from fractalops.placement import place
from fractalops.systems import System

FORM = "fractalops.page.1"
_PARTS = Path(__file__).with_name("web")
_SCRIPTS = ("geometry.js", "picture.js", "frames.js", "page.js", "input.js")  # each takes names of those before it
_POINTS = 100_000  # by which a viewport that follows the points is found
_SIDE = 512  # pixels of the picture of a system that was not learned


def write_page(
    system: IFS | System,
    path: str | Path,
    *,
    size: tuple[int, int] = (_SIDE, _SIDE),
    intensity: float = DEFAULT_INTENSITY,
) -> None:
    """Write a page that draws a system, to look around in and to change by hand.

    The page holds the system's parameters as JSON, in `<script type="application/json" id="system">`: those that
    `page_parameters` returns. The file's name without its suffix is the page's title.

    Args:
        system: one system: of an `IFS`, `system.systems == 1`, as that draws it, or plain tensors in the plane, which
            fill the picture but for a margin; their colors are means.
        path: of the file to write.
        size: (height, width) of the images for which the system was learned: the picture's proportions.
        intensity: of those images, as for `draw_high_resolution`; it says nothing in gray.

    Raises:
        ValueError: for more than one system, or one in space, for colors of two channels or more than three, and for a
            size below 1.
        InputError: for a system with parameters that are NaN or infinite.
        FileNotFoundError: when the folder of `path` does not exist; OSError: when the file can't be written.
    """
    parameters = page_parameters(system, size=size, intensity=intensity)
    text = page_text(parameters, as_text(Path(path).stem))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@torch.no_grad()
def page_parameters(
    system: IFS | System, *, size: tuple[int, int] = (_SIDE, _SIDE), intensity: float = DEFAULT_INTENSITY
) -> dict[str, Any]:
    """Return what a page holds of one system of N maps, as JSON has it.

    - "matrix" (N, 2, 2), "offset" (N, 2), "probabilities" (N): the maps and how often each is drawn.
    - "color": (N, C) in [0, 1], C = 1 or 3, or null without colors; "background": (C), and "background_weight", of the
      blend "mean", in units of the density of points.
    - "blend": how points that meet are blended; "intensity": as for `draw_high_resolution`.
    - "size": (height, width); "viewport": (x_min, y_min, x_max, y_max), the part of the plane that the picture shows,
      x along rows; in numbers where the system's follows its points.

    Numbers are not rounded. Raises as `write_page`.
    """
    size = check_size("write_page", size)
    if isinstance(system, IFS) and system.systems != 1:
        raise ValueError(f"write_page: system must be one, got {system}")
    maps = system.system(0) if isinstance(system, IFS) else system
    picture = Picture.of(system, size, intensity=intensity)
    channels = maps.channels or 1
    if maps.dimensions != 2 or channels not in (1, 3):
        raise ValueError(f"write_page: system must be in the plane and of one or three channels, got {system}")
    parts = (maps.matrix, maps.offset, maps.probabilities, maps.color)
    if not all(bool(each.isfinite().all()) for each in parts if each is not None):
        raise InputError("cannot draw the system: some of its parameters are NaN or infinite")
    return {
        "format": FORM,
        "size": list(size),
        "viewport": _viewport(maps, picture),
        "matrix": maps.matrix.tolist(),
        "offset": maps.offset.tolist(),
        "probabilities": maps.probabilities.tolist(),
        "color": None if maps.color is None else maps.color.tolist(),
        "blend": picture.blend,
        "background": [picture.background] * channels,
        "background_weight": picture.background_weight,
        "intensity": picture.intensity,
    }


def page_text(parameters: dict[str, Any], title: str) -> str:
    """Return the page as HTML, whatever characters its title holds."""
    fields = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in parameters.items()
    )
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode("utf-8")),  # a file's name need not be text
        "style": _read("page.css"),
        "parameters": f"{{\n{fields}\n}}".replace("<", r"\u003c"),  # no tag in it then ends its element
        "script": "\n".join(map(_read, _SCRIPTS)),
    }
    # In one pass: what is put in is not looked at again.
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _read("page.html") + "\n")


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8").rstrip()


def _viewport(maps: System, picture: Picture) -> list[float]:
    """Return what the picture shows of the plane: (x_min, y_min, x_max, y_max)."""
    viewport, size = picture.viewport, picture.size
    if not isinstance(viewport, str):
        return [float(bound) for bound in viewport]
    points = maps.points(_POINTS, generator=generator_for(maps, 0))[None]  # (1, P, 2)
    placement = place(viewport, points, size, picture.margin)
    corners = placement.target.new_tensor([[[0.0, 0.0], [size[0] - 1, size[1] - 1]]])  # (1, 2, 2), in pixels
    bounds = placement.origin + (corners - placement.target) / placement.scale  # (1, 2, 2)
    if not bool(bounds.isfinite().all()):  # all points on one line, or on their way to infinity
        raise InputError(f"cannot draw the system: its points give the viewport {viewport} no size")
    return bounds.flatten().tolist()
