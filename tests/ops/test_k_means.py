"""Tests of `k_means`: its backends agree, and a round follows its definition. Others: test_every_op.py."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fractalops.ops.k_means import k_means
from tests.support.cases import MeansCase
from tests.support.tolerances import TOLERANCES, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CASES = [
    MeansCase(f"{places} among {clusters}, {systems}", systems, places, clusters)
    for places, clusters, systems in itertools.product([0, 1, 3, 63, 300], [1, 3, 10, 63], [0, 1, 3])
]


def one_round(places: Tensor, centers: Tensor) -> Tensor:
    """Return the centers of one system after a round, computed place by place."""
    nearest = [min(range(len(centers)), key=(place - centers).norm(dim=1).tolist().__getitem__) for place in places]
    own = [places[[m for m, n in enumerate(nearest) if n == center]] for center in range(len(centers))]
    return torch.stack([part.mean(dim=0) if len(part) else center for part, center in zip(own, centers, strict=True)])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_equals_the_reference(case: MeansCase, dtype: torch.dtype, native: str) -> None:
    inputs = case.inputs(dtype)
    assert_same_bits(case.on(native)(*inputs), case.on("reference")(*inputs))


@pytest.mark.parametrize("case", [case for case in CASES if case.systems == 1], ids=str)
def test_a_round_moves_each_center_to_the_mean_of_its_places(case: MeansCase, backend: str) -> None:
    places, centers = case.inputs()
    kept = centers.clone()
    assert_matches(k_means(places, centers, 1, backend=backend)[0], one_round(places[0], centers[0]))
    assert_same_bits(k_means(places, centers, 0, backend=backend), kept)
    assert_same_bits(centers, kept)


def test_of_equally_near_centers_the_first_gets_the_place(backend: str) -> None:
    places = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 4.0]]])
    centers = torch.tensor([[[2.0, 0.0], [0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]])
    expected = torch.tensor([[[4 / 3, 4 / 3], [0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]])
    assert_matches(k_means(places, centers, 1, backend=backend), expected)
