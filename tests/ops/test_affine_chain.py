"""`fractalops.affine_chain` on every backend: what it alone has. The rest: test_every_op.py, test_op_errors.py."""

from __future__ import annotations

import pytest
import torch

import fractalops
from tests.support.case_tables import CHAIN
from tests.support.cases import ChainCase
from tests.support.tolerances import assert_matches, assert_same_bits

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
    """Sequences 0..8 use maps 0..1, sequence 9 alone uses maps 2..3, as when systems are concatenated."""
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


def test_an_index_changed_before_the_backward_raises(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    points = CHAIN.on(native)(matrix.requires_grad_(), offset, index, start)
    index.zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.backward(points.sum())
