"""Tests of `fractalops.rbf_rasterize` of one image on several threads: points are sorted into strips of rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.reference.rbf_rasterize import rbf_rasterize as reference
from tests.support.tolerances import TOLERANCES, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("native", "poisoned_memory", "restored_threads")

# Enough points for eight threads in each of the three parallel regions of the strips.
POINTS = 500_000
CUTOFF = 1e-6


def make_points(size: tuple[int, int], length: int = POINTS, batch: int = 1, spread: float = 1.2) -> Tensor:
    """Return points (B, T, 2) around the middle of the image, spread over `spread` times its sides."""
    generator = torch.Generator().manual_seed(0)
    return ((torch.rand(batch, length, 2, generator=generator) - 0.5) * spread + 0.5) * torch.tensor(size)


def draw(points: Tensor, size: tuple[int, int], weight: Tensor | None = None, cutoff: float | None = CUTOFF) -> Tensor:
    """Draw on 1, 2, 3 and 8 threads; the images must have the same bits."""
    images = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        images.append(fractalops.rbf_rasterize(points, size, weight=weight, cutoff=cutoff, backend="native"))
    for image in images[1:]:
        assert_same_bits(image, images[0])
    return images[0]


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(64, 48), (5, 300)], ids=str)
def test_every_number_of_threads_draws_the_same_image(
    size: tuple[int, int], dtype: torch.dtype, channels: int | None
) -> None:
    points = make_points(size).to(dtype)
    points[:, 3::4] = (points[:, 3::4] * 2).round() / 2  # ties
    generator = torch.Generator().manual_seed(1)
    weight = None if channels is None else torch.randn(1, POINTS, channels, generator=generator).to(dtype)
    draw(points, size, weight)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_it_is_the_sum_of_the_points(dtype: torch.dtype) -> None:
    points, bandwidth = make_points((64, 48)), torch.ones(1, dtype=torch.float64)
    # Sum over runs of points: the reference makes a table of points times rows.
    runs = points.double().split(20_000, dim=1)
    expected = sum(reference(run, None, bandwidth, 64, 48, CUTOFF)[:, 0] for run in runs)
    # A pixel is a sum of thousands of terms; TOLERANCES are for hundreds. In float32 the kernel splits the sum.
    assert_matches(
        draw(points.to(dtype), (64, 48)), expected, tolerance={torch.float32: 1e-6, torch.float64: 1e-13}[dtype]
    )


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_fewer_images_than_threads(batch: int) -> None:
    points = make_points((128, 32), batch=batch)
    actual = draw(points, (128, 32))
    for image, of_image in zip(actual, points, strict=True):
        assert_same_bits(image, draw(of_image[None], (128, 32))[0])


def test_a_large_image() -> None:
    """The strips fit into a cache, also on one thread. A part has so few points that it is drawn without strips."""
    points = make_points((1100, 1030), length=100_000)
    parts = [fractalops.rbf_rasterize(part, (1100, 1030), cutoff=CUTOFF) for part in points.split(4000, dim=1)]
    assert_matches(draw(points, (1100, 1030)), sum(part.double() for part in parts))


def test_all_points_in_one_row() -> None:
    points = make_points((64, 48))
    points[..., 0] = 20.25
    draw(points, (64, 48))


def test_points_in_two_far_rows() -> None:
    points = make_points((200, 48))
    points[:, ::2, 0] = 20.25
    points[:, 1::2, 0] = 190.5
    draw(points, (200, 48))


def test_all_points_out_of_reach() -> None:
    points = make_points((64, 48)) + 1000
    assert_same_bits(draw(points, (64, 48)), torch.zeros(1, 64, 48))


def test_points_that_are_not_finite_are_left_out() -> None:
    points = make_points((64, 48))
    good = points.clone()
    for place, (x, y) in enumerate([("nan", 3), (3, "nan"), ("inf", 3), (3, "-inf"), (1e30, 3), (-1e30, "nan")]):
        points[:, place::97] = torch.tensor([float(x), float(y)])
    keep = (points == good).all(dim=-1)
    assert_same_bits(draw(points, (64, 48)), draw(good[keep][None], (64, 48)))


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (200, 48)], ids=str)
def test_one_point(size: tuple[int, int]) -> None:
    points = torch.tensor([[[0.25, 0.5]]])
    actual = draw(points, size)
    assert_matches(actual, reference(points.double(), None, torch.ones(1).double(), *size, CUTOFF)[:, 0])


def test_windows_as_large_as_the_image() -> None:
    points = make_points((96, 64), length=30_000)
    actual = draw(points, (96, 64), cutoff=None)
    assert_matches(actual, reference(points.double(), None, torch.ones(1).double(), 96, 64, 0.0)[:, 0])
