"""Tests that errors of float32 sums do not grow with the number of terms.

A float32 sum that has reached 2^24 does not change when ones are added to it one after the other.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.ops.clamped_squared_error import clamped_squared_error
from fractalops.ops.k_means import k_means
from fractalops.reference.rbf_rasterize import rbf_rasterize as reference
from tests.support.tolerances import TOLERANCES, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = TOLERANCES[torch.float32]


def expected(points: Tensor, size: tuple[int, int], bandwidth: float = 1.0) -> Tensor:
    """Return the image (1, H, W) in float64, summed over runs of points."""
    tau = torch.full((1,), bandwidth, dtype=torch.float64)
    runs = points.double().split(20_000, dim=1)
    return torch.stack([reference(run, None, tau, *size, 1e-6)[:, 0] for run in runs]).sum(0)


def orbit(length: int, size: int) -> Tensor:
    """Return points (1, length, 2) of the attractor of a random system, scaled to the image."""
    generator = torch.Generator().manual_seed(2)
    matrix = (torch.rand(5, 2, 2, generator=generator) - 0.5) * 1.2
    offset = torch.rand(5, 2, generator=generator)
    chains = 1000  # chains in parallel
    index = torch.randint(5, (chains, length // chains + 50), generator=generator)
    points = fractalops.affine_chain(matrix, offset, index, torch.zeros(2))[:, 50:].reshape(1, -1, 2)
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    return (points - low) / (high - low) * (size - 1)


def test_ones_on_one_pixel_are_counted(native: str) -> None:
    count = 20_000_000
    image = fractalops.rbf_rasterize(torch.zeros(1, count, 2), 1, backend=native)
    assert image.item() == count


# Windows with and without cuts at the borders, pages of columns, strips, wide windows.
SIZES = {(1, 1): 1.0, (4, 4): 1.0, (32, 32): 1.0, (40, 33): 9.0, (2, 1000): 1.0, (300, 257): 1.0, (1100, 1030): 1.0}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_points(size: tuple[int, int], native: str) -> None:
    """All points are rounded alike, so the errors add up."""
    point = torch.tensor([[[0.4 * size[0] - 0.3, 0.6 * size[1] - 0.1]]])
    count, bandwidth = 300_000, SIZES[size]
    image = fractalops.rbf_rasterize(point.repeat(1, count, 1), size, bandwidth=bandwidth, backend=native)
    assert_matches(image, count * expected(point, size, bandwidth), tolerance=2 * TOLERANCE)


@pytest.mark.parametrize("size", [(4, 4), (32, 32)], ids=str)
def test_random_points(size: tuple[int, int], native: str) -> None:
    points = torch.rand(1, 200_000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(size)
    image = fractalops.rbf_rasterize(points, size, backend=native)
    assert_matches(image, expected(points, size), tolerance=1e-6)


def test_points_of_an_attractor(native: str) -> None:
    points = orbit(200_000, 32)
    image = fractalops.rbf_rasterize(points, 32, backend=native)
    assert_matches(image, expected(points, (32, 32)), tolerance=1e-6)


def test_weights_and_channels(native: str) -> None:
    """A weight that is much larger than the others must not absorb terms that come long after it."""
    count = 20_000
    weight = torch.ones(1, count, 2)
    weight[:, :4096] = 0
    weight[:, 0] = torch.tensor([2.0**30, -(2.0**30)])
    image = fractalops.rbf_rasterize(torch.full((1, count, 2), 9.0), 20, weight=weight, backend=native)
    rest = count - 4096
    # Of the next 256 terms, some are absorbed.
    assert abs(image[0, 0, 9, 9].item() - (2.0**30 + rest)) <= 256
    assert abs(image[0, 1, 9, 9].item() - (-(2.0**30) + rest)) <= 256


def test_the_loss_of_a_large_image(backend: str) -> None:
    """All terms are rounded alike. A run of the sum has 1000 terms."""
    images = torch.full((1, 1, 3000, 4000), 0.7)
    error = clamped_squared_error(images, torch.full((1, 3000, 4000), 0.1), backend=backend)
    one = (torch.tensor(0.7) - torch.tensor(0.1)).double().square()
    assert_matches(error, one[None], tolerance=1000 / 2**24 / 2)


def test_the_mean_of_many_places(backend: str) -> None:
    places = torch.rand(1, 4_000_000, 2, generator=torch.Generator().manual_seed(0))
    centers = torch.zeros(1, 1, 2)
    assert_matches(k_means(places, centers, 1, backend=backend), places.double().mean(dim=1, keepdim=True))


@pytest.mark.parametrize("size", [(64, 48), (5, 300)], ids=str)
def test_threads_split_the_same_sums(size: tuple[int, int], native: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 600_000, 2, generator=generator) ** 4 * torch.tensor(size)
    images = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        images.append(fractalops.rbf_rasterize(points, size, backend=native))
    assert_same_bits(*images)


@pytest.mark.slow
def test_a_hundred_million_points(native: str) -> None:
    some = orbit(10_000, 32)
    image = fractalops.rbf_rasterize(some.repeat(1, 10_000, 1), 32, backend=native)
    assert_matches(image, 10_000 * expected(some, (32, 32)), tolerance=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.0, 0.3])
def test_a_hundred_million_equal_points(place: float, native: str) -> None:
    point = torch.full((1, 1, 2), place)
    image = fractalops.rbf_rasterize(point.expand(1, 100_000_000, 2), 4, backend=native)
    assert_matches(image, 100_000_000 * expected(point, (4, 4)), tolerance=2 * TOLERANCE)
