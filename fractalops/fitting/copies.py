"""The start of `fit_points`: a cloud composed of smaller copies of itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CANDIDATES = 1600  # copies that are tried
_PATCHES = 400  # maps onto parts of the cloud that are tried
_SMALLEST_PATCH = 8  # points, of those under the copies
# Their sizes. The larger a copy is, the nearer it comes to the cloud by being the cloud: above about 0.8 the search
# prefers maps near the identity, which say nothing of it.
_SMALLEST, _LARGEST = 0.2, 0.75
_TURN = 0.3  # radians: half of them are turned by so much about each axis, the others by any rotation, also mirrored
_COPIED, _COVERED = 128, 768  # points that stand for the cloud: of a copy, and under it
_ROUNDS = 5
_AT_ONCE = 32  # copies whose distances exist at a time
_LEAST_SHARE = 0.005


def first_copies(cloud: Tensor, maps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return similarities whose images of the cloud together come near it: the collage theorem's start (Barnsley 1985).

    Many copies are drawn and each is moved onto the nearest points of the cloud (iterative closest points, its size
    kept; Besl and McKay 1992). Beside them are maps that give the cloud the mean and covariance of a part of it, which
    may be flat, as a stem needs it. Of all these, one after the other is taken that lowers the Chamfer distance between
    the cloud and what was taken so far the most.

    cloud (P, D), about of radius 1 -> matrix (N, D, D), offset (N, D) and share (N,), how much of the cloud each is
    nearest to.
    """
    device = cloud.device
    copied, covered = (
        cloud[torch.randperm(len(cloud), generator=generator, device=device)[:count]] for count in (_COPIED, _COVERED)
    )  # (Q, D), (R, D)
    matrix, offset = _draw(copied, covered, generator)  # (C, D, D), (C, D)
    for _ in range(_ROUNDS):
        nearest = torch.cat([d.argmin(2) for d in _distances(matrix, offset, copied, covered)])  # (C, Q)
        matrix, offset = _move(matrix, copied, covered[nearest])
    parts = _patches(covered, generator)
    matrix, offset = torch.cat((matrix, parts[0])), torch.cat((offset, parts[1]))
    distances = [(d.amin(2).mean(1), d.amin(1)) for d in _distances(matrix, offset, copied, covered)]
    to_cloud = torch.cat([there for there, _ in distances])  # (C,): the mean distance of a copy's points to the cloud
    to_copy = torch.cat([back for _, back in distances])  # (C, R): that of each point of the cloud to the copy

    taken = []
    owner = torch.zeros(len(covered), dtype=torch.int64, device=device)
    least = covered.new_full((len(covered),), torch.inf)  # of each point of the cloud, to the copies taken
    taken_to_cloud = covered.new_zeros(())
    for number in range(maps):
        share = (to_copy < least).float().mean(1)  # (C,): what each would be nearest to
        there = (1 - share) * taken_to_cloud + share * to_cloud  # (C,)
        best = (torch.minimum(to_copy, least).mean(1) + there).argmin()
        taken.append(best)
        owner[to_copy[best] < least] = number
        least = torch.minimum(to_copy[best], least)
        taken_to_cloud = there[best]
    chosen = torch.stack(taken)
    shares = torch.bincount(owner, minlength=maps).to(covered) / len(covered)
    shares = shares.clamp(min=_LEAST_SHARE)
    return matrix[chosen], offset[chosen], shares / shares.sum()


def _draw(copied: Tensor, covered: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random similarities that put a point of the copy on a point of the cloud: (C, D, D), (C, D)."""
    dimensions = copied.shape[1]

    def normal() -> Tensor:
        shape = (_CANDIDATES // 2, dimensions, dimensions)
        return torch.randn(shape, generator=generator, dtype=copied.dtype, device=copied.device)

    def pick(points: Tensor) -> Tensor:
        chosen = torch.randint(len(points), (_CANDIDATES,), generator=generator, device=copied.device)
        return points[chosen]  # (C, D)

    skew = _TURN * normal()
    turned = torch.cat((torch.matrix_exp(skew - skew.mT), torch.linalg.qr(normal()).Q))  # (C, D, D)
    uniform = torch.rand(_CANDIDATES, 1, 1, generator=generator, dtype=copied.dtype, device=copied.device)
    size = _SMALLEST + (_LARGEST - _SMALLEST) * uniform  # (C, 1, 1)
    matrix = size * turned
    return matrix, pick(covered) - (matrix @ pick(copied)[..., None])[..., 0]


def _patches(covered: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return maps (C, D, D), (C, D) that give the cloud the mean and covariance of a point's neighborhood."""
    count, device = len(covered), covered.device
    middle = torch.randint(count, (_PATCHES,), generator=generator, device=device)
    fraction = torch.rand(_PATCHES, 1, generator=generator, dtype=covered.dtype, device=device)
    size = _SMALLEST_PATCH * (max(count / 2, _SMALLEST_PATCH) / _SMALLEST_PATCH) ** fraction  # (C, 1) points
    rank = torch.cdist(covered[middle], covered).argsort(1).argsort(1)  # (C, R)
    weight = (rank < size).float()  # (C, R)
    weight = weight / weight.sum(1, keepdim=True)
    mean = weight @ covered  # (C, D)
    whole = covered.mean(0)  # (D,)
    apart = covered - mean[:, None]  # (C, R, D)
    root = covariance_power((weight[:, None] * apart.mT) @ apart, 0.5)
    matrix = root @ covariance_power((covered - whole).T @ (covered - whole) / count, -0.5)
    left, values, right = torch.linalg.svd(matrix)
    matrix = (left * values.clamp(max=_LARGEST)[:, None]) @ right
    return matrix, mean - matrix @ whole


def covariance_power(covariance: Tensor, exponent: float) -> Tensor:
    """Return a power of symmetric matrices (..., D, D), 0 in directions in which they are flat."""
    values, vectors = torch.linalg.eigh(covariance)  # (..., D), (..., D, D)
    powers = torch.where(values > 1e-6, values.clamp(min=1e-6) ** exponent, 0)
    result: Tensor = (vectors * powers[..., None, :]) @ vectors.mT
    return result


def _distances(matrix: Tensor, offset: Tensor, copied: Tensor, covered: Tensor) -> Iterator[Tensor]:
    """Yield distances (some copies, Q, R) of the points of copies to those of the cloud, some copies at a time."""
    for some, move in zip(matrix.split(_AT_ONCE), offset.split(_AT_ONCE), strict=True):
        images = copied @ some.mT + move[:, None]  # (some, Q, D)
        yield torch.cdist(images.flatten(0, 1), covered).view(len(some), len(copied), len(covered))


def _move(matrix: Tensor, copied: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Return rotations and offsets that bring copies nearest to points; scales and handedness are kept.

    matrix (C, D, D), copied (Q, D), nearest (C, Q, D), the images to reach -> (C, D, D), (C, D) (Kabsch 1976).
    """
    middle, places = copied.mean(0), nearest.mean(1)  # (D,), (C, D)
    left, _, right = torch.linalg.svd((nearest - places[:, None]).mT @ (copied - middle))  # each (C, D, D)
    hand = torch.linalg.det(left) * torch.linalg.det(right) * torch.linalg.det(matrix)  # (C,)
    left[:, :, -1] *= torch.where(hand < 0, -1, 1)[:, None]
    size = torch.linalg.matrix_norm(matrix, dim=(1, 2))[:, None, None] / matrix.shape[-1] ** 0.5
    matrix = size * (left @ right)
    return matrix, places - matrix @ middle
