"""Tests of random index sequences and of points of attractors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from fractalops.ops.draw_index import draw_index
from fractalops.sampling import sample_attractor, sample_index
from tests.support.cases import seeded

NAN, INFINITY = math.nan, math.inf


@pytest.mark.parametrize("maps", [1, 2, 3, 10, 100, 256, 257, 1000])
def test_sampled_frequencies_are_the_probabilities(maps: int) -> None:
    weights = torch.rand(2, maps, generator=seeded(15), dtype=torch.float64) + 0.05
    index = sample_index(weights, 100, 2000, seeded(16))
    assert index.shape == (2, 100, 2000)
    assert index.dtype == (torch.uint8 if maps <= 256 else torch.int32)
    expected = 200_000 * weights / weights.sum(-1, keepdim=True)
    for s in range(2):
        count = index[s].flatten().long().bincount(minlength=maps)
        assert len(count) == maps
        chi_square = ((count - expected[s]).square() / expected[s]).sum().item()
        freedom = maps - 1
        # Laurent and Massart 2000: larger values have a probability of at most e^-14, one in a million.
        assert chi_square <= freedom + 2 * math.sqrt(14 * freedom) + 2 * 14


def test_sampled_neighbors_are_independent() -> None:
    weights = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    index = sample_index(weights, 1, 200_001, seeded(17))[0, 0].long()
    count = (3 * index[:-1] + index[1:]).bincount(minlength=9)
    expected = 200_000 * torch.outer(weights[0], weights[0]).flatten()
    assert ((count - expected).square() / expected).sum().item() < 8 + 5 * 4


@pytest.mark.parametrize("weights", [[0.0, 1.0, 0.0], [1.0, 0.0], [0.0, 0.2, 0.3, 0.0, 0.5, 0.0], [1e-300, 0.0]])
def test_maps_without_probability_are_never_drawn(weights: list[float]) -> None:
    index = sample_index(torch.tensor([weights], dtype=torch.float64), 10, 5000, seeded(18))
    assert set(index.flatten().tolist()) == {n for n, weight in enumerate(weights) if weight > 0}


def test_the_largest_uniform_draw_stays_in_range() -> None:
    for dtype, maps in itertools.product((torch.float32, torch.float64), (1, 2, 3, 10, 33, 256, 257, 2**15)):
        largest = torch.tensor([[1 - torch.finfo(dtype).eps / 2]], dtype=dtype)
        weight = torch.rand(1, maps, generator=seeded(maps), dtype=torch.float64) + 1e-3
        assert draw_index(weight, largest).item() == maps - 1


def test_sampling_depends_on_the_generator_and_not_on_other_systems() -> None:
    weights = torch.rand(3, 7, generator=seeded(19))
    assert torch.equal(sample_index(weights, 5, 11, seeded(1)), sample_index(weights, 5, 11, seeded(1)))
    assert not torch.equal(sample_index(weights, 5, 11, seeded(1)), sample_index(weights, 5, 11, seeded(2)))
    together = sample_index(weights, 5, 11, [seeded(s) for s in range(3)])
    for s in range(3):
        assert torch.equal(together[s], sample_index(weights[s : s + 1], 5, 11, seeded(s))[0])
    shared, state = sample_index(weights, 5, 11, seeded(3)), seeded(3)
    for s in range(3):
        assert torch.equal(shared[s], sample_index(weights[s : s + 1], 5, 11, state)[0])


def test_sampling_no_sequences() -> None:
    assert sample_index(torch.ones(2, 3), 0, 4).shape == (2, 0, 4)


@pytest.mark.parametrize(("points", "drawn"), [(1, 1), (31, 31), (32, 32), (33, 64), (500, 512)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_points_lie_on_the_attractor(dimensions: int, points: int, drawn: int) -> None:
    """In Sierpinski's triangle and tetrahedron, each point is halfway between the previous point and a corner."""
    corners = torch.cat((torch.zeros(1, dimensions), torch.eye(dimensions))).double()  # (D + 1, D)
    matrix = (0.5 * torch.eye(dimensions)).double().expand(2, dimensions + 1, dimensions, dimensions)
    offset = torch.stack((corners / 2, corners + 1))  # the second system is the first, doubled and moved by 2
    generators = [seeded(s) for s in range(2)]
    weights = torch.ones(2, dimensions + 1)
    cloud, index = sample_attractor(matrix, offset, weights, points, sequences=32, burn_in=60, generator=generators)
    assert cloud.shape == (*index.shape, dimensions)
    assert cloud.flatten(1, 2).shape == (2, drawn, dimensions)
    cloud[1] = (cloud[1] - 2) / 2
    torch.testing.assert_close(cloud[:, :, 1:], (cloud[:, :, :-1] + corners[index.long()][:, :, 1:]) / 2)
    digits = (cloud * 2**10).long()  # at most one coordinate has a 1 at each digit: the holes stay empty
    assert not (digits[..., 0] & digits[..., 1]).any()
    alone = sample_attractor(
        matrix[:1], offset[:1], weights[:1], points, sequences=32, burn_in=60, generator=seeded(0)
    ).points
    assert torch.equal(alone[0], cloud[0])


WEIGHTS = torch.ones(2, 3)
ATTRACTOR = (torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2), WEIGHTS)
BAD_CALLS: list[tuple[Any, type[Exception], str]] = [
    (lambda: sample_attractor(*ATTRACTOR, 0), ValueError, "sample_attractor: points must be at least 1, got 0"),
    (lambda: sample_attractor(*ATTRACTOR, 1, sequences=0), ValueError, "sequences must be at least 1, got 0"),
    (lambda: sample_attractor(ATTRACTOR[0][0], *ATTRACTOR[1:], 1), ValueError, "matrix must have shape"),
    (lambda: sample_attractor(ATTRACTOR[0], ATTRACTOR[1][0], WEIGHTS, 1), ValueError, "offset must have shape"),
    (lambda: sample_attractor(*ATTRACTOR[:2], WEIGHTS[:1], 1), ValueError, "probabilities must have shape"),
    (lambda: sample_index(torch.ones(3), 1, 1), ValueError, "probabilities must have shape"),
    (lambda: sample_index(torch.ones(0, 3), 1, 1), ValueError, "probabilities must have shape"),
    (lambda: sample_index(torch.ones(2, 3).int(), 1, 1), TypeError, "probabilities must be floating-point"),
    (lambda: sample_index(-WEIGHTS, 1, 1), ValueError, "must be finite, non-negative"),
    (lambda: sample_index(0 * WEIGHTS, 1, 1), ValueError, "not all zero"),
    (lambda: sample_index(NAN * WEIGHTS, 1, 1), ValueError, "must be finite"),
    (lambda: sample_index(INFINITY * WEIGHTS, 1, 1), ValueError, "must be finite"),
    (lambda: sample_index(WEIGHTS, -1, 1), ValueError, "sequences must be at least 0, got -1"),
    (lambda: sample_index(WEIGHTS, 1, 0), ValueError, "points must be at least 1, got 0"),
    (lambda: sample_index(WEIGHTS, 1, 2.0), TypeError, "points must be an int, got float"),  # type: ignore[arg-type]
    (lambda: sample_index(WEIGHTS, 1, 1, [seeded(0)]), ValueError, "length 2, one for each system, got 1"),
    (lambda: sample_index(WEIGHTS, 1, 1, 7), TypeError, "generator must be a torch.Generator"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=itertools.count())
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
