"""Tests that balanced sampling is as balanced as its rule says. Others: test_draw_index.py."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.reference.draw_balanced_index import context_lengths
from fractalops.sampling import LONGEST_BALANCED, sample_index
from tests.support.cases import BalancedCase
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("systems", "sequences"), [(0, 2), (2, 0), (1, 1), (1, 5), (3, 4)])
def test_any_number_of_sequences(systems: int, sequences: int, backend: str) -> None:
    weight, uniform = BalancedCase("any", systems, sequences, 4, 9).inputs(torch.float32)
    index = draw_balanced_index(weight, uniform, backend=backend)
    assert index.shape == (systems, sequences, 9)
    for s, k in itertools.product(range(systems), range(sequences)):  # each separately, without its neighbors
        alone = draw_balanced_index(weight[s : s + 1], uniform[s : s + 1, k : k + 1], backend=backend)
        assert_same_bits(index[s : s + 1, k : k + 1], alone)


@pytest.mark.parametrize(
    ("maps", "points", "longest"),
    [(1, 300, 0), (10, 19, 0), (10, 20, 1), (10, 300, 2), (2, 300, 7), (20, 300, 1), (151, 300, 0), (2000, 10**6, 0)],
)
def test_context_lengths(maps: int, points: int, longest: int) -> None:
    assert list(context_lengths(maps, points)) == list(range(1, longest + 1))


def test_what_follows_a_context_is_as_often_as_expected() -> None:
    """Each run of three maps is expected 2000 times. With independent draws its count would be off by about 44."""
    weights = torch.tensor([[0.5, 0.3, 0.2, 0.0]], dtype=torch.float64)
    index = sample_index(weights, 1, LONGEST_BALANCED, seeded(1), balanced=True)[0, 0].long()
    assert set(index.tolist()) == {0, 1, 2}
    for length in (1, 2, 3):  # length of the contexts; the rule uses lengths up to 9
        runs = index.unfold(0, length + 1, 1)  # (T - length, length + 1)
        contexts, which = runs[:, :-1].unique(dim=0, return_inverse=True)
        assert len(contexts) == 3**length
        for c in range(len(contexts)):
            followed = runs[which == c, -1].bincount(minlength=4)  # (N,)
            excess = followed - followed.sum() * weights[0]  # (N,)
            assert excess.abs().max() < 4


@pytest.mark.parametrize("maps", [2, 4, 8, 10])
def test_short_sequences_hold_each_map_about_as_often_as_expected(maps: int) -> None:
    """This is true even if contexts are so rare that the rule prefers maps of small probability (see the reference)."""
    weights = torch.rand(1, maps, generator=seeded(2), dtype=torch.float64)
    probabilities = weights[0] / weights.sum()
    points = 300
    deviation = []
    for balanced in (True, False):
        index = sample_index(weights, 2000, points, seeded(3), balanced=balanced)[0].long()  # (K, T)
        counts = torch.stack([(index == n).sum(1) for n in range(maps)], 1)  # (K, N)
        deviation.append((counts - points * probabilities).square().mean().sqrt())
    assert deviation[0] < 0.5 * deviation[1]


@pytest.mark.parametrize("maps", [10, 300])
def test_the_first_map_is_drawn_by_its_probability(maps: int) -> None:
    weights = torch.rand(1, maps, generator=seeded(2), dtype=torch.float64)
    expected = 20_000 * weights[0] / weights.sum()  # (N,)
    drawn = sample_index(weights, 20_000, 300, seeded(3), balanced=True)[0, :, 0].long().bincount(minlength=maps)
    freedom = maps - 1
    assert ((drawn - expected).square() / expected).sum() <= freedom + 2 * math.sqrt(14 * freedom) + 2 * 14


def test_sequences_differ_and_are_the_generators() -> None:
    weights = torch.rand(3, 7, generator=seeded(19))
    drawn = sample_index(weights, 5, 60, seeded(1), balanced=True)
    assert torch.equal(drawn, sample_index(weights, 5, 60, seeded(1), balanced=True))
    assert not torch.equal(drawn, sample_index(weights, 5, 60, seeded(1)))
    assert len({tuple(row.tolist()) for row in drawn.flatten(0, 1)}) == 15
    together = sample_index(weights, 5, 60, [seeded(s) for s in range(3)], balanced=True)
    for s in range(3):
        assert torch.equal(together[s], sample_index(weights[s : s + 1], 5, 60, seeded(s), balanced=True)[0])
