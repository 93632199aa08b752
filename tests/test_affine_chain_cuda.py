"""`affine_chain` in CUDA, both forms: on a GPU where there is one (`pytest -m gpu`), and emulated on the CPU.

Set FRACTALOPS_TEST_REQUIRE=gpu to make a missing GPU a failure.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import dispatch
from fractalops.reference.affine_chain import affine_chain as reference
from tests import emulation
from tests.cases import ChainCase, value_and_gradients
from tests.requirements import skip_or_fail
from tests.tolerances import TOLERANCES, assert_all_match, assert_all_same_bits, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

ROOT = Path(__file__).parent.parent
CHOSEN, SEQUENTIAL, SCAN = 0, 1, 2
DTYPES = list(TOLERANCES)
INDEX_DTYPES = [torch.uint8, torch.int32, torch.int64]
forms = pytest.mark.parametrize("form", [SEQUENTIAL, SCAN], ids=["sequential", "scan"])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # matrix, offset, index, start


@dataclass(frozen=True)
class Device:
    """Where the op runs: its raw functions and the tensors' device."""

    ops: Any
    name: str

    def forward(self, inputs: Inputs, form: int) -> Tensor:
        matrix, offset, index, start = (tensor.to(self.name) for tensor in inputs)
        points: Tensor = self.ops.affine_chain_fwd(matrix, offset, index, start, form)
        return points

    def backward(self, grad: Tensor, inputs: Inputs, points: Tensor, form: int) -> list[Tensor]:
        matrix, _, index, start = (tensor.to(self.name) for tensor in inputs)
        return list(self.ops.affine_chain_bwd(grad.to(self.name), matrix, index, start, points, form))

    def both(self, inputs: Inputs, form: int, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Points and the gradients of matrix, offset and start, on the CPU."""
        points = self.forward(inputs, form)
        gradients = self.backward(grad.to(points.dtype), inputs, points, form)
        return points.cpu(), [gradient.cpu() for gradient in gradients]


def on_gpu() -> Device:
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")
    assert dispatch.choose("affine_chain", torch.device("cuda"), "native") == "native"
    return Device(torch.ops.fractalops, "cuda")


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "emulated":
        return Device(emulation.load("affine_chain"), "cpu")
    return on_gpu()


@pytest.fixture
def emulated() -> Iterator[Device]:
    """For tests of the order in which threads and blocks run, which only the emulation can choose."""
    yield Device(emulation.load("affine_chain"), "cpu")
    emulation.set_order()


def inputs_of(case: ChainCase, dtype: torch.dtype) -> Inputs:
    """The case's inputs, rounded to float32 so that they are the same for both dtypes."""
    matrix, offset, index, start = case.inputs(torch.float32)
    return matrix.to(dtype), offset.to(dtype), index, start.to(dtype)


def upstream(case: ChainCase) -> Tensor:
    shape = (case.batch, case.points, case.dimensions)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@functools.cache
def expected(case: ChainCase) -> tuple[Tensor, list[Tensor]]:
    """The float64 reference's, with maps of its own for every 64 steps, whose gradients are then added up.

    Autograd adds up a map's gradient step by step, which at 10^5 points takes all of the float64 tolerance (9e-15
    against 80-bit sums, where the op shows 1e-15).
    """
    matrix, offset, index, start = inputs_of(case, torch.float64)
    part = torch.arange(case.points) // 64  # (T,)
    parts = len(part.unique())
    inputs = (matrix.repeat(parts, 1, 1), offset.repeat(parts, 1), index.long() + case.maps * part, start)
    points, (grad_matrix, grad_offset, grad_start) = value_and_gradients(reference, inputs, upstream(case))
    by_part = (gradient.unflatten(0, (parts, case.maps)).sum(0) for gradient in (grad_matrix, grad_offset))
    return points, [*by_part, grad_start]


# Lengths about those of a warp's tile (16, 32), of a block's (160 to 640 steps) and of a few of them.
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
    expected_points, expected_gradients = expected(case)
    assert points.dtype == dtype
    assert_matches(points, expected_points)
    assert_all_match(gradients, expected_gradients)


# The reference takes seconds for these; the native CPU op, which the reference's tests hold, stands in.
BEYOND_ONE_CHUNK = ChainCase("beyond one chunk", 1, 5121, 10)
MANY_SEQUENCES = ChainCase("many sequences", 1025, 33, 300, 3, torch.int64)
LONG = [
    BEYOND_ONE_CHUNK,
    MANY_SEQUENCES,
    ChainCase("as many chunks as tiles", 2, 12_345, 3, 2, torch.int64),
    pytest.param(ChainCase("chunks of several tiles, 3d", 150, 5121, 10, 3), marks=pytest.mark.slow),
    pytest.param(ChainCase("several rounds of links", 1, 100_001, 10, 2, torch.int32), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", LONG, ids=lambda case: case.name)
@dtypes
@forms
def test_long_chains_match_the_native_cpu_op(
    case: ChainCase, dtype: torch.dtype, form: int, device: Device, native: str
) -> None:
    inputs = inputs_of(case, dtype)
    points, gradients = device.both(inputs, form, upstream(case))
    exact = inputs_of(case, torch.float64)
    expected_points, expected_gradients = value_and_gradients(
        functools.partial(fractalops.affine_chain, backend=native), exact, upstream(case)
    )
    assert_matches(points, expected_points)
    assert_all_match(gradients, expected_gradients)


@dtypes
@pytest.mark.parametrize(
    "case", [ChainCase("paper's shape", 50, 300), BEYOND_ONE_CHUNK, MANY_SEQUENCES], ids=lambda case: case.name
)
def test_the_two_forms_agree(case: ChainCase, dtype: torch.dtype, device: Device) -> None:
    inputs = inputs_of(case, dtype)
    points, gradients = device.both(inputs, SEQUENTIAL, upstream(case))
    other_points, other_gradients = device.both(inputs, SCAN, upstream(case))
    assert_matches(other_points, points.double())
    assert_all_match(other_gradients, [gradient.double() for gradient in gradients])


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
    # Turns that stretch by a tenth: 10^10 in the end. (Random matrices cancel too, which costs any method its digits.)
    inputs = (torch.linalg.qr(matrix).Q * 1.1).float(), offset.float(), index, start.float()
    exact = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    expected_points, expected_gradients = value_and_gradients(reference, exact, upstream(case))
    assert expected_points.abs().max() > 1e6
    points, gradients = device.both(_with_dtype(inputs, dtype), form, upstream(case))
    assert_matches(points, expected_points)
    assert_all_match(gradients, expected_gradients)


def _with_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    matrix, offset, index, start = inputs
    return matrix.to(dtype), offset.to(dtype), index, start.to(dtype)


@dtypes
@forms
@pytest.mark.parametrize("maps", [2**12, 2**15])
def test_more_maps_than_shared_memory_holds(maps: int, form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("many maps", 33, 63, maps, 2, torch.int32)
    points, gradients = device.both(inputs_of(case, dtype), form, upstream(case))
    expected_points, expected_gradients = expected(case)
    assert_matches(points, expected_points)
    assert_all_match(gradients, expected_gradients)


@forms
def test_maps_compose_in_the_order_of_the_index(form: int, device: Device) -> None:
    """Turns and shears do not commute; in whole numbers the order can be seen exactly."""
    matrix = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    offset = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    index = torch.randint(3, (5, 700), generator=torch.Generator().manual_seed(2))
    inputs = (matrix, offset, index, torch.tensor([1.0, 2.0]).expand(5, 2))
    exact = reference(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs))
    near = exact.abs().amax(-1).cummax(-1).values < 2**18  # whole numbers that float32 and the scan's products hold
    assert near.sum() > 200
    assert torch.equal(device.forward(inputs, form).cpu().double()[near], exact[near])


@forms
def test_sums_by_map_are_exact_enough_where_one_map_of_many_has_all_points(form: int, device: Device) -> None:
    """Equal addends, whose rounding doesn't cancel: float32 sums must reach the slots in time."""
    case = ChainCase("one of a thousand", 32, 3000, 1000, 2, torch.int32)
    matrix, offset, index, start = inputs_of(case, torch.float32)
    inputs = (torch.zeros_like(matrix), torch.full_like(offset, 1 / 3), torch.zeros_like(index), start)
    grad = torch.full((32, 3000, 2), 0.1)
    _, gradients = device.both(inputs, form, grad)
    assert_matches(gradients[1][0], grad.double().sum((0, 1)))
    assert not gradients[1][1:].any()


# The index


@dtypes
@forms
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_every_index_dtype_gives_the_same_bits(
    index_dtype: torch.dtype, form: int, dtype: torch.dtype, device: Device
) -> None:
    """256 maps: the limit of uint8."""
    case = ChainCase("256 maps", 3, 63, 256, 2, torch.int64)
    matrix, offset, index, start = inputs_of(case, dtype)
    index[:, -1] = torch.tensor([0, 1, 255])
    points, gradients = device.both((matrix, offset, index.to(index_dtype), start), form, upstream(case))
    wanted, wanted_gradients = device.both((matrix, offset, index, start), form, upstream(case))
    assert_same_bits(points, wanted)
    assert_all_same_bits(gradients, wanted_gradients)


@forms
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_an_index_out_of_range_takes_the_nearest_map(index_dtype: torch.dtype, form: int, device: Device) -> None:
    case = ChainCase("three maps", 3, 63, 3, 2, index_dtype)
    matrix, offset, index, start = inputs_of(case, torch.float32)
    limits = torch.iinfo(index_dtype)
    index[0, 5], index[1, 0], index[2, 62] = limits.max, limits.min, 3
    points, gradients = device.both((matrix, offset, index, start), form, upstream(case))
    clamped = index.clamp(0, 2)
    wanted, wanted_gradients = device.both((matrix, offset, clamped, start), form, upstream(case))
    assert_same_bits(points, wanted)
    assert_all_same_bits(gradients, wanted_gradients)


# Memory


@dtypes
@forms
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_addresses_that_are_no_multiple_of_16(
    shift: int, dimensions: int, form: int, dtype: torch.dtype, device: Device
) -> None:
    """Views that begin and end inside a 16-byte word, with something else on both sides."""
    case = ChainCase("shifted", 3, 37, 10, dimensions)
    inputs, grad = inputs_of(case, dtype), upstream(case).to(dtype)
    wanted, wanted_gradients = device.both(inputs, form, grad)

    def shifted(tensor: Tensor) -> Tensor:
        room = torch.full((tensor.numel() + 2 * shift,), 77, dtype=tensor.dtype, device=device.name)
        view = room[shift:-shift].view(tensor.shape)
        view.copy_(tensor)
        assert view.is_contiguous()
        return view

    moved = tuple(shifted(tensor) for tensor in inputs)
    points = device.forward(moved, form)
    gradients = device.backward(shifted(grad), moved, shifted(points), form)
    assert_same_bits(points.cpu(), wanted)
    assert_all_same_bits([gradient.cpu() for gradient in gradients], wanted_gradients)


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
    wanted, wanted_gradients = device.both(dense, form, grad.contiguous())
    assert_same_bits(points.cpu(), wanted)
    assert_all_same_bits([gradient.cpu() for gradient in gradients], wanted_gradients)


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
    """Sequence 9 has maps of its own; what is bad there harms no other sequence and no other map."""
    case = ChainCase("isolated", 33, 300, 4)
    matrix, offset, index, start = inputs_of(case, dtype)
    index = index % 2
    index[9] += 2
    wanted, wanted_gradients = device.both((matrix, offset, index, start), form, upstream(case))
    start = start.clone()
    start[9] = torch.nan
    points, gradients = device.both((matrix, offset, index, start), form, upstream(case))
    others = [row for row in range(33) if row != 9]
    assert points[9].isnan().all()
    assert_same_bits(points[others], wanted[others])
    assert_same_bits(gradients[0][:2], wanted_gradients[0][:2])
    assert_same_bits(gradients[1][:2], wanted_gradients[1][:2])
    assert_same_bits(gradients[2][others], wanted_gradients[2][others])


@dtypes
@forms
def test_a_map_without_points_gets_exactly_zero(form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("unused", 33, 63, 3)
    matrix, offset, index, start = inputs_of(case, dtype)
    _, gradients = device.both((matrix, offset, index.clamp(max=1), start), form, upstream(case))
    for gradient in gradients[:2]:
        assert not gradient[2].any()
        assert gradient[:2].all()


# Gradients by finite differences


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


# Determinism

ORDERED = [
    ChainCase("one map", 33, 300, 1),
    ChainCase("paper's shape", 50, 300, 10),
    ChainCase("3d", 33, 257, 10, 3),
    ChainCase("many maps", 33, 300, 300, 2, torch.int32),
    ChainCase("maps in global memory", 40, 200, 4096, 2, torch.int32),
    ChainCase("chunks", 2, 6000, 10),
    pytest.param(ChainCase("several rounds of links", 1, 100_001, 10), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", ORDERED, ids=lambda case: case.name)
@dtypes
@forms
def test_bits_do_not_depend_on_the_order_of_threads_and_blocks(
    case: ChainCase, dtype: torch.dtype, form: int, emulated: Device
) -> None:
    inputs, grad = inputs_of(case, dtype), upstream(case)
    emulation.set_order()
    wanted, wanted_gradients = emulated.both(inputs, form, grad)
    for threads, blocks, seed in (("descending", "descending", 0), ("random", "random", 1), ("random", "random", 2)):
        emulation.set_order(threads, blocks, seed)
        points, gradients = emulated.both(inputs, form, grad)
        assert_same_bits(points, wanted)
        assert_all_same_bits(gradients, wanted_gradients)


@dtypes
@forms
def test_the_same_call_gives_the_same_bits(form: int, dtype: torch.dtype, device: Device) -> None:
    case = ChainCase("repeated", 50, 300)
    inputs, grad = inputs_of(case, dtype), upstream(case)
    wanted, wanted_gradients = device.both(inputs, form, grad)
    for _ in range(3):
        points, gradients = device.both(inputs, form, grad)
        assert_same_bits(points, wanted)
        assert_all_same_bits(gradients, wanted_gradients)


@pytest.mark.slow
@forms
def test_more_sequences_than_a_grid_has_blocks(form: int, device: Device) -> None:
    """The kernels loop when a grid is at its largest, 65536 blocks."""
    case = ChainCase("grid", 65536 * (32 if form == SEQUENTIAL else 1) + 33, 1, 3)
    points, gradients = device.both(inputs_of(case, torch.float32), form, upstream(case))
    expected_points, expected_gradients = value_and_gradients(reference, inputs_of(case, torch.float64), upstream(case))
    assert_matches(points, expected_points)
    assert_all_match(gradients, expected_gradients)


# Memory errors


@pytest.mark.slow
def test_under_the_sanitizers() -> None:
    """The tests above once more, but for the longest: every buffer is guarded, also torch's own."""
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    command += ["-k", "not 4097 and not 1000 and not 32768 and not agree and not long"]
    environment = emulation.sanitized_environment()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{3} passed", done.stdout, re.M), done.stdout


# What only a GPU can show


@pytest.fixture
def gpu() -> Device:
    return on_gpu()


@pytest.mark.gpu
@dtypes
def test_the_public_function_takes_the_native_op(dtype: torch.dtype, gpu: Device) -> None:
    case = ChainCase("paper's shape", 50, 300)
    inputs = tuple(tensor.to(gpu.name) for tensor in inputs_of(case, dtype))
    points, gradients = value_and_gradients(fractalops.affine_chain, inputs, upstream(case))
    expected_points, expected_gradients = expected(case)
    assert points.is_cuda
    assert_matches(points.cpu(), expected_points)
    assert_all_match([gradient.cpu() for gradient in gradients], expected_gradients)


@pytest.mark.gpu
@forms
def test_a_cuda_graph_captures_both_directions(form: int, gpu: Device) -> None:
    """On a stream of its own, as capturing takes; replayed, it reads what its inputs hold then."""
    case = ChainCase("beyond one chunk", 3, 5121)
    inputs = tuple(tensor.to(gpu.name) for tensor in inputs_of(case, torch.float32))
    grad = upstream(case).to(gpu.name)
    gpu.backward(grad, inputs, gpu.forward(inputs, form), form)  # kernels load at their first use, which waits
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        points = gpu.forward(inputs, form)
        gradients = gpu.backward(grad, inputs, points, form)
    inputs[3].add_(1)
    graph.replay()
    wanted = gpu.forward(inputs, form)
    assert_same_bits(points, wanted)
    assert_all_same_bits(gradients, gpu.backward(grad, inputs, wanted, form))


@pytest.mark.gpu
def test_tensors_on_different_devices_are_refused(gpu: Device) -> None:
    matrix, offset, index, start = inputs_of(ChainCase("any"), torch.float32)
    with pytest.raises(RuntimeError, match="affine_chain: all tensors must be on one device"):
        gpu.ops.affine_chain_fwd(matrix.to(gpu.name), offset, index, start)


# What the raw ops refuse


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
        ((matrix, offset, index[:1], start), "index"),
        ((matrix, offset, index, start[:, :1]), "start"),
    ):
        with pytest.raises(RuntimeError, match=f"affine_chain: {name} has a shape"):
            device.forward(inputs, CHOSEN)
    for grad, saved, name in ((points[:, 1:], points, "grad"), (points, points[1:], "points")):
        with pytest.raises(RuntimeError, match=f"affine_chain: {name} has a shape"):
            device.backward(grad, (matrix, offset, index, start), saved, CHOSEN)
    with pytest.raises(RuntimeError, match="index must be uint8, int32 or int64"):
        device.forward((matrix, offset, index.short(), start), CHOSEN)
    with pytest.raises(RuntimeError, match="must be float32 or float64"):
        device.forward((matrix.half(), offset.half(), index, start.half()), CHOSEN)
