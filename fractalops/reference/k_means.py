"""Lloyd's algorithm for k-means in the plane."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_RUN = 4096  # places that are added up in their own type; the error of more would grow with them


def k_means(places: Tensor, centers: Tensor, rounds: int) -> Tensor:
    """Return `centers` (S, N, 2) after `rounds` of moving each to the mean of the places nearest to it.

    places is (S, M, 2). Of equally near centers a place counts for the first; a center without places stays.
    """
    systems, clusters, _ = centers.shape
    shift = clusters * torch.arange(systems, device=centers.device)[:, None]  # (S, 1)
    terms = pad(places, (0, 1), value=1.0)  # (S, M, 3): of a cluster's sums and of its count
    for _ in range(rounds):
        distances = (places[:, :, None] - centers[:, None]).square()  # (S, M, N, 2)
        nearest = (distances[..., 0] + distances[..., 1]).argmin(dim=2) + shift  # (S, M)
        sums = terms.new_zeros(systems * clusters, 3, dtype=torch.float64)
        for run, own in zip(terms.split(_RUN, dim=1), nearest.split(_RUN, dim=1), strict=True):
            sums += terms.new_zeros(sums.shape).index_add_(0, own.flatten(), run.flatten(0, 1))
        total, count = sums.to(terms.dtype).view(systems, clusters, 3).split((2, 1), dim=2)  # (S, N, 2), (S, N, 1)
        centers = torch.where(count > 0, total / count, centers)
    return centers
