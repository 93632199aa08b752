"""Tests of words (sequences of maps) whose images touch a window, and of points drawn through them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fractalops import deep_zoom
from fractalops.deep_zoom import bounding_disc, through_words, words_in_window
from fractalops.errors import InputError
from fractalops.ops.svd_matrix import svd_matrix
from fractalops.sampling import sample_attractor
from fractalops.systems import random_systems
from tests.support.cases import seeded

TRIANGLE = 0.5 * torch.eye(2).expand(3, 2, 2), torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]), torch.ones(3) / 3


def window(*bounds: float) -> tuple[Tensor, Tensor]:
    """Return the corners of a window (x_min, y_min, x_max, y_max)."""
    corners = torch.tensor(bounds, dtype=torch.float64).view(2, 2)
    return corners[0], corners[1]


def random_maps(maps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    drawn = random_systems(1, maps, generator=seeded(seed), dtype=torch.float64)
    factors = torch.cat((torch.stack((drawn.theta, drawn.phi), -1), 0.9 * drawn.singular_values, drawn.reflection), -1)
    probabilities = torch.rand(maps, generator=seeded(seed), dtype=torch.float64) + 0.1
    return svd_matrix(factors[0], "clamp"), drawn.offset[0], probabilities / probabilities.sum()


def attractor(maps: tuple[Tensor, Tensor, Tensor], points: int, seed: int = 0) -> Tensor:
    sample = sample_attractor(*(part[None] for part in maps), points, generator=seeded(seed))
    return sample.points.flatten(0, 2)[:points]


@pytest.mark.parametrize(("maps", "seed"), [(1, 0), (2, 1), (3, 2), (7, 3), (200, 4)])
def test_the_disc_holds_the_attractor_and_is_not_much_larger(maps: int, seed: int) -> None:
    system = random_maps(maps, seed)
    disc = bounding_disc(deep_zoom.Words(*system, torch.arange(maps)))
    distance = (attractor(system, 20_000) - disc.center).norm(dim=1)
    assert distance.max() <= disc.radius + 1e-9
    assert disc.radius <= 2.5 * distance.max() + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_the_words_hold_the_windows_share_of_the_points(seed: int) -> None:
    """The share agrees with a count of points, also if words are thinned."""
    system = random_maps(4, seed)
    cloud = attractor(system, 400_000)
    center = cloud[17]
    low, high = center - 0.1, center + 0.07
    expected = ((cloud > low) & (cloud < high)).all(1).double().mean()
    words = words_in_window(*system, low, high, seeded(1))
    points, _ = through_words(words, attractor(system, 50_000, 2), seeded(3))
    inside = ((points > low) & (points < high)).all(1)
    assert inside.double().mean() > 0.3
    share = inside.double().mean() * words.probability.sum()
    torch.testing.assert_close(share, expected, rtol=0.05, atol=1e-4)
    # The points have the same means and spreads as without words.
    for measure in (torch.mean, torch.std):
        found, wanted = measure(points[inside], 0), measure(cloud[((cloud > low) & (cloud < high)).all(1)], 0)
        assert ((found - wanted).abs() < 0.05 * (high - low)).all()


def test_thinned_words_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    system = random_maps(6, 5)
    low, high = window(-0.02, -0.02, 0.02, 0.02)
    center = attractor(system, 1)[0]
    all_words = words_in_window(*system, center + low, center + high)
    monkeypatch.setattr(deep_zoom, "_MOST_WORDS", 300)
    monkeypatch.setattr(deep_zoom, "_MOST_KEPT", 1000)
    few = [words_in_window(*system, center + low, center + high, seeded(seed)) for seed in range(10)]
    assert len(all_words.last) > 1000 >= max(len(words.last) for words in few)
    mean = torch.stack([words.probability.sum() for words in few]).mean()
    torch.testing.assert_close(mean, all_words.probability.sum(), rtol=0.05, atol=0)


def test_the_words_are_those_of_a_search_through_all() -> None:
    """Near a corner of the triangle, the words have six maps, and include all whose images can touch the window."""
    words = words_in_window(*TRIANGLE, *window(-0.05, -0.05, 0.05, 0.05))
    length = 6
    found = {tuple(offset) for offset in (words.offset * 2**length).round().int().tolist()}
    assert (words.matrix == torch.eye(2, dtype=torch.float64) / 2**length).all()
    corners = TRIANGLE[1].double()
    expected = set()
    for word in itertools.product(range(3), repeat=length):
        corner = sum(corners[n] * 0.5**step for step, n in enumerate(word))
        if (corner <= 0.05).all():  # the image's corner with the right angle, which is its least in both axes
            expected.add(tuple((corner * 2**length).round().int().tolist()))
    assert found >= expected
    assert len(found) <= 1.5 * len(expected) + 10
    torch.testing.assert_close(words.probability, torch.full_like(words.probability, 3.0**-length))


def test_the_last_maps_are_those_of_the_points() -> None:
    words = words_in_window(*TRIANGLE, *window(0.4, 0.0, 0.7, 0.3))
    points, last = through_words(words, attractor(tuple(part.double() for part in TRIANGLE), 5000), seeded(0))
    assert (last >= 0).all()
    expected = torch.where(points[:, 0] > 0.5, 1, torch.where(points[:, 1] > 0.5, 2, 0))
    assert (last == expected).double().mean() > 0.99
    whole = words_in_window(*TRIANGLE, *window(-50, -50, 50, 50))
    assert whole.last.tolist() == [-1]
    assert whole.probability.tolist() == [1]


def test_a_window_beside_the_attractor_has_no_words() -> None:
    assert len(words_in_window(*TRIANGLE, *window(0.6, 0.6, 0.9, 0.9)).last) == 0
    assert len(words_in_window(*TRIANGLE, *window(7, 7, 8, 9)).last) == 0


@pytest.mark.parametrize("norm", [1.0, 1.5, float("nan")])
def test_maps_that_do_not_contract_are_refused(norm: float) -> None:
    matrix = TRIANGLE[0].clone()
    matrix[1] = torch.diag(torch.tensor([norm, 0.1]))
    with pytest.raises(InputError, match=f"deep zoom: the maps must contract, got a norm of {norm:g} for map 1"):
        words_in_window(matrix, *TRIANGLE[1:], *window(0, 0, 1, 1))
