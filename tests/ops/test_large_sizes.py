"""Tests of tensors with more than 2^31 elements: elements after the first 2^31 are read and written correctly.

Inputs are zeros. The system maps all their pages to the same memory until they are written to, so they take only
virtual memory. Float results would take 8 GiB, so they are tested only with tensors without values.
"""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.ops.draw_index import draw_index

BEYOND = 2**31 + 16


def zeros(*shape: int, dtype: Any = numpy.float32) -> Tensor:
    try:
        return torch.from_numpy(numpy.zeros(shape, dtype))
    except MemoryError:
        pytest.skip("the system grants no 8 GiB of virtual memory")


@pytest.mark.slow
def test_points_that_are_counted(native: str) -> None:
    points = zeros(1, BEYOND // 2, 2)
    points[0, -2:] = torch.tensor([[7.0, 0.0], [3.0, 5.0]])
    image = fractalops.rasterize_points(points, 8, mode="density")
    expected = torch.zeros(1, 8, 8, dtype=torch.int32)
    expected[0, 0, 0], expected[0, 7, 0], expected[0, 3, 5] = BEYOND // 2 - 2, 1, 1
    assert torch.equal(image, expected)


@pytest.mark.slow
def test_pixels_of_one_image(native: str) -> None:
    """The image takes 2 GiB."""
    height, width = 513, 2**22 - 1
    assert height * width > 2**31
    points = torch.tensor([[[0.0, 1.0], [height - 2, width - 2], [height - 1, width - 1]]])
    image = fractalops.rasterize_points(points, (height, width))
    assert (image[0, 0, 1], image[0, -2, -2], image[0, -1, -1]) == (1, 1, 1)
    assert image[0, -3:].count_nonzero() == 2
    assert image[0, :2].count_nonzero() == 1


@pytest.mark.slow
def test_points_that_are_drawn(native: str) -> None:
    points = zeros(1, BEYOND // 2, 2)
    points[0, -2:] = torch.tensor([[7.0, 0.0], [3.0, 5.0]])
    image = fractalops.rbf_rasterize(points, 8, bandwidth=0.2, cutoff=0.5)
    assert (image[0, 7, 0], image[0, 3, 5]) == (1, 1)
    assert image[0, 0, 0] >= 2**24  # float32 cannot count further
    assert image.count_nonzero() == 3


@pytest.mark.slow
def test_gradients_of_a_chain(native: str) -> None:
    """Only the last two points have a gradient. The same array is also the chain's points."""
    grad = zeros(1, BEYOND // 2, 2)
    index = zeros(1, BEYOND // 2, dtype=numpy.uint8)
    index[0, -1] = 1
    grad[0, -2:] = torch.tensor([[5.0, 7.0], [2.0, 3.0]])
    matrix = 0.5 * torch.eye(2).expand(2, 2, 2)
    start = torch.zeros(1, 2)
    grad_matrix, grad_offset, grad_start = torch.ops.fractalops.affine_chain_bwd(grad, matrix, index, start, grad)
    assert torch.equal(grad_matrix[1], torch.tensor([[2.0 * 5, 2.0 * 7], [3.0 * 5, 3.0 * 7]]))
    assert not grad_matrix[0].any()
    # The adjoint of the second-to-last point is (6, 8.5). Every earlier step halves it.
    assert torch.equal(grad_offset, torch.tensor([[12.0, 17.0], [2.0, 3.0]]))
    assert not grad_start.any()


@pytest.mark.slow
def test_numbers_that_draw_maps(native: str) -> None:
    """The index takes 2 GiB."""
    uniform = zeros(1, BEYOND)
    uniform[0, -1] = 0.9
    index = draw_index(torch.ones(1, 2), uniform)
    assert index[0, -1] == 1
    assert index[0, -1000:].count_nonzero() == 1
    assert index[0, :1000].count_nonzero() == 0


def test_shapes_without_values() -> None:
    matrix, offset, start = (torch.empty(shape, device="meta") for shape in ((3, 2, 2), (3, 2), (2,)))
    index = torch.empty(2**28, 5, dtype=torch.uint8, device="meta")
    points = fractalops.affine_chain(matrix, offset, index, start)
    assert points.shape == (2**28, 5, 2)
    image = fractalops.rbf_rasterize(points, (2**6, 2**7))
    assert image.shape == (2**28, 2**6, 2**7)
