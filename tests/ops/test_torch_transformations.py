"""Tests of the ops under torch's transformations: opcheck, compile, vmap, grad, jacrev, and saved tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.op_table import OPS
from tests.support.case_tables import (
    CHAIN,
    CHAIN_CASES,
    COUNT,
    COUNT_CASES,
    DIFFERENTIABLE,
    ERROR,
    MATRIX,
    RASTER,
    RASTER_CASES,
    SMALL,
)
from tests.support.cases import Case, ChainCase, CountCase, ErrorCase, MatrixCase, RasterCase, value_and_gradients
from tests.support.raw_op_arguments import ARGUMENTS
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")


# The raw ops


RAW = [pytest.param(name, each, id=f"{name}-{i}") for name, calls in ARGUMENTS.items() for i, each in enumerate(calls)]
# learn_steps changes its rows in place, but `vmap` would pass it copies.
FUNCTIONAL = [each for each in RAW if each.values[0] != "learn_steps"]


def raw_calls(case: Case, dtype: torch.dtype) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the raw ops that the case calls, with their arguments. The backward gets a random gradient."""
    grad = torch.randn(case.shape, dtype=dtype)
    if isinstance(case, ChainCase):
        matrix, offset, index, start = case.inputs(dtype)
        backward = ("affine_chain_bwd", (grad, matrix, index, start, torch.randn_like(grad)))
        return [("affine_chain_fwd", (matrix, offset, index, start)), backward]
    if isinstance(case, CountCase):
        points, patch = case.inputs(dtype)
        marks = torch.ones(case.batch, 1, 1, dtype=torch.uint8) if patch is None else patch.to(torch.uint8)
        return [("rasterize_points", (points, marks, *case.size, case.mode == "binary"))]
    assert isinstance(case, RasterCase)
    points, weight, bandwidth = case.inputs(dtype)
    weight = weight[..., None] if weight is not None and weight.ndim == 2 else weight
    grad = grad if case.channels else grad[:, None]
    arguments, cutoff = (points, weight, bandwidth), case.cutoff or 0.0
    backward = [("rbf_rasterize_bwd", (grad, *arguments, cutoff, needs_bandwidth)) for needs_bandwidth in (True, False)]
    return [("rbf_rasterize_fwd", (*arguments, *case.height_width, cutoff)), *backward]


def results(name: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    result = getattr(torch.ops.fractalops, name)(*arguments)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def test_every_op_of_the_table_is_tried() -> None:
    assert set(ARGUMENTS) == {name for op in OPS.values() for name in op.names()}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("name", "arguments"), RAW)
def test_opcheck(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.fractalops, name).default, arguments)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    "case",
    [CHAIN, *CHAIN_CASES[:5], *RASTER_CASES[:8], COUNT, *(case for case in COUNT_CASES if case.batch < 2)],
    ids=str,
)
def test_opcheck_of_awkward_shapes(case: Case, dtype: torch.dtype) -> None:
    for name, arguments in raw_calls(case, dtype):
        torch.library.opcheck(getattr(torch.ops.fractalops, name).default, arguments)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("name", "arguments"), FUNCTIONAL)
def test_vmap_is_a_loop(name: str, arguments: tuple[Any, ...]) -> None:
    """Map over all tensors, over only the first, and over all except the first."""
    tensors = [place for place, argument in enumerate(arguments) if isinstance(argument, Tensor)]
    for mapped in filter(None, (tensors, tensors[:1], tensors[1:])):
        lanes = [list(arguments), list(arguments)]
        for place in mapped:
            lanes[1][place] = arguments[place].flip(0)
        dims = tuple(1 if place in mapped else None for place in range(len(arguments)))
        stacked = [
            argument if dim is None else torch.stack([lane[place] for lane in lanes], dim)
            for place, (argument, dim) in enumerate(zip(arguments, dims, strict=True))
        ]
        batched = torch.vmap(lambda *each: results(name, each), in_dims=dims)(*stacked)
        for actual, *expected in zip(batched, *(results(name, tuple(lane)) for lane in lanes), strict=True):
            # With more sequences, the chain's gradients are summed in another order.
            torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-12, atol=1e-15, equal_nan=True)


# Compiled


