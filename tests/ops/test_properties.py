"""Properties of the two ops that are true for any input, checked by hypothesis."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

import fractalops
from tests.conftest import BACKENDS
from tests.support.cases import ChainCase, RasterCase, value_and_gradients
from tests.support.tolerances import TOLERANCES, assert_all_same_bits, assert_matches, assert_same_bits

backends = pytest.mark.parametrize("backend", BACKENDS)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 40)
batches = st.integers(1, 20)


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return uniform numbers in [0, 1), float64."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@backends
@given(seed=seeds, shift=st.tuples(st.integers(-6, 6), st.integers(-6, 6)), bandwidth=st.floats(0.1, 9.0))
def test_translation_by_whole_pixels_moves_the_image(
    backend: str, seed: int, shift: tuple[int, int], bandwidth: float
) -> None:
    # Odd multiples of 1/128: the translation is exact, and no point is halfway between pixels. There, rounding to even
    # would choose another window after a translation by an odd number of pixels.
    points = ((random((2, 30, 2), seed) * 20 * 64).floor() + 0.5) / 64
    image = fractalops.rbf_rasterize(points, (20, 20), bandwidth=bandwidth, backend=backend)
    moved = fractalops.rbf_rasterize(points + torch.tensor(shift), (20, 20), bandwidth=bandwidth, backend=backend)
    down, right = shift
    rows, columns = 20 - abs(down), 20 - abs(right)
    assert_matches(
        moved[:, max(down, 0) :][:, :rows, max(right, 0) :][..., :columns],
        image[:, max(-down, 0) :][:, :rows, max(-right, 0) :][..., :columns],
    )


def assert_parts_give_the_same_bits(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], upstream: Tensor, cut: int
) -> None:
    whole = tree_leaves(value_and_gradients(function, inputs, upstream))
    for part in (slice(0, cut), slice(cut, None)):
        alone = value_and_gradients(function, [tensor[part] for tensor in inputs], upstream[part])
        assert_all_same_bits(alone, [tensor[part] for tensor in whole])


@pytest.mark.usefixtures("native")
@given(seed=seeds, batch=batches, points=lengths, cut=st.integers(0, 20), dtype=st.sampled_from(list(TOLERANCES)))
def test_a_batch_of_images_equals_its_parts(seed: int, batch: int, points: int, cut: int, dtype: torch.dtype) -> None:
    cloud = (random((batch, points, 2), seed) * 20 - 3).to(dtype)
    weight = random((batch, points, 3), seed + 1).to(dtype)
    bandwidth = (random((batch,), seed + 2) * 6 - 2).exp().to(dtype)  # windows from 2 pixels to the whole image
    rasterize = RasterCase("", size=(15, 11)).on("native")
    assert_parts_give_the_same_bits(rasterize, (cloud, weight, bandwidth), random((batch, 3, 15, 11), seed + 3), cut)


@pytest.mark.usefixtures("native")
@given(
    seed=seeds,
    batch=batches,
    points=lengths,
    cut=st.integers(0, 20),
    dimensions=st.sampled_from([2, 3]),
    dtype=st.sampled_from(list(TOLERANCES)),
)
def test_a_batch_of_sequences_equals_its_parts(
    seed: int, batch: int, points: int, cut: int, dimensions: int, dtype: torch.dtype
) -> None:
    case = ChainCase("", batch, points, 5, dimensions)
    matrix, offset, index, start = case.inputs(dtype)
    chain = functools.partial(case.on("native"), matrix, offset)
    assert_parts_give_the_same_bits(chain, (index, start), random(case.shape, seed), cut)


@backends
@given(
    seed=seeds,
    points=lengths,
    cutoff=st.floats(1e-9, 0.9),
    bandwidth=st.floats(0.05, 30.0),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_truncation_costs_at_most_the_cutoff_a_point(
    backend: str, seed: int, points: int, cutoff: float, bandwidth: float, size: tuple[int, int]
) -> None:
    cloud = random((2, points, 2), seed) * (torch.tensor(size) + 8) - 4
    exact = fractalops.rbf_rasterize(cloud, size, bandwidth=bandwidth, cutoff=None, backend=backend)
    truncated = fractalops.rbf_rasterize(cloud, size, bandwidth=bandwidth, cutoff=cutoff, backend=backend)
    rounding = TOLERANCES[torch.float64] * points
    assert ((exact - truncated) >= -rounding).all()
    assert ((exact - truncated) <= cutoff * points + rounding).all()


@backends
@given(seed=seeds, points=lengths, dimensions=st.sampled_from([2, 3]))
def test_a_chain_composes_its_maps_in_order(backend: str, seed: int, points: int, dimensions: int) -> None:
    """The last point equals the composed map applied once. In the wrong order the maps give another point."""
    matrix = random((4, dimensions, dimensions), seed) - 0.5
    offset = random((4, dimensions), seed + 1)
    start = random((1, dimensions), seed + 2)
    index = torch.randint(4, (1, points), generator=torch.Generator().manual_seed(seed))
    composed = torch.eye(dimensions + 1, dtype=torch.float64)
    for step in index[0].tolist():
        step_map = torch.eye(dimensions + 1, dtype=torch.float64)
        step_map[:dimensions, :dimensions], step_map[:dimensions, dimensions] = matrix[step], offset[step]
        composed = step_map @ composed
    expected = composed[:dimensions, :dimensions] @ start[0] + composed[:dimensions, dimensions]
    last = fractalops.affine_chain(matrix, offset, index, start, backend=backend)[0, -1]
    assert_matches(last, expected)
    if index[0, 0] != index[0, -1]:
        wrong = fractalops.affine_chain(matrix, offset, index.flip(1), start, backend=backend)[0, -1]
        assert (wrong - expected).abs().max() > 1e-9


@backends
@given(seed=seeds)
def test_a_chain_can_be_cut_anywhere(backend: str, seed: int) -> None:
    matrix, offset, index, start = ChainCase("", points=31).inputs()
    cut = seed % 30 + 1
    whole = fractalops.affine_chain(matrix, offset, index, start, backend=backend)
    first = fractalops.affine_chain(matrix, offset, index[:, :cut], start, backend=backend)
    second = fractalops.affine_chain(matrix, offset, index[:, cut:], first[:, -1], backend=backend)
    assert_same_bits(torch.cat([first, second], dim=1), whole)


@backends
@given(angle=st.floats(0.0, math.tau), scale=st.floats(-0.9, 0.9), seed=seeds)
def test_a_single_map_converges_to_its_fixed_point(backend: str, angle: float, scale: float, seed: int) -> None:
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = scale * torch.tensor([[[cosine, -sine], [sine, cosine]]], dtype=torch.float64)
    offset = random((1, 2), seed)
    fixed = torch.linalg.solve(torch.eye(2, dtype=torch.float64) - matrix[0], offset[0])
    index = torch.zeros(1, 500, dtype=torch.uint8)
    points = fractalops.affine_chain(matrix, offset, index, torch.zeros(2, dtype=torch.float64), backend=backend)
    assert_matches(points[0, -1], fixed, tolerance=1e-12)


@backends
@given(seed=seeds, channels=st.integers(1, 5))
def test_an_image_is_linear_in_its_weights(backend: str, seed: int, channels: int) -> None:
    case = RasterCase("", channels=channels)
    points, weight, bandwidth = case.inputs()
    other = random(tuple(weight.shape), seed)

    def rasterize(weight: Tensor) -> Tensor:
        return case.run(points, weight, bandwidth, backend=backend)

    assert_matches(rasterize(weight + 2 * other), rasterize(weight) + 2 * rasterize(other))
    assert_matches(rasterize(weight)[:, -1], rasterize(weight[..., -1]))
