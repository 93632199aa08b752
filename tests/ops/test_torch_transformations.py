"""Both ops under torch's transformations: opcheck, compile, vmap, grad, jacrev; what they refuse and save."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.reference.affine_chain import affine_chain as reference
from tests.support.cases import (
    CHAIN_CASES,
    RASTER_CASES,
    ChainCase,
    RasterCase,
    chain,
    rasterizer,
    reference_rasterizer,
    value_and_gradients,
)
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DTYPES = list(TOLERANCES)
CHAIN = ChainCase("small", batch=5, points=6, maps=3)
RASTER = RasterCase("small", batch=4, points=9, size=(9, 6), channels=3)


class Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes of what autograd saves."""

    def __init__(self) -> None:
        self.bytes = 0
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        return tensor


# affine_chain


@pytest.mark.parametrize("case", [CHAIN, *CHAIN_CASES[:5]], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_chain_opcheck(case: ChainCase, dtype: torch.dtype, native: str) -> None:
    matrix, offset, index, start = case.inputs(dtype)
    forward, backward = torch.ops.fractalops.affine_chain_fwd, torch.ops.fractalops.affine_chain_bwd
    torch.library.opcheck(forward, (matrix, offset, index, start))
    points = forward(matrix, offset, index, start)
    torch.library.opcheck(backward, (torch.randn_like(points), matrix, index, start, points))


def compiled_chain_matches_eager(backend: str, compiler: str) -> None:
    torch._dynamo.reset()
    inputs = CHAIN.inputs()
    compiled = torch.compile(chain(backend), fullgraph=True, backend=compiler)
    value, gradients = value_and_gradients(compiled, inputs)
    expected, expected_gradients = value_and_gradients(chain(backend), inputs)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


def test_chain_compile(backend: str) -> None:
    compiled_chain_matches_eager(backend, "aot_eager")


@pytest.mark.slow
def test_chain_compile_with_inductor(backend: str) -> None:
    compiled_chain_matches_eager(backend, "inductor")


def test_chain_func_grad(backend: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()

    def loss(matrix: Tensor, offset: Tensor, start: Tensor) -> Tensor:
        return chain(backend)(matrix, offset, index, start).square().sum()

    gradients = torch.func.grad(loss, argnums=(0, 1, 2))(matrix, offset, start)
    upstream = 2 * reference(matrix, offset, index, start)
    _, expected = value_and_gradients(reference, (matrix, offset, index, start), upstream)
    assert_all_match(gradients, expected)


def test_chain_func_jacrev(backend: str) -> None:
    matrix, offset, index, start = ChainCase("tiny", batch=2, points=3, maps=2).inputs()
    for position in (0, 1, 3):
        actual = torch.func.jacrev(chain(backend), argnums=position)(matrix, offset, index, start)
        assert_matches(actual, torch.func.jacrev(reference, argnums=position)(matrix, offset, index, start))


CHAIN_VMAP_DIMENSIONS = [
    (0, None, None, None),
    (None, 0, None, None),
    (None, None, 0, None),
    (None, None, None, 0),
    (0, 0, None, None),
    (0, 0, 0, 0),
    (1, -1, 2, 1),
]


@pytest.mark.parametrize("dimensions", CHAIN_VMAP_DIMENSIONS, ids=str)
def test_chain_vmap(dimensions: tuple[int | None, ...], backend: str) -> None:
    inputs = CHAIN.inputs()
    # Lane k of a batched input is the input itself, changed a little; the index is turned along T.
    lanes = [[t * (1 - k / 8) if t.is_floating_point() else t.roll(k, dims=1) for k in range(4)] for t in inputs]
    stacked = [
        tensor if dimension is None else torch.stack(lane, dim=dimension)
        for tensor, lane, dimension in zip(inputs, lanes, dimensions, strict=True)
    ]
    value, gradients = value_and_gradients(torch.vmap(chain(backend), in_dims=dimensions), stacked)

    def loop(*stacked: Tensor) -> Tensor:
        return torch.stack(
            [
                reference(
                    *(
                        tensor if dimension is None else tensor.select(dimension, k)
                        for tensor, dimension in zip(stacked, dimensions, strict=True)
                    )
                )
                for k in range(4)
            ]
        )

    expected, expected_gradients = value_and_gradients(loop, stacked)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


def test_chain_vmap_of_grad_gives_gradients_of_single_sequences(backend: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()

    def loss(matrix: Tensor, index: Tensor, start: Tensor) -> Tensor:
        return chain(backend)(matrix, offset, index[None], start[None]).square().sum()

    actual = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(matrix, index, start)
    for k in range(5):
        assert_matches(actual[k], torch.func.grad(loss)(matrix, index[k], start[k]))


def test_chain_double_backward_raises(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    value = chain(native)(matrix.requires_grad_(), offset, index, start)
    (gradient,) = torch.autograd.grad(value.square().sum(), matrix, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


def test_chain_forward_mode_raises(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    with pytest.raises((RuntimeError, NotImplementedError), match=r"forward|jvp"):
        torch.func.jvp(lambda m: chain(native)(m, offset, index, start), (matrix,), (matrix,))


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
@pytest.mark.xfail(strict=True, reason="upstream: Dynamo drops a custom Function's backward inside torch.func.grad")
def test_chain_compiled_func_grad(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    gradient = torch.func.grad(lambda matrix: chain(native)(matrix, offset, index, start).square().sum())
    torch._dynamo.reset()
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    assert_matches(compiled(matrix), gradient(matrix))


def test_chain_only_points_index_and_small_inputs_are_saved(native: str) -> None:
    matrix, offset, index, start = ChainCase("saved", batch=9, points=63).inputs()
    saved = Saved()
    with saved:
        points = chain(native)(matrix.requires_grad_(), offset, index, start)
    assert saved.bytes <= sum(t.nbytes for t in (matrix, offset, index, start, points))


def test_chain_an_index_changed_before_the_backward_raises(native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    points = chain(native)(matrix.requires_grad_(), offset, index, start)
    index.zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.backward(points.sum())


# rbf_rasterize


@pytest.mark.parametrize("case", RASTER_CASES[:8], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_raster_opcheck(case: RasterCase, dtype: torch.dtype, native: str) -> None:
    points, weight, bandwidth = case.inputs(dtype)
    if weight is not None and weight.ndim == 2:
        weight = weight[..., None]
    forward, backward = torch.ops.fractalops.rbf_rasterize_fwd, torch.ops.fractalops.rbf_rasterize_bwd
    cutoff = case.cutoff or 0.0
    torch.library.opcheck(forward, (points, weight, bandwidth, *case.height_width, cutoff))
    images = forward(points, weight, bandwidth, *case.height_width, cutoff)
    for needs_bandwidth in (True, False):
        torch.library.opcheck(backward, (torch.randn_like(images), points, weight, bandwidth, cutoff, needs_bandwidth))


def compiled_raster_matches_eager(case: RasterCase, backend: str, compiler: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(rasterizer(case, backend), fullgraph=True, backend=compiler)
    value, gradients = value_and_gradients(compiled, case.inputs())
    expected, expected_gradients = value_and_gradients(rasterizer(case, backend), case.inputs())
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("channels", [None, 0, 3])
def test_raster_compile(channels: int | None, backend: str) -> None:
    compiled_raster_matches_eager(RasterCase("compiled", channels=channels), backend, "aot_eager")


def test_raster_compile_with_a_number_as_bandwidth(backend: str) -> None:
    torch._dynamo.reset()
    points, _, _ = RASTER.inputs()
    compiled = torch.compile(fractalops.rbf_rasterize, fullgraph=True, backend="aot_eager")
    actual = compiled(points, 9, bandwidth=1.5, backend=backend)
    assert_same_bits(actual, fractalops.rbf_rasterize(points, 9, bandwidth=1.5, backend=backend))


@pytest.mark.slow
def test_raster_compile_with_inductor(backend: str) -> None:
    compiled_raster_matches_eager(RASTER, backend, "inductor")


def test_raster_func_grad(backend: str) -> None:
    points, weight, bandwidth = RASTER.inputs()
    rasterize = rasterizer(RASTER, backend)
    gradients = torch.func.grad(lambda *inputs: rasterize(*inputs).square().sum(), argnums=(0, 1, 2))(
        points, weight, bandwidth
    )
    upstream = 2 * reference_rasterizer(RASTER)(points, weight, bandwidth)
    _, expected = value_and_gradients(reference_rasterizer(RASTER), (points, weight, bandwidth), upstream)
    assert_all_match(list(gradients), expected)


def test_raster_func_jacrev(backend: str) -> None:
    case = RasterCase("tiny", batch=2, points=3, size=(3, 4), channels=2)
    inputs = case.inputs()
    for position in range(3):
        actual = torch.func.jacrev(rasterizer(case, backend), argnums=position)(*inputs)
        assert_matches(actual, torch.func.jacrev(reference_rasterizer(case), argnums=position)(*inputs))


RASTER_VMAP_DIMENSIONS = [
    (0, None, None),
    (None, 0, None),
    (None, None, 0),
    (0, 0, None),
    (0, 0, 0),
    (2, -1, 1),
]


@pytest.mark.parametrize(
    ("dimensions", "channels"),
    [
        (dimensions, channels)
        for dimensions in RASTER_VMAP_DIMENSIONS
        for channels in (None, 0, 3)
        if channels is not None or dimensions != (None, 0, None)  # nothing to map over without a weight
    ],
    ids=str,
)
def test_raster_vmap(dimensions: tuple[int | None, ...], channels: int | None, backend: str) -> None:
    case = RasterCase("vmap", batch=4, points=9, channels=channels)
    inputs = case.inputs()
    if channels is None:
        dimensions = (dimensions[0], None, dimensions[2])
    stacked = [
        tensor
        if dimension is None or tensor is None
        else torch.stack([tensor * (1 + k / 8) for k in range(5)], dimension)
        for tensor, dimension in zip(inputs, dimensions, strict=True)
    ]
    value, gradients = value_and_gradients(
        torch.vmap(rasterizer(case, backend), in_dims=dimensions),
        stacked,
    )

    def loop(points: Tensor, weight: Tensor | None, bandwidth: Tensor) -> Tensor:
        def lane(tensor: Tensor, position: int, k: int) -> Tensor:
            dimension = dimensions[position]
            return tensor if dimension is None else tensor.select(dimension, k)

        return torch.stack(
            [
                reference_rasterizer(case)(
                    lane(points, 0, k), None if weight is None else lane(weight, 1, k), lane(bandwidth, 2, k)
                )
                for k in range(5)
            ]
        )

    expected, expected_gradients = value_and_gradients(loop, stacked)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


def test_raster_vmap_of_grad_gives_gradients_of_single_images(backend: str) -> None:
    points, weight, bandwidth = RASTER.inputs()
    assert weight is not None
    rasterize = rasterizer(RASTER, backend)

    def loss(points: Tensor, weight: Tensor, bandwidth: Tensor) -> Tensor:
        return rasterize(points[None], weight[None], bandwidth).square().sum()

    actual = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(points, weight, bandwidth)
    for k in range(4):
        single = torch.func.grad(loss, argnums=(0, 1, 2))(points[k], weight[k], bandwidth[k])
        for got, expected in zip(actual, single, strict=True):
            assert_matches(got[k], expected)


def test_raster_double_backward_raises(native: str) -> None:
    points, weight, bandwidth = RASTER.inputs()
    value = rasterizer(RASTER, native)(points.requires_grad_(), weight, bandwidth)
    (gradient,) = torch.autograd.grad(value.square().sum(), points, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


def test_raster_forward_mode_raises(native: str) -> None:
    points, weight, bandwidth = RASTER.inputs()
    with pytest.raises((RuntimeError, NotImplementedError), match=r"forward|jvp"):
        torch.func.jvp(lambda p: rasterizer(RASTER, native)(p, weight, bandwidth), (points,), (points,))


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
@pytest.mark.xfail(strict=True, reason="upstream: Dynamo drops a custom Function's backward inside torch.func.grad")
def test_raster_compiled_func_grad(native: str) -> None:
    points, weight, bandwidth = RASTER.inputs()
    gradient = torch.func.grad(lambda points: rasterizer(RASTER, native)(points, weight, bandwidth).square().sum())
    torch._dynamo.reset()
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    assert_matches(compiled(points), gradient(points))


def test_raster_only_points_and_small_inputs_are_saved(native: str) -> None:
    case = RasterCase("saved", points=3, size=(63, 100), channels=3)
    points, weight, bandwidth = case.inputs()
    saved = Saved()
    with saved:
        rasterizer(case, native)(points.requires_grad_(), weight, bandwidth)
    assert weight is not None
    assert saved.bytes <= points.nbytes + weight.nbytes + bandwidth.nbytes


@pytest.mark.parametrize("wrong", ["dtype", "shape"])
def test_raw_ops_refuse_what_does_not_fit(wrong: str, native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    offset = offset.float() if wrong == "dtype" else offset[:-1]
    with pytest.raises(RuntimeError, match=r"matching dtypes|doesn't fit"):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    points, weight, bandwidth = RASTER.inputs()
    bandwidth = bandwidth.float() if wrong == "dtype" else bandwidth[:-1]
    with pytest.raises(RuntimeError, match=r"matching dtypes|doesn't fit"):
        torch.ops.fractalops.rbf_rasterize_fwd(points, weight, bandwidth, 9, 6, 1e-6)