@pytest.mark.parametrize(
    ("case", "compiler"),
    [
        *((case, "aot_eager") for case in SMALL if case.op not in ("draw_index", "draw_balanced_index")),
        *(pytest.param(case, "inductor", marks=pytest.mark.slow) for case in (CHAIN, RASTER)),
    ],
    ids=str,
)
def test_compiled_into_one_graph_it_does_as_eagerly(case: Case, compiler: str, backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(case.on(backend), fullgraph=True, backend=compiler)
    actual = value_and_gradients(compiled, case.inputs(), differentiable=case.differentiable)
    check = assert_all_same_bits if compiler == "aot_eager" else assert_all_match
    check(actual, case.both(backend, case.inputs()))


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
@pytest.mark.parametrize(
    ("case", "places"),
    [
        pytest.param(case, places, marks=[pytest.mark.slow] if case.op == "rbf_rasterize" and len(places) > 1 else [])
        for case in DIFFERENTIABLE
        for count in range(1, len(case.differentiable) + 1)
        for places in itertools.combinations(case.differentiable, count)
    ],
    ids=str,
)
def test_compiled_func_grad(case: Case, places: tuple[int, ...], native: str) -> None:
    gradient = torch.func.grad(total(case, native), argnums=places)
    torch._dynamo.reset()
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    assert_all_match(compiled(*case.inputs()), gradient(*case.inputs()))


# Derivatives


def total(case: Case, backend: str) -> Callable[..., Tensor]:
    """Return a function that returns the sum of squares of the case's result."""
    return lambda *inputs: case.on(backend)(*inputs).square().sum()


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_func_grad(case: Case, backend: str) -> None:
    inputs = case.inputs()
    gradients = torch.func.grad(total(case, backend), argnums=case.differentiable)(*inputs)
    assert_all_same_bits(gradients, case.both(backend, inputs, 2 * case.on(backend)(*inputs))[1])
    assert_all_match(gradients, case.expected(inputs, 2 * case.reference(*inputs))[1])


@pytest.mark.parametrize(
    "case",
    [
        ChainCase("tiny", batch=2, points=3, maps=2),
        RasterCase("tiny", batch=2, points=3, size=(3, 4), channels=2),
        MatrixCase("one", ()),
        ErrorCase("tiny", (2, 1, 2, 3)),
    ],
    ids=str,
)
def test_func_jacrev(case: Case, backend: str) -> None:
    inputs = case.inputs()
    for place in case.differentiable:
        actual = torch.func.jacrev(case.on(backend), argnums=place)(*inputs)
        assert_matches(actual, torch.func.jacrev(case.reference, argnums=place)(*inputs))


class Saved(torch.autograd.graph.saved_tensors_hooks):
    """A counter of the bytes that autograd saves."""

    def __init__(self) -> None:
        self.bytes = 0
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        return tensor


@pytest.mark.parametrize(
    "case",
    [
        ChainCase("saved", batch=9, points=63),
        RasterCase("saved", points=3, size=(63, 100), channels=3),
        MATRIX,
        ErrorCase("saved", (2, 3, 30, 40)),
    ],
    ids=str,
)
def test_only_inputs_and_a_chains_points_are_saved(case: Case, native: str) -> None:
    first, *rest = case.inputs()
    saved = Saved()
    with saved:
        value = case.on(native)(first.requires_grad_(), *rest)
    saved_value = value.nbytes if isinstance(case, ChainCase) else 0
    assert 0 < saved.bytes <= sum(tensor.nbytes for tensor in (first, *rest)) + saved_value


# Mapped

RASTER_DIMENSIONS = [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (0, 0, 0), (2, -1, 1)]
MAPPED: list[tuple[Case, list[tuple[int | None, ...]]]] = [
    (
        CHAIN,
        [
            (0, None, None, None),
            (None, 0, None, None),
            (None, None, 0, None),
            (None, None, None, 0),
            (0, 0, None, None),
            (0, 0, 0, 0),
            (1, -1, 2, 1),
        ],
    ),
    (RASTER, RASTER_DIMENSIONS),
    (RasterCase("weight", batch=4, channels=0), RASTER_DIMENSIONS),
    (RasterCase("no weight", batch=4), [(0, None, None), (None, None, 0), (0, None, 0), (2, None, 1)]),
    (COUNT, [(0, None), (None, 0), (0, 0), (1, -1)]),
    (MATRIX, [(0,), (1,)]),
    (ERROR, [(0, 0), (0, None), (1, -1)]),
    (ErrorCase("color", (3, 2, 3, 4, 5)), [(0, 0), (0, None)]),
]


@pytest.mark.parametrize(
    ("case", "dimensions"), [(case, each) for case, dimensions in MAPPED for each in dimensions], ids=str
)
def test_vmap(case: Case, dimensions: tuple[int | None, ...], backend: str) -> None:
    def lane(tensor: Tensor, k: int) -> Tensor:
        """Return the input, scaled a little; an index or a patch is rolled."""
        return tensor * (1 - k / 8) if tensor.is_floating_point() else tensor.roll(k, dims=1)

    stacked = [
        tensor if dimension is None else torch.stack([lane(tensor, k) for k in range(4)], dimension)
        for tensor, dimension in zip(case.inputs(), dimensions, strict=True)
    ]

    def loop(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*inputs: Tensor) -> Tensor:
            lanes = (
                [tensor] * 4 if dimension is None else tensor.unbind(dimension)
                for tensor, dimension in zip(inputs, dimensions, strict=True)
            )
            return torch.stack([function(*each) for each in zip(*lanes, strict=True)])

        return run

    mapped = torch.vmap(case.on(backend), in_dims=dimensions)
    actual = value_and_gradients(mapped, stacked, differentiable=case.differentiable)
    assert_all_match(actual, value_and_gradients(loop(case.reference), stacked, differentiable=case.differentiable))
    if backend == "native":
        assert_same_bits(actual[0], loop(case.on(backend))(*stacked))


@pytest.mark.parametrize("case", [*DIFFERENTIABLE, ErrorCase("color", (3, 2, 3, 4, 5))], ids=str)
def test_vmap_of_grad_gives_the_gradients_of_single_items(case: Case, backend: str) -> None:
    places = range(len(case.inputs()))

    def loss(*item: Tensor) -> Tensor:
        return total(case, backend)(
            *(each[None] if place in case.batched else each for place, each in zip(places, item, strict=True))
        )

    gradient = torch.func.grad(loss, argnums=case.differentiable)
    dimensions = tuple(0 if place in case.batched else None for place in places)
    actual = torch.vmap(gradient, in_dims=dimensions)(*case.inputs())
    items = [t.unbind() if place in case.batched else [t] * len(actual[0]) for place, t in enumerate(case.inputs())]
    for k, item in enumerate(zip(*items, strict=True)):
        # With more sequences, a chain's gradients are summed in another order.
        check = assert_all_same_bits if backend == "native" and case is not CHAIN else assert_all_match
        check([each[k] for each in actual], gradient(*item))
