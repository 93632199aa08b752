"""Images of orbits. Each point is drawn over the points before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COLORS = 128
_LEFT_OUT = 100  # points before the first NaN that are not drawn


def rasterize_orbit(
    matrix: Tensor,
    offset: Tensor,
    probabilities: Tensor,
    uniform: Tensor,
    mask: Tensor | None,
    height: int,
    width: int,
    padding: int,
) -> Tensor:
    """Return levels (B, H, W), uint8. `fractalops.ops.rasterize_orbit` describes them.

    matrix (B, N, 2, 2), offset (B, N, 2), probabilities (B, N) and uniform (B, T - 1) are float64; mask is (B, T),
    int16, or None.
    """
    images = torch.zeros(len(matrix), height, width, dtype=torch.uint8, device="cpu")
    for number, image in enumerate(images):
        xs, ys = _orbit(matrix[number].tolist(), offset[number].tolist(), probabilities[number], uniform[number])
        columns, rows = _pixels(xs, width, padding), _pixels(ys, height, padding)
        masks = None if mask is None else mask[number].tolist()
        for t, (row, column) in enumerate(zip(rows, columns, strict=True)):
            level = 1 + t % COLORS
            if masks is None:
                image[row, column] = level
            else:
                bits = torch.tensor(
                    [masks[t] >> bit & 1 for bit in range(8, -1, -1)], dtype=torch.uint8, device="cpu"
                ).view(3, 3)
                below = image[row + 1 : row + 4, column + 1 : column + 4]
                below.copy_(level * bits[: below.shape[0], : below.shape[1]])
    return images.flip(1).to(matrix.device)


def _orbit(
    matrix: list[list[list[float]]], offset: list[list[float]], probabilities: Tensor, uniform: Tensor
) -> tuple[list[float], list[float]]:
    """Return the coordinates of the origin's orbit.

    If it has NaN, all points from 100 points before the first NaN are left out.
    """
    total, bounds = 0.0, []
    for probability in probabilities.tolist():
        total += probability
        bounds.append(total)
    x = y = 0.0
    xs, ys = [x], [y]
    for number in uniform.tolist():
        chosen = next((n for n, bound in enumerate(bounds) if number <= bound), None)
        if chosen is not None:
            (a, b), (c, d) = matrix[chosen]
            e, f = offset[chosen]
            x, y = x * a + y * b + e, x * c + y * d + f
        xs.append(x)
        ys.append(y)
    for values in (xs, ys):
        if values and math.isnan(values[-1]):
            first = next(t for t, value in enumerate(values) if math.isnan(value))
            del xs[max(first - _LEFT_OUT, 0) :], ys[max(first - _LEFT_OUT, 0) :]
    return xs, ys


def _pixels(values: list[float], side: int, padding: int) -> list[int]:
    """Return the pixel of each coordinate, or 0 if the scaled coordinate is NaN."""
    coordinate = torch.tensor(values, dtype=torch.float64, device="cpu")  # (T,)
    if len(values) == 0:
        return []
    coordinate = coordinate - min(coordinate.min().item(), 0.0)
    extent = coordinate.max() - coordinate.min()
    return (coordinate / extent * (side - 2 * padding) + padding).nan_to_num(0.0).long().tolist()
