"""Counts of points on their nearest pixels or on the pixels of a patch."""

from __future__ import annotations

import torch
from torch import Tensor


def rasterize_points(points: Tensor, patch: Tensor, height: int, width: int, binary: bool) -> Tensor:
    """Return `I[i, j]`: the number of points that mark pixel (i, j).

    A point marks the nonzero pixels of its image's patch, whose center is on the point's nearest pixel.

    points (B, T, 2) in pixels of any floating dtype, x is the row; patch (B, h, w), h and w odd -> images
    (B, height, width): the counts in int32, or, if `binary`, whether they are above 0 in uint8.
    """
    images, (patch_height, patch_width) = points.shape[0], patch.shape[1:]
    top, left = patch_height // 2, patch_width // 2  # margin in which points still mark pixels of the image
    rows, columns = height + 2 * top, width + 2 * left
    pixel = points.double().round()  # (B, T, 2), half to even
    row, column = pixel[..., 0] + top, pixel[..., 1] + left  # (B, T)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)  # False if a coordinate is NaN
    row, column = torch.where(inside, row, rows).long(), torch.where(inside, column, 0).long()
    # scatter_add in one dimension is deterministic on a GPU too. An extra last row counts the points outside.
    first = torch.arange(images, device=points.device)[:, None] * (rows + 1)  # (B, 1)
    counter = ((first + row) * columns + column).flatten()  # (B T)
    counts = torch.zeros(images * (rows + 1) * columns, dtype=torch.int32, device=points.device)
    counts = counts.scatter_add(0, counter, torch.ones_like(counter, dtype=torch.int32))
    canvas = counts.view(images, rows + 1, columns)
    image = torch.zeros(images, height, width, dtype=torch.int32, device=points.device)
    for i in range(patch_height):
        for j in range(patch_width):
            # This pixel of the patch is i - top rows below the center, so it is marked by points i - top rows above it.
            above, before = patch_height - 1 - i, patch_width - 1 - j
            shifted = canvas[:, above : above + height, before : before + width]  # (B, H, W)
            image = image + shifted * (patch[:, i, j] != 0)[:, None, None]
    return (image > 0).to(torch.uint8) if binary else image
