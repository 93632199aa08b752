"""Tests of `clamped_squared_error`, the loss of `fit`, alone. Others: test_every_op.py, test_op_errors.py."""

from __future__ import annotations

import math

import pytest
import torch

from fractalops.ops.clamped_squared_error import clamped_squared_error
from tests.support.case_tables import ERROR

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def test_the_gradient_reaches_the_borders_and_no_further(backend: str) -> None:
    below, above = math.nextafter(0.0, -1.0), math.nextafter(1.0, 2.0)
    pixels = [below, -0.0, 0.0, 1.0, above, math.inf, -math.inf]
    images = torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, 7)
    errors, (gradient,) = ERROR.both(backend, (images, torch.full((1, 1, 7), 0.5).double()))
    assert errors.item() == pytest.approx(0.25)
    assert (gradient != 0).flatten().tolist() == [False, True, True, True, False, False, False]


@pytest.mark.parametrize("pixels", [(4, 5), (3, 2, 3)])
def test_gradcheck(pixels: tuple[int, ...], backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(2, 3, *pixels, generator=generator, dtype=torch.float64) - 0.5  # none at 0 or 1
    targets = torch.rand(2, *pixels, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda images: clamped_squared_error(images, targets, backend=backend), images.requires_grad_()
    )


def test_other_float_dtypes_are_for_the_reference() -> None:
    images, targets = ERROR.inputs(torch.bfloat16)
    errors = clamped_squared_error(images, targets, backend="reference")
    torch.testing.assert_close(errors.double(), ERROR.expected((images, targets))[0], rtol=0.02, atol=0)
