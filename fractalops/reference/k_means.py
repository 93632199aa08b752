"""Lloyd's algorithm for k-means in the plane."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def k_means(places: Tensor, centers: Tensor, rounds: int) -> Tensor:
    """Centers (S, N, 2) after `rounds` of moving each of `centers` (S, N, 2) to the mean of the places nearest to it.

    places is (S, M, 2). Of equally near centers a place counts for the first; a center without places stays.
    """
    systems, clusters, _ = centers.shape
    shift = clusters * torch.arange(systems, device=centers.device)[:, None]  # (S, 1)
    terms = pad(places, (0, 1), value=1.0).flatten(0, 1)  # (S M, 3): of a cluster's sums and of its count
    for _ in range(rounds):
        distances = (places[:, :, None] - centers[:, None]).square()  # (S, M, N, 2)
        nearest = (distances[..., 0] + distances[..., 1]).argmin(dim=2) + shift  # (S, M)
        sums = terms.new_zeros(systems * clusters, 3).index_add_(0, nearest.flatten(), terms)
        total, count = sums.view(systems, clusters, 3).split((2, 1), dim=2)  # (S, N, 2), (S, N, 1)
        centers = torch.where(count > 0, total / count, centers)
    return centers
