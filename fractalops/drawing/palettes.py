"""Colors for drawings of systems that have none: from brightness to red, green and blue."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from fractalops.errors import InputError

# Anchors at equal steps of brightness, from background to the densest parts. "viridis" and "inferno" are by Stéfan van
# der Walt and Nathaniel Smith (matplotlib, CC0), at ten steps; the others are this package's own.
PALETTES = {
    "fire": "000000 3a0504 8c1407 d8420a f98d1c fdd15a fffbe6",
    "ice": "000308 06203f 0c4a7d 1d83b5 5bbcd9 b0e4ee ffffff",
    "moss": "050805 12261a 1f4d2b 3f7d35 82ad46 c9d77c fbfbe3",
    "inferno": "000004 1b0c42 4b0c6b 781c6d a52c60 cf4446 ed6925 fb9a06 f7d03c fcffa4",
    "viridis": "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6dcd59 b4de2c fde725",
}
_LEVELS = 1024  # of brightness, between which colors do not differ
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


def read_palette(text: str) -> Tensor:
    """Return the colors (L, 3) in [0, 1] of equal steps of brightness from 0 to 1.

    `text` is a name of `PALETTES`, or two colors or more, from the darkest to the brightest: "#112233,#ffcc00".
    Raises `InputError`.
    """
    found = [_HEX.fullmatch(part.strip()) for part in PALETTES.get(text, text).replace(",", " ").split()]
    if len(found) < 2 or None in found:
        names = ", ".join(PALETTES)
        raise InputError(f"palette must be one of {names} or colors as #112233,#ffcc00, got {text!r}")
    levels = [list(bytes.fromhex(match[1])) for match in found if match is not None]
    anchors = torch.tensor(levels, dtype=torch.float32, device="cpu") / 255  # (K, 3)
    position = torch.linspace(0, len(anchors) - 1, _LEVELS, dtype=torch.float32, device="cpu")
    below = position.long().clamp(max=len(anchors) - 2)
    return anchors[below].lerp(anchors[below + 1], (position - below)[:, None])


def apply_palette(palette: Tensor, brightness: Tensor) -> Tensor:
    """Return the colors (3, ...) of brightness (...) in [0, 1], by a palette (L, 3)."""
    steps = (brightness * (len(palette) - 1)).round().int().flatten()
    return palette.to(brightness).t().index_select(1, steps).view(3, *brightness.shape)
