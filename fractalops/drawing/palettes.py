"""Palettes, which color the drawings of systems without colors: from brightness to red, green and blue."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from fractalops.errors import InputError

# Colors at equal steps of brightness, from the background to the densest parts. "viridis" and "inferno" are by Stéfan
# van der Walt and Nathaniel Smith (matplotlib, CC0), at ten steps. The other palettes are our own.
PALETTES = {
    "fire": "000000 3a0504 8c1407 d8420a f98d1c fdd15a fffbe6",
    "ice": "000308 06203f 0c4a7d 1d83b5 5bbcd9 b0e4ee ffffff",
    "moss": "050805 12261a 1f4d2b 3f7d35 82ad46 c9d77c fbfbe3",
    "inferno": "000004 1b0c42 4b0c6b 781c6d a52c60 cf4446 ed6925 fb9a06 f7d03c fcffa4",
    "viridis": "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6dcd59 b4de2c fde725",
}
_LEVELS = 1024  # number of different colors of a palette
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


def read_palette(text: str) -> Tensor:
    """Return a palette: the colors of equal steps of brightness from 0 to 1.

    Args:
        text: "fire", "ice", "moss", "inferno" or "viridis", or at least two colors from the darkest to the brightest,
            such as "#112233,#ffcc00". Colors between them are interpolated linearly.

    Returns:
        The colors (L, 3), float32 in [0, 1], with L = 1024 and the channels red, green and blue.

    Raises:
        InputError: if `text` is neither a name nor a list of colors.

    Examples:
        >>> from fractalops.drawing.palettes import read_palette
        >>> read_palette("#000000,#ff0000")[-1]
        tensor([1., 0., 0.])
    """
    found = [_HEX.fullmatch(part.strip()) for part in PALETTES.get(text, text).replace(",", " ").split()]
    if len(found) < 2 or None in found:
        names = ", ".join(PALETTES)
        raise InputError(f"palette must be one of {names}, or colors such as #112233,#ffcc00, got {text!r}")
    levels = [list(bytes.fromhex(match[1])) for match in found if match is not None]
    anchors = torch.tensor(levels, dtype=torch.float32, device="cpu") / 255  # (K, 3)
    position = torch.linspace(0, len(anchors) - 1, _LEVELS, dtype=torch.float32, device="cpu")
    below = position.long().clamp(max=len(anchors) - 2)
    return anchors[below].lerp(anchors[below + 1], (position - below)[:, None])


def apply_palette(palette: Tensor, brightness: Tensor) -> Tensor:
    """Color an image in gray with a palette.

    Args:
        palette: (L, 3), colors in [0, 1], such as `read_palette` returns.
        brightness: the image, of any shape (...), floats in [0, 1]. Each value gets the color of the nearest of the L
            equal steps.

    Returns:
        The colors (3, ...) in [0, 1], in the dtype and on the device of `brightness`.

    Examples:
        >>> import torch
        >>> from fractalops.drawing.palettes import apply_palette, read_palette
        >>> apply_palette(read_palette("fire"), torch.rand(32, 48)).shape
        torch.Size([3, 32, 48])
    """
    steps = (brightness * (len(palette) - 1)).round().int().flatten()
    return palette.to(brightness).t().index_select(1, steps).view(3, *brightness.shape)
