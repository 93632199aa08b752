"""The rasterizer of Gaussian bumps (RBF) as a product of two tables (paper section 4.3, equation 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fractalops.reference.without_autocast import without_autocast


def rbf_rasterize(
    points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float
) -> Tensor:
    """Return `I[c, i, j] = sum_t w[t, c] exp(-((x_t - i)^2 + (y_t - j)^2) / bandwidth)`.

    points (B, T, 2) in pixels, x is the row; weight (B, T, C), or None for ones with C = 1; bandwidth (B,),
    above 0, in square pixels -> images (B, C, height, width). Any floating dtype; differentiable by autograd
    in points, weight and bandwidth.

    A point is drawn on the pixels within `ceil(sqrt(-bandwidth ln(cutoff)) - 1/2)`, at least 0, of its rounded position
    along each axis. A cutoff of 0 means all pixels. A point with a NaN or infinite coordinate adds nothing and gets
    zero gradients.
    """
    finite = points.isfinite().all(dim=-1)[..., None]  # (B, T, 1)
    points = torch.where(finite, points, 0)
    rows = _table(points[..., 0], height, bandwidth, cutoff, finite)  # (B, T, H)
    columns = _table(points[..., 1], width, bandwidth, cutoff, finite)  # (B, T, W)
    with without_autocast(points.device.type):
        if weight is None:
            return torch.einsum("bth,btw->bhw", rows, columns)[:, None]
        weighted = torch.where(finite, weight, 0)[..., None] * rows[:, :, None]  # (B, T, C, H)
        return torch.einsum("btch,btw->bchw", weighted, columns)


def _table(
    position: Tensor,
    length: int,
    bandwidth: Tensor,
    cutoff: float,
    finite: Tensor,  # (B, T, 1)
) -> Tensor:
    """Return `exp(-(position - pixel)^2 / bandwidth)`, zero outside the window: position (B, T) -> (B, T, length)."""
    pixel = torch.arange(length, dtype=position.dtype, device=position.device)  # (L,)
    bandwidth = bandwidth[:, None, None]  # (B, 1, 1)
    distance = position[..., None] - pixel  # (B, T, L)
    # Pixels outside the window, or so far away that exp is zero, are masked before the arithmetic that autograd
    # records. Otherwise, the derivative of an exponential that is zero would be 0 * inf.
    with torch.no_grad():
        outside = ~finite | (torch.exp(-(distance**2) / bandwidth) == 0)
        if cutoff > 0:
            radius = ((bandwidth.double() * -math.log(cutoff)).sqrt() - 0.5).ceil().clamp(min=0)  # (B, 1, 1)
            outside |= (position.round()[..., None] - pixel).abs() > radius
    distance = distance.masked_fill(outside, 0)
    return torch.exp(-(distance**2) / bandwidth).masked_fill(outside, 0)
