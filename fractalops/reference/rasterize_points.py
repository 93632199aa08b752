"""Points counted on their nearest pixels, and the counts spread by a patch."""

from __future__ import annotations

import torch
from torch import Tensor


def rasterize_points(points: Tensor, patch: Tensor, height: int, width: int, binary: bool) -> Tensor:
    """Return `I[i, j]`: how many points have their nearest pixel where a patch centered there marks (i, j).

    points (B, T, 2) in pixels of any floating dtype, x along rows; patch (B, h, w), h and w odd, 0 for what is left
    out -> images (B, height, width): the counts in int32, or in uint8 whether they are above 0.
    """
    images, (patch_height, patch_width) = points.shape[0], patch.shape[1:]
    top, left = patch_height // 2, patch_width // 2  # a margin: points there still stamp the image
    rows, columns = height + 2 * top, width + 2 * left
    pixel = points.double().round()  # (B, T, 2), half to even
    row, column = pixel[..., 0] + top, pixel[..., 1] + left  # (B, T)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)  # not where a coordinate is NaN
    row, column = torch.where(inside, row, rows).long(), torch.where(inside, column, 0).long()
    # One dimension, in which scatter_add is deterministic on a GPU too; the row behind the last takes what is outside.
    first = torch.arange(images, device=points.device)[:, None] * (rows + 1)  # (B, 1)
    counter = ((first + row) * columns + column).flatten()  # (B T)
    counts = torch.zeros(images * (rows + 1) * columns, dtype=torch.int32, device=points.device)
    counts = counts.scatter_add(0, counter, torch.ones_like(counter, dtype=torch.int32))
    canvas = counts.view(images, rows + 1, columns)
    image = torch.zeros(images, height, width, dtype=torch.int32, device=points.device)
    for i in range(patch_height):
        for j in range(patch_width):
            # Marked i - top rows below its center, a pixel is stamped by points as many rows above it.
            above, before = patch_height - 1 - i, patch_width - 1 - j
            shifted = canvas[:, above : above + height, before : before + width]  # (B, H, W)
            image = image + shifted * (patch[:, i, j] != 0)[:, None, None]
    return (image > 0).to(torch.uint8) if binary else image
