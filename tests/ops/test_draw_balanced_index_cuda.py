"""Tests of `draw_balanced_index` in CUDA, on a GPU if there is one (`pytest -m gpu`) and emulated on the CPU.

All counts are integers, so every result must equal the reference's exactly. Set FRACTALOPS_TEST_REQUIRE=gpu to make a
missing GPU a failure.
"""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor

from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.reference.draw_balanced_index import context_lengths
from tests.support import emulation
from tests.support.cases import BalancedCase
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHARED = 48 * 1024  # bytes of shared memory that a block may have, as in csrc/cuda/shared_memory.h
IN_GLOBAL = 64 * 2**20  # bytes of counts in global memory, as in csrc/cuda/draw_balanced_index.cu


class Device(emulation.Device):
    op = "draw_balanced_index"

    def draw(self, weight: Tensor, uniform: Tensor, floor: float = 0.0) -> Tensor:
        """Draw on the device and return the index on the CPU."""
        index: Tensor = self.ops.draw_balanced_index(weight.to(self.name), uniform.to(self.name), floor)
        return index.cpu()


open_device = Device.open


@functools.cache
def inputs(
    systems: int, sequences: int, maps: int, points: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    return BalancedCase("", systems, sequences, maps, points).inputs(dtype)


def counts(maps: int, points: int) -> int:
    """Return the number of counts of a sequence."""
    return sum(maps ** (length + 1) for length in context_lengths(maps, points))


def assert_equals_the_reference(device: Device, weight: Tensor, uniform: Tensor, floor: float = 0.0) -> None:
    """Compare with the reference on the CPU: a GPU sums the weights in another order."""
    index = device.draw(weight, uniform, floor)
    assert_same_bits(index, draw_balanced_index(weight, uniform, floor, backend="reference"))
    assert index.shape == uniform.shape
    assert index.dtype == (torch.uint8 if weight.shape[1] <= 256 else torch.int32)


# Values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("points", [1, 3, 31, 32, 33, 63, 300])
@pytest.mark.parametrize("maps", [1, 2, 3, 10, 31, 32, 33, 64, 65, 256, 257, 300])
def test_equals_the_reference(maps: int, points: int, dtype: torch.dtype, device: Device) -> None:
    weight, uniform = inputs(3, 2, maps, points, dtype)
    for floor in (0.0, 1e-3):
        assert_equals_the_reference(device, weight, uniform, floor)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [1e-320, 0.0], [1e308, 1e308]])
@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.9])
@pytest.mark.parametrize("copies", [1, 20])
def test_odd_weights_and_floors(weights: list[float], floor: float, copies: int, device: Device) -> None:
    weight = torch.tensor([weights * copies], dtype=torch.float64)
    uniform = torch.rand(1, 3, 83, generator=torch.Generator().manual_seed(0))
    assert_equals_the_reference(device, weight, uniform, floor)


@pytest.mark.parametrize("maps", [10, 257])
def test_weights_are_added_up_in_the_order_of_the_maps(maps: int, device: Device) -> None:
    """In this order small weights vanish: map 0's share, 1.5 / 2^20, rounds to 2 / 2^20. In another it rounds to 1."""
    weight = torch.full((1, maps), 2.0**-32, dtype=torch.float64)
    weight[0, :2] = torch.tensor([3.0, 2.0**21 - 3])
    assert weight.cumsum(1)[0, -1] == 2**21 < weight.flip(1).cumsum(1)[0, -1]
    second = torch.full((1, 1, 1), 2.0**-20)
    assert int(device.draw(weight, second)) == 0
    assert_equals_the_reference(device, weight, second)


@pytest.mark.parametrize("value", [-0.5, 1.0, 2.0, math.nan])
def test_a_number_outside_its_range_gives_a_map_all_the_same(value: float, device: Device) -> None:
    weight, uniform = inputs(1, 2, 10, 40)
    uniform = uniform.clone()
    uniform[0, 1, 7] = value
    index = device.draw(weight, uniform)
    assert int(index.max()) < 10
    assert_same_bits(index[0, 0], device.draw(weight, uniform[:, :1])[0, 0])


