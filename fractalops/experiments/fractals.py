"""Random fractals similar to FractalDB's: targets, and training data of the inverse encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.ifs import IFS
from fractalops.ops.affine_chain import affine_chain
from fractalops.placement import DEFAULT_VIEWPORT, bounding_box

REACH = DEFAULT_VIEWPORT[2]  # half of a side of the published viewport
THRESHOLD = 0.2  # pixels above this value are lit (the published code)
_LEAST_LIT = 0.1  # the smallest share of lit pixels
_LEAST_FILLED = 0.6  # the smallest ratio of the longer side of a fractal to the side of the picture
_LEAST_EXTENT = 1e-3  # smaller fractals are not scaled
_TOGETHER = 100  # systems that are drawn in one call


@torch.no_grad()
def random_fractals(
    count: int, maps: int, size: int, points: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return binary images (S, H, W) of random systems, and their maps: matrix (S, N, 2, 2) and offset (S, N, 2).

    The systems are random systems of Anderson and Farrell 2022 with two or more maps. They have as many maps and points
    as the systems that are learned (paper section 5.1). They are moved and scaled into the picture, drawn as in `fit`,
    and binarized. Systems with too few lit pixels are left out: a tenth of the picture must be lit, or as many pixels
    as there are points if that is less.
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

    This changes the systems' offsets, so the parameters describe the picture. One factor for both directions leaves the
    matrices unchanged: with `v' = k (v - c)`, the map `A v + b` becomes `A v' + k (b + A c - c)`.
    """
    points = affine_chain(*system.concatenated(index))  # (S, T, 2)
    low, high = bounding_box(points)  # (S, 2)
    middle = (low + high) / 2  # (S, 2)
    filled = _LEAST_FILLED + (1 - _LEAST_FILLED) * torch.rand(len(points), generator=generator)  # (S,)
    extent = (high - low).amax(dim=1)  # (S,)
    # If all points are almost equal, they are only moved: scaling would enlarge rounding errors.
    factor = torch.where(extent > _LEAST_EXTENT, 2 * REACH * filled / extent, 1)  # (S,)
    matrix, offset = system.maps()  # (S, N, 2, 2), (S, N, 2)
    moved = offset + (matrix * middle[:, None, None]).sum(dim=-1) - middle[:, None]  # (S, N, 2)
    system.offset.copy_(factor[:, None, None] * moved)
