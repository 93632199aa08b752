"""Initial maps of `fit_points`: a cloud composed of smaller copies of itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CANDIDATES = 1600  # number of copies that are tried
_PATCHES = 400  # number of maps onto parts of the cloud that are tried
_SMALLEST_PATCH = 8  # points, out of the _COVERED ones
# Range of the sizes of copies. A large copy is near the cloud because it is almost the cloud itself. Above a size of
# about 0.8, the search prefers maps near the identity, which carry no information about the cloud.
_SMALLEST, _LARGEST = 0.2, 0.75
_TURN = 0.3  # radians; half of the copies turn by about this angle, the others by any rotation or reflection
_COPIED, _COVERED = 128, 768  # numbers of points that represent a copy and the cloud under it
_ROUNDS = 5
_AT_ONCE = 32  # copies whose distances are in memory at the same time
_LEAST_SHARE = 0.005


def first_copies(cloud: Tensor, maps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return maps whose images of the cloud together approximate the cloud.

    By the collage theorem (Barnsley 1985), the attractor of such maps is near the cloud. The function draws many random
    copies of the cloud, and moves each one onto the nearest points of the cloud by iterative closest points with a
    fixed size (Besl and McKay 1992). It adds maps whose image of the cloud has the mean and the covariance of a part of
    the cloud. Such a map may be flat, as a stem requires. From these candidates it then repeatedly selects the one that
    lowers the Chamfer distance between the cloud and the selected copies the most.

    Args:
        cloud: (P, D), with a radius of about 1.
        maps: Number of maps to select, N.
        generator: Source of the random numbers.

    Returns:
        The matrices (N, D, D), the offsets (N, D), and the shares (N,) of the maps. A share is the fraction of the
        cloud's points to which the map's image is nearest.
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
    to_cloud = torch.cat([there for there, _ in distances])  # (C,): mean distance of a copy's points to the cloud
    to_copy = torch.cat([back for _, back in distances])  # (C, R): distance of each point of the cloud to the copy

    taken = []
    owner = torch.zeros(len(covered), dtype=torch.int64, device=device)
    least = covered.new_full((len(covered),), torch.inf)  # (R,): distance of each point of the cloud to the selection
    taken_to_cloud = covered.new_zeros(())
    for number in range(maps):
        share = (to_copy < least).float().mean(1)  # (C,): fraction of the cloud to which each would be nearest
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
    """Return random similarities, (C, D, D) and (C, D), that map a point of the copy to a point of the cloud."""
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
    """Return maps, (C, D, D) and (C, D), whose images of the cloud have the moments of neighborhoods of points.

    The moments are the mean and the covariance.
    """
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
    """Return a power of symmetric matrices (..., D, D), 0 in directions of zero variance."""
    values, vectors = torch.linalg.eigh(covariance)  # (..., D), (..., D, D)
    powers = torch.where(values > 1e-6, values.clamp(min=1e-6) ** exponent, 0)
    result: Tensor = (vectors * powers[..., None, :]) @ vectors.mT
    return result


def _distances(matrix: Tensor, offset: Tensor, copied: Tensor, covered: Tensor) -> Iterator[Tensor]:
    """Yield the distances (some, Q, R) between the points of some copies and the points of the cloud."""
    for some, move in zip(matrix.split(_AT_ONCE), offset.split(_AT_ONCE), strict=True):
        images = copied @ some.mT + move[:, None]  # (some, Q, D)
        yield torch.cdist(images.flatten(0, 1), covered).view(len(some), len(copied), len(covered))


def _move(matrix: Tensor, copied: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rotations and offsets that move copies nearest to given points (Kabsch 1976).

    The size and the handedness of each copy are kept.

    Args:
        matrix: (C, D, D).
        copied: (Q, D), the points of a copy.
        nearest: (C, Q, D), the points to which each copy moves them.

    Returns:
        matrix (C, D, D) and offset (C, D).
    """
    middle, places = copied.mean(0), nearest.mean(1)  # (D,), (C, D)
    left, _, right = torch.linalg.svd((nearest - places[:, None]).mT @ (copied - middle))  # each (C, D, D)
    hand = torch.linalg.det(left) * torch.linalg.det(right) * torch.linalg.det(matrix)  # (C,)
    left[:, :, -1] *= torch.where(hand < 0, -1, 1)[:, None]
    size = torch.linalg.matrix_norm(matrix, dim=(1, 2))[:, None, None] / matrix.shape[-1] ** 0.5
    matrix = size * (left @ right)
    return matrix, places - matrix @ middle
