"""Tests of both forms of `affine_chain` in CUDA, on a GPU if there is one (`pytest -m gpu`) and emulated on the CPU.

This file tests values and gradients; test_affine_chain_cuda_limits.py tests the limits.
Set FRACTALOPS_TEST_REQUIRE=gpu to make a missing GPU a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.reference.affine_chain import affine_chain as reference
from tests.support.cases import ChainCase, value_and_gradients
from tests.support.cuda_chain import (
    CHOSEN,
    INDEX_DTYPES,
    SCAN,
    SEQUENTIAL,
    Device,
    dtypes,
    expected,
    forms,
    in_both_forms,
    inputs_of,
    upstream,
)
from tests.support.tolerances import assert_all_match, assert_all_same_bits, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")
open_device = Device.open


# Lengths around a warp's tile (16, 32), a block's tile (160 to 640 steps) and a few tiles.
LENGTHS = [1, 2, 31, 32, 33, 255, 257, 300, 1000, 4097]
CASES = [
    ChainCase(
        f"{batch} x {points}, {maps} maps, {2 + place % 2}d",
        batch,
        points,
        maps,
        2 + place % 2,
        torch.int32 if maps > 256 and place % 3 == 0 else INDEX_DTYPES[place % 3],
    )
    for place, (points, batch, maps) in enumerate((t, b, n) for t in LENGTHS for b in (1, 3, 33) for n in (1, 10, 300))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@dtypes
@forms
def test_values_and_gradients_match_the_reference(
    case: ChainCase, dtype: torch.dtype, form: int, device: Device
) -> None:
    points, gradients = device.both(inputs_of(case, dtype), form, upstream(case))
    assert points.dtype == dtype
    assert_all_match((points, gradients), expected(case))


# The reference takes seconds for these. They are compared with the native CPU op, which is tested against it.
BEYOND_ONE_CHUNK = ChainCase("beyond one chunk", 1, 5121, 10)
MANY_SEQUENCES = ChainCase("many sequences", 1025, 33, 300, 3, torch.int64)
LONG = [
    BEYOND_ONE_CHUNK,
    MANY_SEQUENCES,
    ChainCase("as many chunks as tiles", 2, 12_345, 3, 2, torch.int64),
    ChainCase("chunks of several tiles, 3d", 150, 5121, 10, 3),
    ChainCase("several rounds of links", 1, 100_001, 10, 2, torch.int32),
]
SLOW = [
    ("chunks of several tiles, 3d", SEQUENTIAL),
    ("chunks of several tiles, 3d", SCAN),
    ("several rounds of links", SEQUENTIAL),
]


@in_both_forms(LONG, SLOW)
@dtypes
def test_long_chains_match_the_native_cpu_op(
    case: ChainCase, dtype: torch.dtype, form: int, device: Device, native: str
) -> None:
    expected = case.both(native, inputs_of(case, torch.float64), upstream(case))
    assert_all_match(device.both(inputs_of(case, dtype), form, upstream(case)), expected)


@dtypes
@pytest.mark.parametrize(
    "case", [ChainCase("paper's shape", 50, 300), BEYOND_ONE_CHUNK, MANY_SEQUENCES], ids=lambda case: case.name
)
def test_the_two_forms_agree(case: ChainCase, dtype: torch.dtype, device: Device) -> None:
    sequential, scan = (device.both(inputs_of(case, dtype), form, upstream(case)) for form in (SEQUENTIAL, SCAN))
    assert_all_match(scan, sequential)


@dtypes
@pytest.mark.parametrize(
    ("batch", "points", "forward", "backward"),
    [(3, 300, SCAN, SCAN), (3, 30, SEQUENTIAL, SCAN), (40, 2, SEQUENTIAL, SEQUENTIAL)],
)
def test_the_form_is_chosen_from_the_shape(
    batch: int, points: int, forward: int, backward: int, dtype: torch.dtype, device: Device
) -> None:
    case = ChainCase("chosen", batch, points)
    inputs, grad = inputs_of(case, dtype), upstream(case).to(dtype)
    saved = device.forward(inputs, CHOSEN)
    assert_same_bits(saved, device.forward(inputs, forward))
    assert_all_same_bits(device.backward(grad, inputs, saved, CHOSEN), device.backward(grad, inputs, saved, backward))


# Maps


@dtypes
@forms
@pytest.mark.parametrize("dimensions", [2, 3])
def test_expanding_maps(dimensions: int, form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("expanding", 3, 255, 10, dimensions)
    matrix, offset, index, start = inputs_of(case, torch.float64)
    # Rotations that expand by a tenth: 10^10 at the end. (Random matrices also cancel, which costs any method digits.)
    inputs = (torch.linalg.qr(matrix).Q * 1.1).float(), offset.float(), index, start.float()
    expected = case.expected(inputs, upstream(case))
    assert expected[0].abs().max() > 1e6
    typed = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
    assert_all_match(device.both(typed, form, upstream(case)), expected)


@dtypes
@forms
@pytest.mark.parametrize("maps", [2**12, 2**15])
def test_more_maps_than_shared_memory_holds(maps: int, form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("many maps", 33, 63, maps, 2, torch.int32)
    assert_all_match(device.both(inputs_of(case, dtype), form, upstream(case)), expected(case))


@forms
def test_maps_compose_in_the_order_of_the_index(form: int, device: Device) -> None:
    """Rotations and shears do not commute. With whole numbers, the order can be checked exactly."""
    matrix = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    offset = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    index = torch.randint(3, (5, 700), generator=torch.Generator().manual_seed(2))
    inputs = (matrix, offset, index, torch.tensor([1.0, 2.0]).expand(5, 2))
    exact = reference(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs))
    near = exact.abs().amax(-1).cummax(-1).values < 2**18  # whole numbers, exact in float32 and in the scan's products
    assert near.sum() > 200
    assert torch.equal(device.forward(inputs, form).cpu().double()[near], exact[near])


@forms
def test_sums_by_map_are_exact_enough_where_one_map_of_many_has_all_points(form: int, device: Device) -> None:
    """Rounding errors of equal addends do not cancel: float32 sums must be flushed to the slots often enough."""
    case = ChainCase("one of a thousand", 32, 3000, 1000, 2, torch.int32)
    matrix, offset, index, start = inputs_of(case, torch.float32)
    inputs = (torch.zeros_like(matrix), torch.full_like(offset, 1 / 3), torch.zeros_like(index), start)
    grad = torch.full((32, 3000, 2), 0.1)
    _, gradients = device.both(inputs, form, grad)
    assert_matches(gradients[1][0], grad.double().sum((0, 1)))
    assert not gradients[1][1:].any()


@dtypes
@forms
def test_a_map_without_points_gets_exactly_zero(form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("unused", 33, 63, 3)
    matrix, offset, index, start = inputs_of(case, dtype)
    _, gradients = device.both((matrix, offset, index.clamp(max=1), start), form, upstream(case))
    for gradient in gradients[:2]:
        assert not gradient[2].any()
        assert gradient[:2].all()


# Gradients against finite differences


def differentiable(device: Device, form: int) -> Callable[..., Tensor]:
    class Chain(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
            points = device.forward((matrix, offset, index, start), form)
            ctx.save_for_backward(matrix, offset, index, start, points)
            return points

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            *inputs, points = ctx.saved_tensors
            grad_matrix, grad_offset, grad_start = device.backward(grad, tuple(inputs), points, form)
            return grad_matrix, grad_offset, None, grad_start

    return Chain.apply


@forms
@pytest.mark.parametrize(
    "case",
    [ChainCase("2d", 3, 7, 3), ChainCase("3d", 2, 7, 2, 3), ChainCase("two threads' runs", 1, 9, 2)],
    ids=lambda case: case.name,
)
def test_gradcheck(case: ChainCase, form: int, device: Device) -> None:
    matrix, offset, index, start = (tensor.to(device.name) for tensor in inputs_of(case, torch.float64))
    leaves = [tensor.requires_grad_() for tensor in (matrix, offset, start)]
    function = differentiable(device, form)
    assert torch.autograd.gradcheck(lambda m, o, s: function(m, o, index, s), leaves)


@pytest.mark.gpu
@dtypes
def test_the_public_function_takes_the_native_op(dtype: torch.dtype, gpu: Device) -> None:
    case = ChainCase("paper's shape", 50, 300)
    inputs = tuple(tensor.to(gpu.name) for tensor in inputs_of(case, dtype))
    points, gradients = value_and_gradients(fractalops.affine_chain, inputs, upstream(case))
    assert points.is_cuda
    assert_all_match([result.cpu() for result in (points, *gradients)], expected(case))
