"""Random fractals in the manner of FractalDB: what is learned, and what the inverse encoder learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.ifs import IFS
from fractalops.ops.affine_chain import affine_chain
from fractalops.placement import DEFAULT_VIEWPORT, bounding_box

REACH = DEFAULT_VIEWPORT[2]  # of the published viewport, from its middle
THRESHOLD = 0.2  # above which a pixel is lit (the published code)
_LEAST_LIT = 0.1  # of the pixels
_LEAST_FILLED = 0.6  # of the picture's side, by the longer side of a fractal
_LEAST_EXTENT = 1e-3
_TOGETHER = 100  # systems that are drawn in one call


@torch.no_grad()
def random_fractals(
    count: int, maps: int, size: int, points: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return binary images (S, H, W) of random systems, and their maps: matrix (S, N, 2, 2) and offset (S, N, 2).

    Systems by Anderson and Farrell 2022, of two maps or more, with as many maps and points as are learned (paper
    section 5.1), moved and scaled into the picture, drawn as `fit` draws, and binarized. Those that light too few
    pixels are left out: a tenth of the picture is required, or a pixel a point.
    """
    least = min(_LEAST_LIT, points / size**2)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    found = 0
    while found < count:
        systems = IFS(min(_TOGETHER, count), maps, generator=generator)
        index = systems.sample(1, points, generator=generator)  # (B, 1, T)
        place_in_picture(systems, index, generator)
        images = (systems(size, index=index)[:, 0] > THRESHOLD).float()  # (B, H, W)
        kept = images.mean(dim=(1, 2)) >= least  # (B,)
        matrix, offset = systems.maps()
        parts.append((images[kept], matrix[kept], offset[kept]))
        found += int(kept.sum())
    images, matrix, offset = (torch.cat(tensors)[:count] for tensors in zip(*parts, strict=True))
    return images, matrix, offset


@torch.no_grad()
def place_in_picture(system: IFS, index: Tensor, generator: torch.Generator) -> None:
    """Move and scale the points of index (S, 1, T) into the picture, as the paper does (section 4.3, footnote 1).

    Through the systems' offsets, so that labels tell what is seen. By one factor in both directions, which leaves the
    matrices as they are: `v' = k (v - c)` turns `A v + b` into `A v' + k (b + A c - c)`.
    """
    points = affine_chain(*system.concatenated(index))  # (S, T, 2)
    low, high = bounding_box(points)  # (S, 2)
    middle = (low + high) / 2  # (S, 2)
    filled = _LEAST_FILLED + (1 - _LEAST_FILLED) * torch.rand(len(points), generator=generator)  # (S,)
    extent = (high - low).amax(dim=1)  # (S,)
    # Points that stand still in one place are moved only: rounding would be all that is enlarged.
    factor = torch.where(extent > _LEAST_EXTENT, 2 * REACH * filled / extent, 1)  # (S,)
    matrix, offset = system.maps()  # (S, N, 2, 2), (S, N, 2)
    moved = offset + (matrix * middle[:, None, None]).sum(dim=-1) - middle[:, None]  # (S, N, 2)
    system.offset.copy_(factor[:, None, None] * moved)
