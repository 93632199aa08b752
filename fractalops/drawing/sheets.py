"""Pictures that tell what they show: rows of images, each with its name beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fractalops.io.images import contact_sheet, enlarge, enlargement

_SIDE = 64  # pixels of an image
_GAP = 4  # pixels between images
_FONT_SIZE = 12  # pixels
_MARGIN = 8  # pixels around a name


def labeled_rows(rows: Sequence[tuple[str, Tensor]]) -> Tensor:
    """A picture (H', W') of rows, each a name and images (K, H, W); K is that of the shortest row."""
    columns = min(len(images) for _, images in rows)
    side = rows[0][1].shape[-1]
    tiles = torch.cat([images[:columns].cpu() for _, images in rows])  # (rows * columns, H, W)
    sheet = contact_sheet(enlarge(tiles, enlargement(side, side, _SIDE)), columns=columns, gap=_GAP)  # (H', ...)
    return torch.cat([_names([name for name, _ in rows], len(sheet)), sheet], dim=1)


def _names(names: Sequence[str], height: int) -> Tensor:
    """White names, evenly spread from above, on black: (height, W)."""
    font = ImageFont.load_default(_FONT_SIZE)
    width = max(round(font.getlength(name)) for name in names) + 2 * _MARGIN
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(names):
        middle = _GAP / 2 + (height - _GAP) * (number + 0.5) / len(names)
        draw.text((width - _MARGIN, middle), name, fill=255, font=font, anchor="rm")
    return torch.from_numpy(numpy.array(page)).float() / 255