@pytest.mark.parametrize(
    ("systems", "sequences", "points"), [(0, 2, 9), (2, 0, 9), (2, 3, 0), (0, 0, 0), (1, 1, 9), (1, 5, 9), (3, 4, 9)]
)
def test_any_number_of_sequences(systems: int, sequences: int, points: int, device: Device) -> None:
    weight, uniform = inputs(systems, sequences, 4, points)
    index = device.draw(weight, uniform)
    assert index.shape == (systems, sequences, points)
    for s, k in itertools.product(range(systems), range(sequences)):  # each separately, without its neighbors
        assert_same_bits(index[s : s + 1, k : k + 1], device.draw(weight[s : s + 1], uniform[s : s + 1, k : k + 1]))


def test_strided_and_shifted_inputs(device: Device) -> None:
    weight, uniform = inputs(3, 2, 10, 63)
    expected = device.draw(weight, uniform)
    strided = uniform.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    assert_same_bits(device.draw(weight.mT.contiguous().mT, strided), expected)
    shifted = torch.full((uniform.numel() + 2,), 77.0)[1:-1].view(uniform.shape)
    assert_same_bits(device.draw(weight, shifted.copy_(uniform)), expected)


# Counts in shared and in global memory


@pytest.mark.parametrize(
    ("maps", "points", "depth", "in_shared"),
    [
        (10, 300, 2, True),
        (22, 968, 2, True),
        (23, 1058, 2, False),
        (110, 220, 1, True),
        (111, 222, 1, False),
        (111, 221, 0, True),
        (150, 300, 1, False),
        (2, 4096, 11, True),
    ],
)
def test_counts_lie_in_shared_memory_where_they_fit(
    maps: int, points: int, depth: int, in_shared: bool, emulated: Device
) -> None:
    size = 4 * counts(maps, points)
    assert len(context_lengths(maps, points)) == depth
    assert (size <= SHARED) == in_shared
    weight, uniform = inputs(1, 2, maps, points)
    expected = draw_balanced_index(weight, uniform, backend="native")
    asked = emulation.shared_bytes(Device.op, lambda: assert_same_bits(emulated.draw(weight, uniform), expected))
    assert asked == [0, size if in_shared else 0]  # of two launches: for the shares, for the sequences


# The reference takes too long for these. They are compared with the native CPU op, which is tested against it.
@pytest.mark.parametrize(
    ("maps", "points"), [(2, 8192), (3, 4400), (33, 2200), (150, 300), (1000, 2000), (1024, 2048), (1025, 2050)]
)
def test_deep_and_wide_contexts(maps: int, points: int, device: Device, native: str) -> None:
    weight, uniform = inputs(1, 3, maps, points)
    assert_same_bits(device.draw(weight, uniform, 1e-4), draw_balanced_index(weight, uniform, 1e-4, backend=native))


@pytest.mark.parametrize("maps", [2**12, 2**15])
def test_very_many_maps(maps: int, device: Device) -> None:
    weight, uniform = inputs(2, 1, maps, 5)
    assert_equals_the_reference(device, weight, uniform)


@pytest.mark.slow
def test_more_sequences_than_a_grid_has_blocks(device: Device, native: str) -> None:
    """The kernels loop when a grid has its largest size, 65536 blocks, and clear the counts for the next sequence."""
    weight, uniform = inputs(65536 + 33, 1, 2, 4)
    assert len(context_lengths(2, 4)) == 1
    assert_same_bits(device.draw(weight, uniform), draw_balanced_index(weight, uniform, backend=native))


@pytest.mark.slow
def test_more_sequences_than_have_counts_in_global_memory(device: Device, native: str) -> None:
    maps, points = 1000, 2000
    sequences = IN_GLOBAL // (4 * counts(maps, points)) + 3
    weight, uniform = inputs(1, sequences, maps, points)
    assert_same_bits(device.draw(weight, uniform), draw_balanced_index(weight, uniform, backend=native))


