"""Sheets of images: enlarged, in rows and columns, beside each other, with names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SEPARATOR = 0.25  # the gray between the tiles of a sheet
_SIDE = 64  # pixels of an image
_GAP = 4  # pixels between images
_FONT_SIZE = 12  # pixels
_MARGIN = 8  # pixels around a name
CAPTION = _FONT_SIZE + _MARGIN  # pixels, the height of a name's strip


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Return every pixel of images (..., H, W) as a square of factor x factor: (..., factor * H, factor * W)."""
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def enlargement(height: int, width: int, longest: int) -> int:
    """Return the largest whole factor, at least 1, that keeps the longest side within `longest` pixels."""
    return max(1, longest // max(height, width))


class SheetLayout(NamedTuple):
    """The layout of images of one size on a sheet: row by row, in a frame."""

    height: int  # of an image, in pixels
    width: int
    rows: int
    columns: int
    gap: int  # pixels between images and around them

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the sheet."""
        return self.rows * (self.height + self.gap) + self.gap, self.columns * (self.width + self.gap) + self.gap

    def corner(self, position: int) -> tuple[int, int]:
        """Return (top, left) of an image, counted from 0."""
        row, column = divmod(position, self.columns)
        return self.gap + row * (self.height + self.gap), self.gap + column * (self.width + self.gap)


def lay_out(count: int, size: tuple[int, int], *, columns: int | None = None, gap: int = _GAP) -> SheetLayout:
    """Return the layout of `count` images of `size` (height, width); without `columns` the sheet is about square."""
    columns = min(columns or math.isqrt(count - 1) + 1, count)
    return SheetLayout(*size, rows=-(-count // columns), columns=columns, gap=gap)


def contact_sheet(images: Tensor, *, columns: int | None = None, gap: int = _GAP) -> Tensor:
    """Return images (S, H, W) or (S, 3, H, W) as tiles of one picture, row by row, in a gray frame of `gap` pixels.

    Without `columns` the sheet is about square. Returns (rows * (H + gap) + gap, columns * (W + gap) + gap), after the
    three channels of images in color.
    """
    if images.ndim not in (3, 4) or images.shape[0] == 0:
        raise ValueError(
            f"contact_sheet: images must have shape (S, H, W) or (S, 3, H, W) with S >= 1, got {tuple(images.shape)}"
        )
    count, *channels, height, width = images.shape
    layout = lay_out(count, (height, width), columns=columns, gap=gap)
    sheet = images.new_full((*channels, *layout.size), SEPARATOR)
    for position in range(count):
        top, left = layout.corner(position)
        sheet[..., top : top + height, left : left + width] = images[position]
    return sheet


def comparison(target: Tensor, reconstruction: Tensor, *, longest: int = 384) -> Tensor:
    """Return the target (H, W) or (3, H, W) on the left, its reconstruction on the right, both enlarged."""
    if target.shape != reconstruction.shape:
        raise ValueError(
            f"comparison: reconstruction must have the target's shape {tuple(target.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )
    pair = torch.stack((target.detach(), reconstruction.detach().to(target)))  # (2, ...)
    return contact_sheet(enlarge(pair, enlargement(target.shape[-2], target.shape[-1], longest)), columns=2)


def labeled_rows(rows: Sequence[tuple[str, Tensor]]) -> Tensor:
    """Return a picture (H', W') of rows, each a name and images (K, H, W); K is that of the shortest row."""
    columns = min(len(images) for _, images in rows)
    side = rows[0][1].shape[-1]
    tiles = torch.cat([images[:columns].cpu() for _, images in rows])  # (rows * columns, H, W)
    sheet = contact_sheet(enlarge(tiles, enlargement(side, side, _SIDE)), columns=columns, gap=_GAP)  # (H', ...)
    return torch.cat([_names([name for name, _ in rows], len(sheet)), sheet], dim=1)


def caption(name: str, width: int) -> Tensor:
    """Return a white name in the middle of a black strip (CAPTION, W)."""
    page = Image.new("L", (width, CAPTION))
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(page).text((width / 2, page.height / 2), name, fill=255, font=font, anchor="mm")
    return torch.from_numpy(numpy.array(page)).float() / 255


def _names(names: Sequence[str], height: int) -> Tensor:
    """Return white names, evenly spread from above, on black: (height, W)."""
    font = ImageFont.load_default(_FONT_SIZE)
    width = max(round(font.getlength(name)) for name in names) + 2 * _MARGIN
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(names):
        middle = _GAP / 2 + (height - _GAP) * (number + 0.5) / len(names)
        draw.text((width - _MARGIN, middle), name, fill=255, font=font, anchor="rm")
    return torch.from_numpy(numpy.array(page)).float() / 255
