"""Tests that the backends of `fixed_point`, which finds the starts of chains, agree. Its values: test_ifs.py."""

from __future__ import annotations

import math

import pytest
import torch

from fractalops.ops.fixed_point import fixed_point
from tests.support.tolerances import TOLERANCES

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (63,), (7, 5)], ids=str)
def test_it_stays_where_it_is(shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = (0.4 * torch.randn(*shape, 2, 2, generator=generator, dtype=torch.float64)).to(dtype).mT  # not contiguous
    offset = torch.randn(*shape, 2, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    point = fixed_point(matrix, offset, backend=backend)
    assert not point.requires_grad
    moved = (matrix @ point[..., None])[..., 0] + offset
    torch.testing.assert_close(moved, point, rtol=0, atol=100 * TOLERANCES[dtype])  # I - A may be near singular


def test_singular_and_broken_maps(backend: str) -> None:
    identity, half = torch.eye(2), 0.5 * torch.eye(2)
    matrix = torch.stack((identity, half, half * math.nan, half, identity, half * math.inf))
    offset = torch.tensor([[1.0, 2.0], [1, 2], [1, 2], [math.inf, 2], [math.nan, 3], [0, 0]])
    expected = torch.tensor([[1.0, 2.0], [2, 4], [1, 2], [0, 2], [0, 3], [0, 0]])
    assert torch.equal(fixed_point(matrix, offset, backend=backend), expected)
