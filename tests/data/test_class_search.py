"""Tests of the search for FractalDB's classes: filling rates against an independent count, and errors."""

from __future__ import annotations

import re
from typing import Any

import numpy
import pytest
import torch

from fractalops.data.class_search import filling_rates, run_chains, search_classes
from fractalops.data.generators import generator_of
from fractalops.systems import System
from fractalops.systems.stacking import Stack
from tests.support.tolerances import assert_same_bits

SMALL: dict[str, Any] = {"rate": 0.1, "size": 64, "points": 2000}


def counted(chain: numpy.ndarray, size: int, padding: float) -> float:
    """Return the filling rate of points (T, 2) as computed by the published search."""
    picture = numpy.zeros((size, size), dtype=bool)
    x, y = ((values - values.min()) / numpy.ptp(values) * (size - 2 * padding) + padding for values in chain.T)
    picture[x.astype(numpy.uint16), y.astype(numpy.uint16)] = True
    return float(picture.mean())


@pytest.mark.parametrize(("size", "points"), [(512, 5000), (63, 300), (32, 1000)])
def test_filling_rates_are_those_of_the_published_search(size: int, points: int) -> None:
    systems = Stack.of(search_classes(3, **SMALL))
    generators = [generator_of(0, "test", number) for number in range(3)]
    rates = filling_rates(systems, points, size, generators)
    generators = [generator_of(0, "test", number) for number in range(3)]
    chains = run_chains(systems, points, generators).numpy()
    expected = [counted(chain, size, size * 6 / 512) for chain in chains]
    numpy.testing.assert_allclose(rates.numpy(), expected, rtol=0, atol=1 / size**2)  # a point on a border


def test_chains_start_at_the_origin() -> None:
    system = System([[[0.5, 0.0], [0.0, 0.5]]], [[1.0, -2.0]], [1.0])
    chain = run_chains(Stack.of([system]), 3, [generator_of(0, "test", 0)])
    assert chain.tolist() == [[[1.0, -2.0], [1.5, -3.0], [1.75, -3.5]]]


def test_systems_that_explode_fill_nothing() -> None:
    system = System([[[2.0, 0.0], [0.0, 2.0]]], [[1.0, 1.0]], [1.0])
    rates = filling_rates(Stack.of([system]), 2000, 64, [generator_of(0, "test", 0)])
    assert rates.item() < 0.01


def test_classes_are_as_dense_as_asked_and_uniform() -> None:
    systems = search_classes(12, maps=(2, 7), **SMALL)
    assert [system.name for system in systems] == [f"{number:05}" for number in range(12)]
    assert len({len(system) for system in systems}) > 2
    for system in systems:
        assert system.matrix.dtype == torch.float64
        assert max(system.matrix.abs().max(), system.offset.abs().max()) <= 1
        weights = torch.linalg.det(system.matrix).abs()
        torch.testing.assert_close(system.probabilities, weights / weights.sum())
    generators = [generator_of(1, "test", number) for number in range(12)]
    # The search used other sequences: here outlying points may enlarge the bounding box and lower the rates.
    rates = filling_rates(Stack.of(systems), 2000, 64, generators)
    assert rates.min() > 0.07
    assert (rates >= 0.1).float().mean() > 0.6
    norms = [torch.linalg.matrix_norm(system.matrix, 2).max() for system in systems]
    assert max(norms) > 1  # true for 866 of FractalDB's 1000 classes


def test_few_classes_are_the_first_of_many() -> None:
    for one, other in zip(search_classes(2, **SMALL), search_classes(5, **SMALL), strict=False):
        assert_same_bits(one.matrix, other.matrix)
    assert not torch.equal(search_classes(1, seed=1, **SMALL)[0].matrix, search_classes(1, **SMALL)[0].matrix)


@pytest.mark.slow
def test_classes_of_the_default_search_are_dense() -> None:
    found = search_classes(10)
    assert min(len(system) for system in found) >= 2
    generators = [generator_of(2, "test", number) for number in range(10)]
    assert filling_rates(Stack.of(found), 100_000, 512, generators).min() > 0.19


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"rate": 1.0}, ValueError, "rate must lie in [0, 1), got 1.0"),
        (
            {"rate": 0.5},
            ValueError,
            "rate must be at most 0.488, the share of 64 x 64 pixels that 2000 points can light, got 0.5",
        ),
        (
            {"rate": 0.45, "maps": 1},
            ValueError,
            "rate must be reached by random systems, got 0.45 (0 of 6016 reached it)",
        ),
        ({"maps": (7, 2)}, ValueError, "maps must be (smallest, largest) with smallest <= largest, got (7, 2)"),
        ({"maps": "2"}, TypeError, "maps must be an int or a pair of them, got '2'"),
        ({"points": 0}, ValueError, "points must be at least 1, got 0"),
    ],
    ids=str,
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^search_classes: {re.escape(message)}$"):
        search_classes(**SMALL | changes)
