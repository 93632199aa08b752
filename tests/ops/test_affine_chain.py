"""Tests of `fractalops.affine_chain` alone, on every backend. Others: test_every_op.py, test_op_errors.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import fractalops
from tests.support.case_tables import CHAIN
from tests.support.cases import ChainCase, seeded
from tests.support.tolerances import TOLERANCES, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def test_maps_compose_in_the_order_of_the_index(backend: str) -> None:
    turn_and_stretch = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]]])
    offset = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    index = torch.tensor([[0, 1], [1, 0]])
    points = fractalops.affine_chain(turn_and_stretch, offset, index, torch.tensor([1.0, 2.0]), backend=backend)
    assert points.tolist() == [[[-1.0, 1.0], [-2.0, 8.0]], [[2.0, 11.0], [-10.0, 2.0]]]


def test_one_start_serves_every_sequence(backend: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    value, gradients = CHAIN.both(backend, (matrix, offset, index, start[0]))
    expected, expected_gradients = CHAIN.both(backend, (matrix, offset, index, start[:1].repeat(5, 1)))
    assert_same_bits(value, expected)
    assert_matches(gradients[0], expected_gradients[0])
    assert_matches(gradients[2], expected_gradients[2].sum(dim=0))


def test_an_unused_map_gets_exactly_zero_gradient(backend: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    _, gradients = CHAIN.both(backend, (matrix, offset, index.clamp(max=1), start))
    for gradient in gradients[:2]:
        assert not gradient[2].any()
        assert gradient[:2].all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_every_index_dtype_gives_the_same_bits(dtype: torch.dtype, backend: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()  # uint8
    run = CHAIN.on(backend)
    assert_same_bits(run(matrix, offset, index.to(dtype), start), run(matrix, offset, index, start))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["start", "upstream", "matrix"])
def test_a_bad_sequence_leaves_the_others_alone(where: str, bad: float, backend: str) -> None:
    """Sequences 0 to 8 use maps 0 and 1; only sequence 9 uses maps 2 and 3, as in concatenated systems."""
    case = ChainCase("systems", batch=10, maps=4)
    matrix, offset, index, start = case.inputs()
    index = index % 2
    index[9] += 2
    upstream = torch.randn(10, 7, 2, dtype=torch.float64)
    expected, expected_gradients = case.both(backend, (matrix, offset, index, start), upstream)
    {"start": start[9], "upstream": upstream[9, 3], "matrix": matrix[3]}[where].fill_(bad)
    value, gradients = case.both(backend, (matrix, offset, index, start), upstream)
    assert not all(gradient.isfinite().all() for gradient in gradients)
    assert_same_bits(value[:9], expected[:9])
    for kept, actual, wanted in zip((2, 2, 9), gradients, expected_gradients, strict=True):
        assert_same_bits(actual[:kept], wanted[:kept])


def test_gradients_of_a_map_are_summed_in_double(native: str) -> None:
    """The sum has a million equal terms: in float32 it would be off by a part in a thousand."""
    count = 10**6
    matrix = torch.tensor([[[0.5, 0.1], [-0.1, 0.5]]])
    offset = torch.tensor([[0.3, 0.7]])
    index = torch.zeros(1, count, dtype=torch.uint8)
    for rows in (1, 1000):  # cut into pieces, and as many sequences
        case = ChainCase("one map", batch=rows, points=count // rows, maps=1)
        inputs = matrix, offset, index.view(rows, -1), torch.linalg.solve(torch.eye(2) - matrix[0], offset[0])
        upstream = torch.ones(rows, count // rows, 2, dtype=torch.float64)
        _, gradients = case.both(native, inputs, upstream)
        _, expected = case.both(native, [t.double() if t.is_floating_point() else t for t in inputs], upstream)
        for gradient, wanted in zip(gradients, expected, strict=True):
            assert_matches(gradient, wanted, 3e-7)


LONG = ChainCase("in pieces", batch=2, points=40_000, maps=5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_long_sequence_is_the_one_of_the_reference(dimensions: int, native: str) -> None:
    """A long sequence is cut into pieces. The results are close to those without cuts (4 sequences are not cut)."""
    case = replace(LONG, dimensions=dimensions)
    for dtype in TOLERANCES:
        matrix, offset, index, start = case.inputs(dtype)
        upstream = torch.rand(case.shape, generator=seeded(1), dtype=torch.float64)
        value, gradients = case.both(native, (matrix, offset, index, start), upstream)
        exact = [tensor.double() for tensor in (matrix, offset)]
        more = (*exact, index.repeat(2, 1), start.double().repeat(2, 1))  # not cut
        expected, expected_gradients = case.both(native, more, upstream.repeat(2, 1, 1))
        assert_matches(value, expected[:2])
        for gradient, wanted in zip(gradients[:2], expected_gradients[:2], strict=True):
            # Two sums of 80,000 terms in double, in different orders, differ by about 1e-14.
            assert_matches(gradient, wanted / 2, max(TOLERANCES[dtype], 1e-13))
        assert_matches(gradients[2], expected_gradients[2][:2])


@pytest.mark.parametrize("bad", ["start", "upstream", "zero after infinity", "explosion"])
def test_what_is_not_finite_in_a_long_sequence_is_as_without_pieces(bad: str, native: str) -> None:
    matrix, offset, index, start = LONG.inputs(torch.float32)
    upstream = torch.randn(LONG.shape, generator=seeded(1), dtype=torch.float64)
    index %= 3
    if bad == "start":
        start[0, 0] = math.inf
    elif bad == "upstream":
        upstream[0, 30_000] = math.nan
    elif bad == "zero after infinity":  # gives NaN, although the product of the maps is finite
        matrix[3], matrix[4] = 1e30 * torch.eye(2), 0
        index[0, 20_000:20_002], index[0, 20_002] = 3, 4
    else:
        matrix[4] = 3 * torch.eye(2)
        index[0, 20_000:] = 4
    value, gradients = LONG.both(native, (matrix, offset, index, start), upstream)
    more = (matrix, offset, index.repeat(2, 1), start.repeat(2, 1))  # 4 sequences are not cut
    expected, expected_gradients = LONG.both(native, more, upstream.repeat(2, 1, 1))
    assert_same_bits(value.isfinite(), expected[:2].isfinite())
    assert_same_bits(value.isnan(), expected[:2].isnan())
    assert not all(result.isfinite().all() for result in (value, *gradients))
    for gradient, wanted in zip(gradients, (*expected_gradients[:2], expected_gradients[2][:2]), strict=True):
        assert_same_bits(gradient.isnan(), wanted.isnan())
    assert_matches(value[1], expected[1].double())


def test_an_index_changed_before_the_backward_raises(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    points = CHAIN.on(native)(matrix.requires_grad_(), offset, index, start)
    index.zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.backward(points.sum())
