"""Tests of the start of `fit_points`: copies of a cloud that together come close to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractalops.fitting import copies
from fractalops.fitting.copies import first_copies
from fractalops.fitting.distances import chamfer_distance


def square(points: int = 900) -> Tensor:
    """Return points (P, 3) of a flat square, which is the union of four copies of half its size."""
    flat = 2 * torch.rand(points, 2, generator=torch.Generator().manual_seed(0)) - 1
    return torch.cat((flat, torch.zeros(points, 1)), 1)


def images(cloud: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    return (cloud @ matrix.mT + offset[:, None]).flatten(0, 1)


def test_few_copies_come_near_the_cloud(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(copies, "_CANDIDATES", 400)  # makes the test quick
    cloud = square()
    matrix, offset, share = first_copies(cloud, 5, torch.Generator().manual_seed(0))
    assert matrix.shape == (5, 3, 3)
    assert offset.shape == (5, 3)
    assert share.sum().item() == pytest.approx(1)
    assert share.min() > 0
    assert torch.linalg.svdvals(matrix).max() <= copies._LARGEST * (1 + 1e-5)
    again = first_copies(cloud, 5, torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(again, (matrix, offset, share), strict=True))
    fewer = [chamfer_distance(images(cloud, matrix[:count], offset[:count]), cloud) for count in (1, 2, 5)]
    assert fewer[2] < fewer[1] < fewer[0]
    assert fewer[2] < 0.1


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_copy_is_moved_onto_points_with_its_size_and_hand_kept(dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20, dimensions, generator=generator, dtype=torch.float64)
    turns = torch.linalg.qr(torch.randn(16, dimensions, dimensions, generator=generator, dtype=torch.float64)).Q
    expected, other = 0.5 * turns[:8], 0.5 * turns[8:]
    mirrored = torch.linalg.det(expected) * torch.linalg.det(other) < 0
    other[mirrored, :, 0] *= -1
    offset = torch.randn(8, dimensions, generator=generator, dtype=torch.float64)
    found = copies._move(other, points, points @ expected.mT + offset[:, None])
    torch.testing.assert_close(found, (expected, offset))
    other[:, :, 0] *= -1  # the other orientation: the copy comes as close as possible, but is not flattened
    matrix, _ = copies._move(other, points, points @ expected.mT + offset[:, None])
    torch.testing.assert_close(torch.linalg.det(matrix), torch.linalg.det(other))
    torch.testing.assert_close(torch.linalg.svdvals(matrix), torch.full((8, dimensions), 0.5, dtype=torch.float64))


def test_parts_may_be_flat() -> None:
    cloud = square(100)
    matrix, offset = copies._patches(cloud, torch.Generator().manual_seed(0))
    assert torch.linalg.svdvals(matrix)[:, 2].max() < 1e-6  # the cloud is flat
    moved = cloud @ matrix.mT + offset[:, None]  # (C, P, D)
    assert (moved.mean(1).abs() <= 1).all()
    assert moved[..., 2].abs().max() < 1e-6
