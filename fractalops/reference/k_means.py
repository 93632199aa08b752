"""Lloyd's algorithm for k-means in the plane."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_RUN = 4096  # places per sum in their own dtype; longer sums would have larger rounding errors


def k_means(places: Tensor, centers: Tensor, rounds: int) -> Tensor:
    """Return `centers` (S, N, 2) after `rounds` rounds. A round moves each center to the mean of its nearest places.

    places is (S, M, 2). A place with the same distance to several centers belongs to the first of them. A center
    without places doesn't move.
    """
    systems, clusters, _ = centers.shape
    shift = clusters * torch.arange(systems, device=centers.device)[:, None]  # (S, 1)
    terms = pad(places, (0, 1), value=1.0)  # (S, M, 3): summed over a cluster, its total and its count
    for _ in range(rounds):
        distances = (places[:, :, None] - centers[:, None]).square()  # (S, M, N, 2)
        nearest = (distances[..., 0] + distances[..., 1]).argmin(dim=2) + shift  # (S, M)
        sums = terms.new_zeros(systems * clusters, 3, dtype=torch.float64)
        for run, own in zip(terms.split(_RUN, dim=1), nearest.split(_RUN, dim=1), strict=True):
            sums += terms.new_zeros(sums.shape).index_add_(0, own.flatten(), run.flatten(0, 1))
        total, count = sums.to(terms.dtype).view(systems, clusters, 3).split((2, 1), dim=2)  # (S, N, 2), (S, N, 1)
        centers = torch.where(count > 0, total / count, centers)
    return centers
