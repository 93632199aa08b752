"""`fractalops.affine_chain` on every backend: values, gradients, layouts, isolation, determinism."""

from __future__ import annotations

import pytest
import torch

import fractalops
from fractalops.reference.affine_chain import affine_chain as reference
from tests.support.cases import CHAIN_CASES, CHAIN_GRADCHECK_CASES, ChainCase, chain, value_and_gradients
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DTYPES = list(TOLERANCES)
INDEX_DTYPES = [torch.uint8, torch.int32, torch.int64]
SMALL = ChainCase("small", batch=5, points=6, maps=3)
cases = pytest.mark.parametrize("case", CHAIN_CASES, ids=lambda case: case.name)


# Values and gradients


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_match_the_reference(case: ChainCase, dtype: torch.dtype, backend: str) -> None:
    matrix, offset, index, start = case.inputs(dtype)
    value, gradients = value_and_gradients(chain(backend), (matrix, offset, index, start))
    exact = (matrix.double(), offset.double(), index, start.double())
    expected, expected_gradients = value_and_gradients(reference, exact)
    assert value.dtype == dtype
    assert value.shape == (case.batch, case.points, case.dimensions)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("case", CHAIN_GRADCHECK_CASES, ids=lambda case: case.name)
def test_gradcheck(case: ChainCase, backend: str) -> None:
    matrix, offset, index, start = case.inputs()
    leaves = [tensor.requires_grad_() for tensor in (matrix, offset, start)]
    function = chain(backend)
    assert torch.autograd.gradcheck(lambda m, o, s: function(m, o, index, s), leaves)


def test_maps_compose_in_the_order_of_the_index(backend: str) -> None:
    turn_and_stretch = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]]])
    offset = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    index = torch.tensor([[0, 1], [1, 0]])
    points = fractalops.affine_chain(turn_and_stretch, offset, index, torch.tensor([1.0, 2.0]), backend=backend)
    assert points.tolist() == [[[-1.0, 1.0], [-2.0, 8.0]], [[2.0, 11.0], [-10.0, 2.0]]]


def test_one_start_serves_every_sequence(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    function = chain(backend)
    value, gradients = value_and_gradients(function, (matrix, offset, index, start[0]))
    expected, expected_gradients = value_and_gradients(function, (matrix, offset, index, start[:1].repeat(5, 1)))
    assert_same_bits(value, expected)
    assert_matches(gradients[0], expected_gradients[0])
    assert_matches(gradients[2], expected_gradients[2].sum(dim=0))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_any_subset_of_inputs_can_want_gradients(wanted: tuple[int, ...], backend: str) -> None:
    inputs = SMALL.inputs()
    _, expected = value_and_gradients(chain(backend), inputs, torch.ones(5, 6, 2))
    matrix, offset, index, start = inputs
    leaves = [tensor.requires_grad_(place in wanted) for place, tensor in enumerate((matrix, offset, start))]
    torch.autograd.backward(chain(backend)(leaves[0], leaves[1], index, leaves[2]).sum())
    for place, leaf in enumerate(leaves):
        if place in wanted:
            assert leaf.grad is not None
            assert leaf.grad.any()
            assert_matches(leaf.grad, expected[place])
        else:
            assert leaf.grad is None


def test_no_gradient_wanted_means_no_graph(backend: str) -> None:
    assert not chain(backend)(*SMALL.inputs()).requires_grad


def test_an_unused_map_gets_exactly_zero_gradient(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    _, gradients = value_and_gradients(chain(backend), (matrix, offset, index.clamp(max=1), start))
    for gradient in gradients[:2]:
        assert not gradient[2].any()
        assert gradient[:2].all()


# Memory layouts and index types


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
def test_every_index_dtype_gives_the_same_bits(dtype: torch.dtype, backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    assert_same_bits(
        chain(backend)(matrix, offset, index.to(dtype), start), chain(backend)(matrix, offset, index, start)
    )


def test_strided_and_expanded_inputs(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    strided = (
        matrix.mT.contiguous().mT,
        torch.stack([offset, offset], dim=-1)[..., 0],
        index.T.contiguous().T,
        start.T.contiguous().T,
    )
    expanded = (
        matrix[:1].expand(3, 2, 2),
        offset[:1].expand(3, 2),
        index[:1].expand(5, 6),
        start[:1].expand(5, 2),
    )
    for inputs in (strided, expanded):
        assert not any(tensor.is_contiguous() for tensor in inputs)
        dense = [tensor.contiguous() for tensor in inputs]
        value, gradients = value_and_gradients(chain(backend), inputs)
        expected, expected_gradients = value_and_gradients(chain(backend), dense)
        assert_same_bits(value, expected)
        assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("layout", ["expanded", "transposed", "every second"])
def test_gradient_of_any_layout(layout: str, backend: str) -> None:
    inputs = SMALL.inputs()
    shape = (5, 6, 2)
    upstream = {
        "expanded": torch.ones(1, dtype=torch.float64).expand(shape),
        "transposed": torch.randn(2, 6, 5, dtype=torch.float64).permute(2, 1, 0),
        "every second": torch.randn(5, 12, 2, dtype=torch.float64)[:, ::2],
    }[layout]
    assert not upstream.is_contiguous()
    _, gradients = value_and_gradients(chain(backend), inputs, upstream)
    _, expected = value_and_gradients(chain(backend), inputs, upstream.contiguous())
    assert_all_match(gradients, expected)


# Isolation and determinism


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["start", "upstream", "matrix"])
def test_a_bad_sequence_leaves_the_others_alone(where: str, bad: float, backend: str) -> None:
    """Sequences 0..8 use maps 0..1, sequence 9 alone uses maps 2..3, as when systems are concatenated."""
    matrix, offset, index, start = ChainCase("systems", batch=10, points=7, maps=4).inputs()
    index = index % 2
    index[9] += 2
    upstream = torch.randn(10, 7, 2, dtype=torch.float64)
    expected, expected_gradients = value_and_gradients(chain(backend), (matrix, offset, index, start), upstream)
    {"start": start[9], "upstream": upstream[9, 3], "matrix": matrix[3]}[where].fill_(bad)
    value, gradients = value_and_gradients(chain(backend), (matrix, offset, index, start), upstream)
    assert not all(gradient.isfinite().all() for gradient in gradients)
    assert_same_bits(value[:9], expected[:9])
    for kept, actual, wanted in zip((2, 2, 9), gradients, expected_gradients, strict=True):
        assert_same_bits(actual[:kept], wanted[:kept])


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",
    [
        ChainCase("published", batch=50, points=300),
        ChainCase("many sequences", batch=1001, points=17, maps=300, index_dtype=torch.int32),
        ChainCase("long, 3d", batch=3, points=5000, dimensions=3),
    ],
    ids=lambda case: case.name,
)
def test_bits_do_not_depend_on_threads_or_repeats(case: ChainCase, dtype: torch.dtype, native: str) -> None:
    inputs = case.inputs(dtype)
    results = []
    for threads in (1, 2, 3, 3):
        torch.set_num_threads(threads)
        results.append(value_and_gradients(chain(native), inputs))
    for value, gradients in results[1:]:
        assert_same_bits(value, results[0][0])
        assert_all_same_bits(gradients, results[0][1])
