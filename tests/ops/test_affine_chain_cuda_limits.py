"""Tests of `affine_chain` in CUDA at its limits: any index, address and order of threads, graphs, and errors.

They run emulated on the CPU, and on a GPU if there is one (`pytest -m gpu`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support import emulation
from tests.support.cases import ChainCase
from tests.support.cuda_chain import (
    CHOSEN,
    INDEX_DTYPES,
    SEQUENTIAL,
    Device,
    dtypes,
    forms,
    in_both_forms,
    inputs_of,
    upstream,
)
from tests.support.tolerances import assert_all_match, assert_all_same_bits, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")
open_device = Device.open


# The index


@dtypes
@forms
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_every_index_dtype_gives_the_same_bits(
    index_dtype: torch.dtype, form: int, dtype: torch.dtype, device: Device
) -> None:
    """256 maps are the limit of uint8."""
    case = ChainCase("256 maps", 3, 63, 256, 2, torch.int64)
    matrix, offset, index, start = inputs_of(case, dtype)
    index[:, -1] = torch.tensor([0, 1, 255])
    actual = device.both((matrix, offset, index.to(index_dtype), start), form, upstream(case))
    assert_all_same_bits(actual, device.both((matrix, offset, index, start), form, upstream(case)))


@forms
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_an_index_out_of_range_takes_the_nearest_map(index_dtype: torch.dtype, form: int, device: Device) -> None:
    case = ChainCase("three maps", 3, 63, 3, 2, index_dtype)
    matrix, offset, index, start = inputs_of(case, torch.float32)
    limits = torch.iinfo(index_dtype)
    index[0, 5], index[1, 0], index[2, 62] = limits.max, limits.min, 3
    actual = device.both((matrix, offset, index, start), form, upstream(case))
    assert_all_same_bits(actual, device.both((matrix, offset, index.clamp(0, 2), start), form, upstream(case)))


# Memory


@dtypes
@forms
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_addresses_that_are_no_multiple_of_16(
    shift: int, dimensions: int, form: int, dtype: torch.dtype, device: Device
) -> None:
    """The views begin and end inside a 16-byte word, with other values on both sides."""
    case = ChainCase("shifted", 3, 37, 10, dimensions)
    inputs, grad = inputs_of(case, dtype), upstream(case).to(dtype)

    def shifted(tensor: Tensor) -> Tensor:
        room = torch.full((tensor.numel() + 2 * shift,), 77, dtype=tensor.dtype, device=device.name)
        view = room[shift:-shift].view(tensor.shape)
        view.copy_(tensor)
        assert view.is_contiguous()
        return view

    moved = tuple(shifted(tensor) for tensor in inputs)
    points = device.forward(moved, form)
    gradients = device.backward(shifted(grad), moved, shifted(points), form)
    assert_all_same_bits([result.cpu() for result in (points, *gradients)], device.both(inputs, form, grad))


@forms
def test_strided_and_expanded_inputs(form: int, device: Device) -> None:
    case = ChainCase("strided", 5, 63, 3)
    matrix, offset, index, start = inputs_of(case, torch.float64)
    strided = (matrix.mT.contiguous().mT, offset.T.contiguous().T, index.T.contiguous().T, start[:1].expand(5, 2))
    grad = torch.ones(1, 1, 1, dtype=torch.float64).expand(5, 63, 2)
    assert not any(tensor.is_contiguous() for tensor in (*strided, grad))
    points = device.forward(strided, form)
    gradients = device.backward(grad, strided, points.mT.contiguous().mT, form)
    dense = tuple(tensor.contiguous() for tensor in strided)
    expected = device.both(dense, form, grad.contiguous())
    assert_all_same_bits([result.cpu() for result in (points, *gradients)], expected)


@dtypes
@forms
def test_an_empty_batch(form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("empty", 0, 7, 3)
    points, gradients = device.both(inputs_of(case, dtype), form, upstream(case))
    assert points.shape == (0, 7, 2)
    assert [tuple(gradient.shape) for gradient in gradients] == [(3, 2, 2), (3, 2), (0, 2)]
    assert not any(gradient.any() for gradient in gradients)


@dtypes
@forms
def test_a_bad_value_reaches_only_its_own_sequence_and_maps(form: int, dtype: torch.dtype, device: Device) -> None:
    """Sequence 9 has its own maps. Its bad values must not change any other sequence or map."""
    case = ChainCase("isolated", 33, 300, 4)
    matrix, offset, index, start = inputs_of(case, dtype)
    index = index % 2
    index[9] += 2
    expected, expected_gradients = device.both((matrix, offset, index, start), form, upstream(case))
    start = start.clone()
    start[9] = torch.nan
    points, gradients = device.both((matrix, offset, index, start), form, upstream(case))
    others = [row for row in range(33) if row != 9]
    assert points[9].isnan().all()
    assert_same_bits(points[others], expected[others])
    for kept, gradient, expected_gradient in zip(([0, 1], [0, 1], others), gradients, expected_gradients, strict=True):
        assert_same_bits(gradient[kept], expected_gradient[kept])


# Determinism

ORDERED = [
    ChainCase("one map", 33, 300, 1),
    ChainCase("paper's shape", 50, 300, 10),
    ChainCase("3d", 33, 257, 10, 3),
    ChainCase("many maps", 33, 300, 300, 2, torch.int32),
    ChainCase("maps in global memory", 40, 200, 4096, 2, torch.int32),
    ChainCase("chunks", 2, 6000, 10),
    ChainCase("several rounds of links", 1, 100_001, 10),
]


@in_both_forms(ORDERED, slow=[("several rounds of links", SEQUENTIAL)])
@dtypes
def test_bits_do_not_depend_on_the_order_of_threads_and_blocks(
    case: ChainCase, dtype: torch.dtype, form: int, emulated: Device
) -> None:
    inputs, grad = inputs_of(case, dtype), upstream(case)
    expected, *others = emulation.in_several_orders(Device.op, lambda: emulated.both(inputs, form, grad))
    for actual in others:
        assert_all_same_bits(actual, expected)


@dtypes
@forms
def test_the_same_call_gives_the_same_bits(form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("repeated", 50, 300)
    inputs, grad = inputs_of(case, dtype), upstream(case)
    expected = device.both(inputs, form, grad)
    for _ in range(3):
        assert_all_same_bits(device.both(inputs, form, grad), expected)


@pytest.mark.slow
@forms
def test_more_sequences_than_a_grid_has_blocks(form: int, device: Device) -> None:
    """The kernels loop when a grid has its largest size, 65536 blocks."""
    case = ChainCase("grid", 65536 * (32 if form == SEQUENTIAL else 1) + 33, 1, 3)
    inputs, grad = inputs_of(case, torch.float32), upstream(case)
    assert_all_match(device.both(inputs, form, grad), case.expected(inputs, grad))


# Memory errors and races

SANITIZED: dict[emulation.Sanitizer, str] = {
    # Every buffer is guarded, torch's own included. All tests except the longest.
    "address": "not slow and not 4097 and not 1000 and not 32768 and not agree and not long",
    # One run finds a race, in any order of the threads, if tiles, chunks and flushes follow each other.
    "thread": "same_call or addresses or sums_by_map or (float32 and (4096 or (long and scan)))",
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZED)
def test_under_a_sanitizer(sanitizer: emulation.Sanitizer) -> None:
    """Run the chain's tests again under a sanitizer."""
    emulation.run_sanitized(
        sanitizer, sorted(Path(__file__).parent.glob("test_affine_chain_cuda*.py")), SANITIZED[sanitizer]
    )


