"""Write an interactive page of a system: one HTML file that needs no other files and no network."""

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
from fractalops.systems.system import shares_of

FORM = "fractalops.page.1"
_PARTS = Path(__file__).with_name("web")
_SCRIPTS = ("geometry.js", "picture.js", "frames.js", "page.js", "input.js")  # in this order: each uses earlier ones
_POINTS = 100_000  # points that determine a fitted viewport
_SIDE = 512  # default side of the picture, in pixels


def write_page(
    system: IFS | System,
    path: str | Path,
    *,
    size: tuple[int, int] = (_SIDE, _SIDE),
    intensity: float = DEFAULT_INTENSITY,
) -> None:
    """Write an interactive HTML page that draws a system.

    A user of the page can zoom, move the maps, and change the colors. The page needs no other files and no network.

    The page contains the parameters of the system as JSON (see `page_parameters`), in the element
    `<script type="application/json" id="system">`. Its title is the name of the file without the suffix.

    Args:
        system: one system in the plane with gray or three color channels. An `IFS` must have one system and is drawn
            with its own viewport, blend and background. A `System` is fitted to the picture with a margin, and its
            colors are blended by "mean".
        path: the path of the file to write. An existing file is replaced.
        size: (height, width) of the images for which the system was learned. It determines the aspect ratio of the
            picture. Default: (512, 512).
        intensity: `FitResult.intensity` of these images, as in `draw_high_resolution`. It has no effect in gray.
            Default: 300 / 32^2.

    Raises:
        ValueError: if `system` contains several systems, is in space, or has another number of channels than one or
            three, or if a side of `size` is below 1.
        InputError: if a parameter of the system is NaN or infinite, or if a fitted viewport has no extent.
        FileNotFoundError: if the folder of `path` does not exist.
        OSError: if the file cannot be written.

    Examples:
        >>> import fractalops
        >>> from fractalops.drawing.page import write_page
        >>> write_page(fractalops.IFS(1, 4), "fractal.html")
    """
    parameters = page_parameters(system, size=size, intensity=intensity)
    text = page_text(parameters, as_text(Path(path).stem))
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@torch.no_grad()
def page_parameters(
    system: IFS | System, *, size: tuple[int, int] = (_SIDE, _SIDE), intensity: float = DEFAULT_INTENSITY
) -> dict[str, Any]:
    """Return the parameters of one system of N maps as a dict that can be written as JSON. Numbers are not rounded.

    The arguments and errors are those of `write_page`.

    Returns:
        A dict with these items:

        - "format": the name of the format, "fractalops.page.1".
        - "size": [height, width] of the picture.
        - "viewport": [x_min, y_min, x_max, y_max], the part of the plane that the picture shows, with x along rows.
        - "matrix" (N, 2, 2), "offset" (N, 2), "probabilities" (N): the maps and their probabilities.
        - "color": (N, C) in [0, 1] with C = 1 or 3, or None without colors.
        - "blend": "add" or "mean", the rule that combines points on the same pixel.
        - "background" (C) and "background_weight": the background of the blend "mean", see `fractalops.render`.
        - "intensity": see `draw_high_resolution`.
    """
    size = check_size("write_page", size)
    if isinstance(system, IFS) and system.systems != 1:
        raise ValueError(f"write_page: system must contain one system, got {system}")
    maps = system.system(0) if isinstance(system, IFS) else system
    picture = Picture.of(system, size, intensity=intensity)
    channels = maps.channels or 1
    if maps.dimensions != 2 or channels not in (1, 3):
        raise ValueError(f"write_page: system must be in the plane and have one or three channels, got {system}")
    parts = (maps.matrix, maps.offset, maps.probabilities, maps.color)
    if not all(bool(each.isfinite().all()) for each in parts if each is not None):
        raise InputError("cannot draw the system: some of its parameters are NaN or infinite")
    return {
        "format": FORM,
        "size": list(size),
        "viewport": _viewport(maps, picture),
        "matrix": maps.matrix.tolist(),
        "offset": maps.offset.tolist(),
        "probabilities": shares_of(maps.probabilities, rounding=1e-6).tolist(),
        "color": None if maps.color is None else maps.color.tolist(),
        "blend": picture.blend,
        "background": [picture.background] * channels,
        "background_weight": picture.background_weight,
        "intensity": picture.intensity,
    }


def page_text(parameters: dict[str, Any], title: str) -> str:
    """Return the HTML of the page. The title may contain any characters."""
    fields = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in parameters.items()
    )
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode("utf-8")),  # file names may be invalid as UTF-8
        "style": _read("page.css"),
        "parameters": f"{{\n{fields}\n}}".replace("<", r"\u003c"),  # so that no "</script>" ends the element
        "script": "\n".join(map(_read, _SCRIPTS)),
    }
    # In one pass, so that "{{ ... }}" in inserted text is not replaced.
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: parts[found[1]], _read("page.html") + "\n")


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8").rstrip()


def _viewport(maps: System, picture: Picture) -> list[float]:
    """Return the part of the plane that the picture shows: (x_min, y_min, x_max, y_max)."""
    viewport, size = picture.viewport, picture.size
    if not isinstance(viewport, str):
        return [float(bound) for bound in viewport]
    points = maps.points(_POINTS, generator=generator_for(maps, 0))[None]  # (1, P, 2)
    placement = place(viewport, points, size, picture.margin)
    corners = placement.target.new_tensor([[[0.0, 0.0], [size[0] - 1, size[1] - 1]]])  # (1, 2, 2), in pixels
    bounds = placement.origin + (corners - placement.target) / placement.scale  # (1, 2, 2)
    if not bool(bounds.isfinite().all()):  # the points are on one line or diverge
        raise InputError(f"cannot draw the system: its points have no finite extent for the viewport '{viewport}'")
    return bounds.flatten().tolist()