# Determinism


@pytest.mark.parametrize(("maps", "points"), [(1, 40), (3, 300), (10, 300), (33, 100), (150, 300), (300, 63)])
def test_bits_do_not_depend_on_the_order_of_threads_and_blocks(maps: int, points: int, emulated: Device) -> None:
    weight, uniform = inputs(2, 3, maps, points)
    expected, *others = emulation.in_several_orders(Device.op, lambda: emulated.draw(weight, uniform))
    for actual in others:
        assert_same_bits(actual, expected)


# Memory errors and races

SANITIZED: dict[emulation.Sanitizer, str] = {
    # Every buffer is guarded, torch's own included. All tests except the longest.
    "address": "not slow and not deep and (not equals or (float32 and not 300))",
    # One run finds a race, in any order of the threads. The tests must have contexts in both kinds of memory, and
    # sequences that follow each other in a block.
    "thread": "order or odd or (deep and 150) or more_sequences_than_a_grid",
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZED)
def test_under_a_sanitizer(sanitizer: emulation.Sanitizer) -> None:
    """Run these tests again under a sanitizer."""
    emulation.run_sanitized(sanitizer, [__file__], SANITIZED[sanitizer])


# GPU only


@pytest.mark.gpu
@pytest.mark.parametrize(("maps", "points"), [(10, 300), (150, 300)], ids=["in shared memory", "in global memory"])
def test_a_cuda_graph_captures_it(maps: int, points: int, gpu: Device) -> None:
    """The graph is captured on a separate stream. A replay reads the current values of its inputs."""
    weight, uniform = (tensor.to(gpu.name) for tensor in inputs(2, 3, maps, points))
    gpu.draw(weight, uniform)  # loads the kernels, which synchronizes
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        index = gpu.ops.draw_balanced_index(weight, uniform, 0.0)
    uniform.copy_(uniform.flip(2))
    graph.replay()
    assert_same_bits(index.cpu(), gpu.draw(weight, uniform))


@pytest.mark.gpu
def test_the_public_function_takes_the_native_op(gpu: Device) -> None:
    weight, uniform = inputs(2, 3, 10, 300)
    index = draw_balanced_index(weight.to(gpu.name), uniform.to(gpu.name), 1e-3)
    assert index.is_cuda
    assert_same_bits(index.cpu(), draw_balanced_index(weight, uniform, 1e-3, backend="reference"))


@pytest.mark.gpu
def test_tensors_on_different_devices_are_refused(gpu: Device) -> None:
    weight, uniform = inputs(2, 3, 10, 30)
    with pytest.raises(RuntimeError, match="draw_balanced_index: all tensors must be on one device"):
        gpu.ops.draw_balanced_index(weight, uniform.to(gpu.name), 0.0)


# Errors of the raw op


@pytest.mark.parametrize(
    ("weight", "uniform", "message"),
    [
        (torch.ones(2, 3).double(), torch.zeros(1, 1, 4), r"uniform must have shape \(2, K, T\), got \(1, 1, 4\)"),
        (torch.ones(2, 3, 1).double(), torch.zeros(2, 1, 4), r"weight must have shape \(S, N\), got \(2, 3, 1\)"),
        (torch.ones(2, 3).double(), torch.zeros(2, 4), r"uniform must have shape \(2, K, T\), got \(2, 4\)"),
        (torch.ones(2, 0).double(), torch.zeros(2, 1, 4), "weight must have at least one map"),
        (torch.ones(2, 3), torch.zeros(2, 1, 4), "weight must be float64"),
        (torch.ones(2, 3).double(), torch.zeros(2, 1, 4).half(), "uniform must be float32 or float64"),
    ],
)
def test_what_does_not_fit_is_refused(weight: Tensor, uniform: Tensor, message: str, device: Device) -> None:
    with pytest.raises(RuntimeError, match=message):
        device.draw(weight, uniform)
