"""Tests of every op: values and gradients, in any memory layout, for any number of threads and any neighbors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.support.case_tables import (
    CHAIN_CASES,
    CHAIN_GRADCHECK_CASES,
    COUNT_CASES,
    DIFFERENTIABLE,
    ERROR,
    ERROR_CASES,
    MATRIX,
    MATRIX_CASES,
    RASTER,
    RASTER_CASES,
    RASTER_GRADCHECK_CASES,
    SMALL,
)
from tests.support.cases import (
    MODES,
    BalancedCase,
    Case,
    ChainCase,
    CountCase,
    DrawCase,
    ErrorCase,
    MatrixCase,
    MeansCase,
    RasterCase,
)
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")

dtypes = pytest.mark.parametrize("dtype", TOLERANCES)


@dtypes
@pytest.mark.parametrize("case", [*CHAIN_CASES, *RASTER_CASES, *COUNT_CASES, *MATRIX_CASES, *ERROR_CASES], ids=str)
def test_values_and_gradients_are_those_of_the_reference(case: Case, dtype: torch.dtype, backend: str) -> None:
    inputs = case.inputs(dtype)
    value, gradients = case.both(backend, inputs)
    assert value.shape == case.shape
    assert value.dtype == dtype or not case.differentiable
    assert_all_match((value, gradients), case.expected(inputs))


@pytest.mark.parametrize("case", [*CHAIN_GRADCHECK_CASES, *RASTER_GRADCHECK_CASES], ids=str)
def test_gradcheck(case: Case, backend: str) -> None:
    inputs = list(case.smooth_inputs() if isinstance(case, RasterCase) else case.inputs())
    for place in case.differentiable:
        if inputs[place] is not None:
            inputs[place].requires_grad_()
    assert torch.autograd.gradcheck(case.on(backend), inputs)


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        (case, wanted)
        for case in DIFFERENTIABLE
        for count in range(len(case.differentiable))
        for wanted in itertools.combinations(case.differentiable, count)
    ],
    ids=str,
)
def test_any_subset_of_inputs_can_want_gradients(case: Case, wanted: tuple[int, ...], backend: str) -> None:
    inputs = case.inputs()
    _, expected = case.both(backend, inputs, torch.ones(case.shape))
    for place in wanted:
        inputs[place].requires_grad_()
    value = case.on(backend)(*inputs)
    assert value.requires_grad == bool(wanted)
    if wanted:
        torch.autograd.backward(value.sum())
    for place, gradient in zip(case.differentiable, expected, strict=True):
        actual = inputs[place].grad
        if place in wanted:
            assert actual.any()
            assert_matches(actual, gradient)
        else:
            assert actual is None


LAYOUTS = {
    "transposed": lambda tensor: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor,
    "reversed": lambda tensor: (
        tensor.permute(*range(tensor.ndim)[::-1]).contiguous().permute(*range(tensor.ndim)[::-1])
    ),
    "every second": lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
    "expanded": lambda tensor: tensor[:1].expand_as(tensor),
    "one number": lambda tensor: tensor.flatten()[0].expand_as(tensor),
}


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_inputs_and_upstream_gradients_of_any_layout(case: Case, layout: str, dtype: torch.dtype, backend: str) -> None:
    dense = [tensor if tensor is None else LAYOUTS[layout](tensor).contiguous() for tensor in case.inputs(dtype)]
    value = case.on(backend)(*dense)
    upstream = LAYOUTS[layout](torch.randn(value.shape, dtype=dtype))
    inputs = [tensor if tensor is None else LAYOUTS[layout](tensor) for tensor in case.inputs(dtype)]
    assert not any(tensor.is_contiguous() for tensor in (*inputs, upstream) if tensor is not None and tensor.ndim > 1)
    actual, gradients = case.both(backend, inputs, upstream)
    assert_same_bits(actual, value)
    assert_all_match(gradients, case.both(backend, dense, upstream.contiguous())[1])


@pytest.mark.usefixtures("restored_threads")
@dtypes
@pytest.mark.parametrize(
    "case",
    [
        ChainCase("published", batch=50, points=300),
        ChainCase("many sequences", batch=1001, points=17, maps=300, index_dtype=torch.int32),
        ChainCase("long, 3d", batch=3, points=5000, dimensions=3),
        ChainCase("in pieces", batch=1, points=300_000),
        ChainCase("in pieces, 3d", batch=2, points=100_001, dimensions=3),
        RasterCase("published", batch=50, points=300, size=32, channels=0),
        RasterCase("no weight", batch=7, points=300, size=32),
        RasterCase("color", batch=3, points=1000, size=(63, 100), channels=3),
        RasterCase("one large image", batch=1, points=20000, size=(300, 200)),
        RasterCase("one large image, color", batch=1, points=20000, size=(300, 200), channels=3),
        RasterCase("one image, exact", batch=1, points=500, size=(63, 100), cutoff=None),
        *(
            CountCase(f"batch {batch}", batch, points=20_000, size=(100, 70), sides=(3, 3), mode=mode)
            for batch in (1, 7)
            for mode in MODES
        ),
        MatrixCase("many", (5000,)),
        ErrorCase("many pixels", (5, 20, 33, 31)),
        DrawCase("many", systems=5, draws=30_000),
        BalancedCase("many", systems=5, sequences=40, points=300),
        MeansCase("many", systems=5, places=2048, rounds=10),
    ],
    ids=str,
)
def test_bits_do_not_depend_on_threads_or_repeats(case: Case, dtype: torch.dtype, native: str) -> None:
    inputs = case.inputs(dtype)
    results = []
    for threads in (1, 2, 3, 3):
        torch.set_num_threads(threads)
        results.append(case.both(native, inputs))
    for result in results[1:]:
        assert_all_same_bits(result, results[0])
    if not case.differentiable:
        assert_same_bits(results[0][0], case.on("reference")(*inputs))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("case", "where"),
    [(RASTER, 0), (RASTER, 1), (RASTER, None), (MATRIX, 0), (MATRIX, None), (ERROR, 0), (ERROR, 1), (ERROR, None)],
    ids=str,
)
def test_a_bad_item_leaves_the_others_of_its_batch_alone(
    case: Case, where: int | None, bad: float, backend: str
) -> None:
    """The bad value is in an input or in the upstream gradient. Chains share maps: see test_affine_chain.py."""
    inputs, upstream = case.inputs(), torch.randn(case.shape, dtype=torch.float64)
    expected = case.both(backend, inputs, upstream)
    (upstream if where is None else inputs[where])[1].fill_(bad)
    value, gradients = case.both(backend, inputs, upstream)
    if math.isnan(bad) and (case, where) != (RASTER, 0):  # a point that is NaN adds nothing
        assert any(result[1].isnan().any() for result in (value, *gradients))
    others = [item for item in range(len(value)) if item != 1]
    assert_all_same_bits(*([each[others] for each in (one, *more)] for one, more in ((value, gradients), expected)))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_tensors_without_values_have_their_shapes_told(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    value = case.on(None)(*(tensor if tensor is None else tensor.to("meta") for tensor in inputs))
    expected = case.on("reference")(*inputs)
    assert (value.shape, value.dtype, value.device.type) == (expected.shape, expected.dtype, "meta")
