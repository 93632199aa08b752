"""Shared parts of the tests of `affine_chain` in CUDA: devices, its two forms, inputs and expected results."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

import pytest
import torch
from torch import Tensor

from fractalops.reference.affine_chain import affine_chain as reference
from tests.support import emulation
from tests.support.cases import ChainCase, Result, value_and_gradients
from tests.support.tolerances import TOLERANCES

CHOSEN, SEQUENTIAL, SCAN = 0, 1, 2
DTYPES = list(TOLERANCES)
INDEX_DTYPES = [torch.uint8, torch.int32, torch.int64]
FORMS = {"sequential": SEQUENTIAL, "scan": SCAN}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # matrix, offset, index, start


class Device(emulation.Device):
    op = "affine_chain"

    def forward(self, inputs: Inputs, form: int) -> Tensor:
        matrix, offset, index, start = (tensor.to(self.name) for tensor in inputs)
        points: Tensor = self.ops.affine_chain_fwd(matrix, offset, index, start, form)
        return points

    def backward(self, grad: Tensor, inputs: Inputs, points: Tensor, form: int) -> list[Tensor]:
        matrix, _, index, start = (tensor.to(self.name) for tensor in inputs)
        return list(self.ops.affine_chain_bwd(grad.to(self.name), matrix, index, start, points, form))

    def both(self, inputs: Inputs, form: int, grad: Tensor) -> Result:
        """Return the points and the gradients of matrix, offset and start, on the CPU."""
        points = self.forward(inputs, form)
        gradients = self.backward(grad.to(points.dtype), inputs, points, form)
        return points.cpu(), [gradient.cpu() for gradient in gradients]


def in_both_forms(cases: Sequence[ChainCase], slow: Collection[tuple[str, int]]) -> pytest.MarkDecorator:
    """Return parameters `case` and `form`. Pairs of a name and a form that are in `slow` are marked slow."""
    return pytest.mark.parametrize(
        ("case", "form"),
        [
            pytest.param(
                case, form, id=f"{name}-{case.name}", marks=[pytest.mark.slow] if (case.name, form) in slow else []
            )
            for name, form in FORMS.items()
            for case in cases
        ],
    )


def inputs_of(case: ChainCase, dtype: torch.dtype) -> Inputs:
    """Return the case's inputs, rounded to float32 so that they are the same for both dtypes."""
    matrix, offset, index, start = case.inputs(torch.float32)
    return matrix.to(dtype), offset.to(dtype), index, start.to(dtype)


def upstream(case: ChainCase) -> Tensor:
    shape = (case.batch, case.points, case.dimensions)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@functools.cache
def expected(case: ChainCase) -> Result:
    """Return the float64 reference's result, with separate maps for every 64 steps, whose gradients are then summed.

    Autograd sums a map's gradient step by step. At 10^5 points its error takes all of the float64 tolerance (9e-15
    against 80-bit sums; the op's error is 1e-15).
    """
    matrix, offset, index, start = inputs_of(case, torch.float64)
    part = torch.arange(case.points) // 64  # (T,)
    parts = len(part.unique())
    inputs = (matrix.repeat(parts, 1, 1), offset.repeat(parts, 1), index.long() + case.maps * part, start)
    points, (grad_matrix, grad_offset, grad_start) = value_and_gradients(reference, inputs, upstream(case))
    by_part = (gradient.unflatten(0, (parts, case.maps)).sum(0) for gradient in (grad_matrix, grad_offset))
    return points, [*by_part, grad_start]