# GPU only


@pytest.mark.gpu
@forms
def test_a_cuda_graph_captures_both_directions(form: int, gpu: Device) -> None:
    """The graph is captured on a separate stream. A replay reads the current values of its inputs."""
    case = ChainCase("beyond one chunk", 3, 5121)
    inputs = tuple(tensor.to(gpu.name) for tensor in inputs_of(case, torch.float32))
    grad = upstream(case).to(gpu.name)
    gpu.backward(grad, inputs, gpu.forward(inputs, form), form)  # loads the kernels, which synchronizes
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        points = gpu.forward(inputs, form)
        gradients = gpu.backward(grad, inputs, points, form)
    inputs[3].add_(1)
    graph.replay()
    expected = gpu.forward(inputs, form)
    assert_all_same_bits((points, gradients), (expected, gpu.backward(grad, inputs, expected, form)))


@pytest.mark.gpu
def test_tensors_on_different_devices_are_refused(gpu: Device) -> None:
    matrix, offset, index, start = inputs_of(ChainCase("any"), torch.float32)
    with pytest.raises(RuntimeError, match="affine_chain: all tensors must be on one device"):
        gpu.ops.affine_chain_fwd(matrix.to(gpu.name), offset, index, start)


# Errors of the raw ops


@pytest.mark.parametrize("form", [-1, 3])
def test_an_unknown_form_is_refused(form: int, device: Device) -> None:
    with pytest.raises(RuntimeError, match=f"affine_chain: form must be 0, 1 or 2, got {form}"):
        device.forward(inputs_of(ChainCase("any"), torch.float32), form)


def test_shapes_that_do_not_fit_are_refused(device: Device) -> None:
    matrix, offset, index, start = inputs_of(ChainCase("any"), torch.float32)
    points = device.forward((matrix, offset, index, start), CHOSEN)
    for inputs, name in (
        ((matrix[:, :1], offset, index, start), "matrix"),
        ((matrix, offset[:1], index, start), "offset"),
        ((matrix, offset, index[..., None], start), "index"),
        ((matrix, offset, index[:1], start), "start"),
        ((matrix, offset, index, start[:, :1]), "start"),
    ):
        with pytest.raises(RuntimeError, match=f"affine_chain: {name} must have shape"):
            device.forward(inputs, CHOSEN)
    for grad, saved, name in ((points[:, 1:], points, "grad"), (points, points[1:], "points")):
        with pytest.raises(RuntimeError, match=f"affine_chain: {name} must have shape"):
            device.backward(grad, (matrix, offset, index, start), saved, CHOSEN)
    with pytest.raises(RuntimeError, match="index must be uint8, int32 or int64"):
        device.forward((matrix, offset, index.short(), start), CHOSEN)
    with pytest.raises(RuntimeError, match="must be float32 or float64"):
        device.forward((matrix.half(), offset.half(), index, start.half()), CHOSEN)
