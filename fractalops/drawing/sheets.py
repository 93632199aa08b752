"""Sheets of images in rows and columns, with names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SEPARATOR = 0.25  # gray value between the images of a sheet
_SIDE = 64  # largest side of an image in `labeled_rows`, in pixels
_GAP = 4  # pixels between images
_FONT_SIZE = 12  # pixels
_MARGIN = 8  # pixels around a name
CAPTION = _FONT_SIZE + _MARGIN  # height of a caption, in pixels


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Enlarge images (..., H, W) to (..., factor * H, factor * W). Each pixel becomes a square."""
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def enlargement(height: int, width: int, longest: int) -> int:
    """Return the largest integer factor that keeps the longest side within `longest` pixels, or 1 if none does."""
    return max(1, longest // max(height, width))


class SheetLayout(NamedTuple):
    """The positions of images of the same size on a sheet, row by row, with gaps between and around them."""

    height: int  # of each image, in pixels
    width: int  # of each image, in pixels
    rows: int
    columns: int
    gap: int  # pixels between and around images

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the sheet, in pixels."""
        return self.rows * (self.height + self.gap) + self.gap, self.columns * (self.width + self.gap) + self.gap

    def corner(self, position: int) -> tuple[int, int]:
        """Return (top, left), in pixels, of the image at index `position`."""
        row, column = divmod(position, self.columns)
        return self.gap + row * (self.height + self.gap), self.gap + column * (self.width + self.gap)


def lay_out(count: int, size: tuple[int, int], *, columns: int | None = None, gap: int = _GAP) -> SheetLayout:
    """Return the layout of `count` images of `size` (height, width).

    If `columns` is None, the numbers of rows and columns are about equal.
    """
    columns = min(columns or math.isqrt(count - 1) + 1, count)
    return SheetLayout(*size, rows=-(-count // columns), columns=columns, gap=gap)


def contact_sheet(images: Tensor, *, columns: int | None = None, gap: int = _GAP) -> Tensor:
    """Arrange images (S, H, W) or (S, 3, H, W) on one sheet, row by row, with gray gaps between and around them.

    Args:
        images: S images, S >= 1.
        columns: the number of columns; None makes the numbers of rows and columns about equal.
        gap: the width of the gaps, in pixels.

    Returns:
        The sheet (rows * (H + gap) + gap, columns * (W + gap) + gap), or with a first dimension of 3 for images in
        color.

    Raises:
        ValueError: if `images` has another shape or is empty.
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
    """Return a sheet with a target (H, W) or (3, H, W) on the left and its reconstruction on the right.

    Both are enlarged by an integer factor, so that their longest side is at most `longest` pixels. Raises `ValueError`
    if their shapes differ.
    """
    if target.shape != reconstruction.shape:
        raise ValueError(
            f"comparison: reconstruction must have the target's shape {tuple(target.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )
    pair = torch.stack((target.detach(), reconstruction.detach().to(target)))  # (2, ...)
    return contact_sheet(enlarge(pair, enlargement(target.shape[-2], target.shape[-1], longest)), columns=2)


def labeled_rows(rows: Sequence[tuple[str, Tensor]]) -> Tensor:
    """Return a picture (H', W') of rows. Each row is a name and images (K, H, W), and the shortest row determines K."""
    columns = min(len(images) for _, images in rows)
    side = rows[0][1].shape[-1]
    tiles = torch.cat([images[:columns].cpu() for _, images in rows])  # (rows * columns, H, W)
    sheet = contact_sheet(enlarge(tiles, enlargement(side, side, _SIDE)), columns=columns, gap=_GAP)  # (H', ...)
    return torch.cat([_names([name for name, _ in rows], len(sheet)), sheet], dim=1)


def caption(name: str, width: int) -> Tensor:
    """Return a black strip (CAPTION, width) with a white name in the center."""
    page = Image.new("L", (width, CAPTION))
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(page).text((width / 2, page.height / 2), name, fill=255, font=font, anchor="mm")
    return torch.from_numpy(numpy.array(page)).float() / 255


def _names(names: Sequence[str], height: int) -> Tensor:
    """Return a black strip (height, W) with white names at equal distances from top to bottom."""
    font = ImageFont.load_default(_FONT_SIZE)
    width = max(round(font.getlength(name)) for name in names) + 2 * _MARGIN
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(names):
        middle = _GAP / 2 + (height - _GAP) * (number + 0.5) / len(names)
        draw.text((width - _MARGIN, middle), name, fill=255, font=font, anchor="rm")
    return torch.from_numpy(numpy.array(page)).float() / 255
