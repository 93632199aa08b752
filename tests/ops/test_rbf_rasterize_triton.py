"""Tests of `rbf_rasterize` in Triton, on a GPU if there is one (`pytest -m gpu`) and in its interpreter on the CPU.

Set FRACTALOPS_TEST_REQUIRE=gpu to make a missing GPU a failure. The interpreter takes milliseconds for a block of
points, so the cases are small. It computes with numpy: the rounding of tensor cores can be seen only on a GPU.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import fractalops
from fractalops.kernels import rbf_rasterize as kernels
from fractalops.kernels import rbf_rasterize_plan as plans
from fractalops.kernels import rbf_rasterize_points as kernel_points
from tests.support.cases import RasterCase, Result
from tests.support.requirements import open_triton_device
from tests.support.tolerances import assert_all_match, assert_all_same_bits, assert_matches, assert_same_bits

open_device = open_triton_device

DTYPES = [torch.float32, torch.float64]
# route: (binned, shares)
ROUTES = {"walk": (False, 1), "walk, 3 shares": (False, 3), "bins": (True, 1)}
TYPED_ROUTES = [*((torch.float32, route) for route in ROUTES), (torch.float64, "walk"), (torch.float64, "bins")]
LARGE_TILE = plans.Tile(32, 32, 32, 4, "ieee")

CASES = [
    RasterCase("one pixel", batch=1, points=1, size=1),
    RasterCase("empty batch", batch=0, channels=3),
    RasterCase("one tile", batch=2, points=33, size=(13, 16)),
    RasterCase("one row", batch=2, points=33, size=(1, 40), bandwidth=4.0, channels=1),
    RasterCase("several tiles", batch=1, points=65, size=(33, 18), channels=3),
    RasterCase("sharp, loose", batch=2, points=33, size=(17, 20), bandwidth=0.25, cutoff=1e-2, channels=5),
    RasterCase("window larger than a tile", batch=1, points=31, size=(33, 20), bandwidth=25.0, channels=0),
    RasterCase("exact", batch=2, points=7, size=(17, 20), cutoff=None, channels=0),
    RasterCase("many points", batch=1, points=130, size=(20, 32)),
]
SMALL = RasterCase("small", batch=1, points=65, size=(20, 15), channels=3)


@functools.cache
def inputs_of(case: RasterCase) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the case's inputs, rounded to float32 so that they are the same for both types."""
    points, weight, bandwidth = case.inputs(torch.float32)
    return points, weight, bandwidth


def convert(inputs: tuple[Tensor, Tensor | None, Tensor], dtype: torch.dtype, device: str) -> list[Tensor | None]:
    """Return the inputs of the raw op, whose weight has channels."""
    points, weight, bandwidth = (tensor if tensor is None else tensor.to(device, dtype) for tensor in inputs)
    return [points, weight[..., None] if weight is not None and weight.ndim == 2 else weight, bandwidth]


@functools.cache
def expected(case: RasterCase) -> Result:
    """Return the images and gradients of the float64 reference."""
    return case.expected(inputs_of(case))


def upstream(case: RasterCase) -> Tensor:
    """Return the gradient of the images that `expected` uses, with channels."""
    image = expected(case)[0]
    grad = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return grad[:, None] if image.ndim == 3 else grad


def plan_of(case: RasterCase, dtype: torch.dtype, route: str, tile: plans.Tile | None = None) -> plans.Plan:
    """Return the plan of the case, with another route and optionally another tile."""
    height, width = case.height_width
    plan = plans.plan_forward(dtype, (8, 0), case.batch, case.points, case.channels or 1, height, width)
    binned, shares = ROUTES[route]
    if tile is not None:
        tiles = plans.divide_up(height, tile.rows) * plans.divide_up(width, tile.columns)
        plan = dataclasses.replace(plan, tile=tile, tiles=tiles, channels=min(plan.channels, 2))
    return dataclasses.replace(plan, binned=binned, shares=shares)


def forward(case: RasterCase, dtype: torch.dtype, device: str, route: str, tile: plans.Tile | None = None) -> Tensor:
    """Return the images in the shape that the public function gives them."""
    inputs = convert(inputs_of(case), dtype, device)
    plan = plan_of(case, dtype, route, tile)
    image = kernels.rbf_rasterize_fwd(*inputs, *case.height_width, case.cutoff or 0.0, plan).cpu()
    return image if case.channels else image.squeeze(1)


# Values and gradients


@pytest.mark.parametrize(("dtype", "route"), TYPED_ROUTES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_images_match_the_reference_by_each_route(
    case: RasterCase, dtype: torch.dtype, route: str, device: str
) -> None:
    assert_matches(forward(case, dtype, device, route), expected(case)[0])


@pytest.mark.parametrize("route", ["walk", "bins"])
@pytest.mark.parametrize("case", CASES[4:6], ids=lambda case: case.name)
def test_images_match_the_reference_with_large_tiles(case: RasterCase, route: str, device: str) -> None:
    assert_matches(forward(case, torch.float32, device, route, LARGE_TILE), expected(case)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_match_the_reference(case: RasterCase, dtype: torch.dtype, device: str) -> None:
    inputs = convert(inputs_of(case), dtype, device)
    grad = upstream(case).to(device, dtype)
    gradients = [gradient.cpu() for gradient in kernels.rbf_rasterize_bwd(grad, *inputs, case.cutoff or 0.0, True)]
    if inputs[1] is None:
        assert gradients.pop(1).numel() == 0
    elif case.channels == 0:
        gradients[1] = gradients[1].squeeze(2)
    assert_all_match(gradients, expected(case)[1])
    same = kernels.rbf_rasterize_bwd(grad, *inputs, case.cutoff or 0.0, False)
    assert same[2].numel() == 0
    assert_same_bits(same[0].cpu(), gradients[0])


# Positions of points


def rounding_points() -> Tensor:
    """Return points (B, 1, 2), one an image, on and around the edges of tiles and the ties of rounding."""
    edges = [0.0, 7.5, 15.0, 15.5, 16.0, 31.5, 32.5]
    near = [math.nextafter(15.5, 0), math.nextafter(15.5, 99), math.nextafter(16.5, 0), math.nextafter(16.5, 99)]
    return torch.tensor([[[x, 16.25 - x / 2]] for x in edges + near], dtype=torch.float64)


@pytest.mark.parametrize(("bandwidth", "route"), [(0.25, "bins"), (1.0, "walk"), (3.0, "bins")])
def test_the_window_has_the_pixels_of_the_native_cpu_op(bandwidth: float, route: str, device: str, native: str) -> None:
    points = rounding_points()
    tau = torch.full((len(points),), bandwidth, dtype=torch.float64)
    expected = fractalops.rbf_rasterize(points, (33, 18), bandwidth=tau, cutoff=1e-2, backend=native)
    case = RasterCase("rounding", batch=len(points), points=1, size=(33, 18), cutoff=1e-2)
    plan = plan_of(case, torch.float64, route)
    got = kernels.rbf_rasterize_fwd(points.to(device), None, tau.to(device), 33, 18, 1e-2, plan)[:, 0].cpu()
    assert torch.equal(got != 0, expected != 0)
    assert_matches(got, expected)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # from numpy, in the interpreter
@pytest.mark.parametrize(("cutoff", "route"), [(1e-6, "walk"), (1e-6, "bins"), (0.0, "bins")])
def test_points_that_are_not_finite_or_out_of_reach_add_nothing(cutoff: float, route: str, device: str) -> None:
    wild = [math.nan, math.inf, -math.inf, 3e38, -3e38, -40.0, 90.0]
    good = torch.tensor([[3.2, 4.1], [17.0, 20.5]])
    points = torch.cat([good, *(torch.tensor([[bad, 3.0], [3.0, bad], [bad, bad]]) for bad in wild)])[None]
    length = points.shape[1]
    case = RasterCase("wild", batch=1, points=length, size=(20, 33), channels=2)
    weight = torch.rand(1, length, 2, generator=torch.Generator().manual_seed(0))
    weight[0, 2:5] = math.nan  # the weight of such a point adds nothing either
    bandwidth = torch.ones(1)
    plan = plan_of(case, torch.float32, route)
    alone = kernels.rbf_rasterize_fwd(
        good[None].to(device), weight[:, :2].to(device), bandwidth.to(device), 20, 33, cutoff, plan
    )
    inputs = [tensor.to(device) for tensor in (points, weight, bandwidth)]
    image = kernels.rbf_rasterize_fwd(*inputs, 20, 33, cutoff, plan)
    assert_matches(image.cpu(), alone.cpu().double())
    grads = kernels.rbf_rasterize_bwd(torch.ones_like(image), *inputs, cutoff, True)
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert torch.count_nonzero(grads[0][:, 2:]) == 0
    assert torch.count_nonzero(grads[1][:, 2:]) == 0
    assert torch.count_nonzero(grads[0][:, :2]) > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_routes_give_the_same_image(dtype: torch.dtype, device: str) -> None:
    walked = forward(SMALL, dtype, device, "walk")
    assert_matches(forward(SMALL, dtype, device, "bins"), walked.double())


@pytest.mark.parametrize("route", ROUTES)
def test_sums_are_split_into_runs(route: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight may absorb terms of its own run, but none of the next runs."""
    monkeypatch.setattr(kernels, "RUN", 64)
    points = torch.full((1, 600, 2), 1.0, device=device)
    weight = torch.ones(1, 600, 1, device=device)
    weight[:, 0], weight[:, 1:64] = 2.0**32, 0
    case = RasterCase("runs", batch=1, points=600, size=4, channels=1)
    plan = plan_of(case, torch.float32, route)
    image = kernels.rbf_rasterize_fwd(points, weight, torch.ones(1, device=device), 4, 4, 1e-6, plan)
    assert image[0, 0, 1, 1].item() == 2**32 + 512  # 536 more; float32 has steps of 512 here


# Determinism, memory, the plan


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_inputs_give_the_same_bits(route: str, device: str) -> None:
    case = SMALL
    assert_same_bits(forward(case, torch.float32, device, route), forward(case, torch.float32, device, route))
    inputs, grad = convert(inputs_of(case), torch.float32, device), upstream(case).to(device, torch.float32)
    once, again = (kernels.rbf_rasterize_bwd(grad, *inputs, 1e-6, True) for _ in range(2))
    assert_all_same_bits(once, again)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("route", ROUTES)
def test_every_pixel_and_gradient_is_written(route: str, device: str) -> None:
    case = RasterCase("far apart", batch=1, points=3, size=(20, 33), bandwidth=0.25, channels=3)
    assert forward(case, torch.float32, device, route).isfinite().all()
    inputs, grad = convert(inputs_of(case), torch.float32, device), upstream(case).to(device, torch.float32)
    assert all(bool(each.isfinite().all()) for each in kernels.rbf_rasterize_bwd(grad, *inputs, 1e-6, True))


class Allocations(TorchDispatchMode):
    """A counter of the bytes of all new tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, Tensor] = {}  # by address; a tensor that is kept does not free its address for another
        self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.held:
                self.held[tensor.untyped_storage().data_ptr()] = tensor
                self.bytes += tensor.untyped_storage().nbytes()
        return result


@pytest.mark.parametrize("route", ROUTES)
def test_workspaces_have_the_size_of_their_formula(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kernels, kernel_points):  # the interpreter allocates copies
        monkeypatch.setattr(module, "launch", lambda *arguments, **constants: None)
    case = CASES[4]
    plan = plan_of(case, torch.float32, route)
    shapes = (case.batch, case.points, 3, *case.height_width)
    inputs, grad = convert(inputs_of(case), torch.float32, "cpu"), upstream(case).float()
    for tensor in inputs:
        assert tensor is not None
        assert tensor.is_contiguous()
    with Allocations() as made:
        image = kernels.rbf_rasterize_fwd(*inputs, *case.height_width, 1e-6, plan)
    assert made.bytes - image.nbytes == plans.forward_workspace(plan, torch.float32, *shapes)
    with Allocations() as made:
        grads = kernels.rbf_rasterize_bwd(grad, *inputs, 1e-6, True)
    # The gradient of the bandwidth takes three float64 numbers an image.
    few = made.bytes - sum(each.nbytes for each in grads) - plans.backward_workspace(torch.float32, *shapes[:2])
    assert 0 <= few <= 4 * 8 * case.batch


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=lambda case: case.name)
def test_results_lie_in_memory_as_a_compiler_is_told(case: RasterCase, route: str, device: str) -> None:
    """Inductor assumes the strides of the fake kernels' results."""
    points, weight, bandwidth = convert(inputs_of(case), torch.float32, device)
    assert points is not None
    points = points.transpose(0, 1).contiguous().transpose(0, 1)  # a layout that no kernel takes
    image = kernels.rbf_rasterize_fwd(
        points, weight, bandwidth, *case.height_width, 1e-6, plan_of(case, torch.float32, route)
    )
    grads = kernels.rbf_rasterize_bwd(image.transpose(2, 3).contiguous().mT, points, weight, bandwidth, 1e-6, True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.ops.fractalops.rbf_rasterize_fwd(points, weight, bandwidth, *case.height_width, 1e-6)
        fakes = torch.ops.fractalops.rbf_rasterize_bwd(image, points, weight, bandwidth, 1e-6, True)
    for real, told in zip((image, *grads), (fake, *fakes), strict=True):
        assert (real.shape, real.stride(), real.dtype) == (told.shape, told.stride(), told.dtype)


PUBLISHED = (50, 300, 1, 32, 32)


@pytest.mark.parametrize(
    ("shapes", "side", "binned", "several_shares"),
    [
        (PUBLISHED, 16, False, False),
        ((2000, 300, 1, 28, 28), 32, False, False),
        ((1, 300, 3, 32, 32), 16, False, False),
        ((1, 30_000, 1, 64, 64), 16, False, True),
        ((1, 100_000, 1, 1024, 1024), 32, True, False),
        ((70_000, 300, 1, 32, 32), 32, False, False),
        ((0, 300, 1, 32, 32), 16, False, False),
        ((3, 2**31, 1, 1024, 1024), 32, False, False),  # the sort numbers points with 31 bits
        ((1, 2**31 - 33, 1, 1024, 1024), 32, True, False),
        ((1, 2**31 - 32, 1, 1024, 1024), 32, False, False),  # and the last block needs them, too
    ],
)
def test_the_plan(shapes: tuple[int, int, int, int, int], side: int, binned: bool, several_shares: bool) -> None:
    for capability in [(8, 0), (8, 9), (9, 0), (12, 0)]:
        plan = plans.plan_forward(torch.float32, capability, *shapes)
        assert (plan.tile.rows, plan.tile.columns) == (side, side)
        assert plan.tile.precision == ("tf32x3" if capability in [(8, 0), (9, 0)] else "ieee")
        assert plan.binned == binned
        assert (plan.shares > 1) == several_shares
        # No workspace grows with points times pixels.
        images, length, channels, height, width = shapes
        outputs, inputs = images * channels * height * width * 4, images * length * 8
        assert plans.forward_workspace(plan, torch.float32, *shapes) <= max(512 * 4 * 1024, outputs) + 2.5 * inputs
    assert plans.plan_forward(torch.float64, (9, 0), *shapes).tile.precision == "ieee"


def test_more_images_than_a_grid_has_in_its_second_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    grids = []
    monkeypatch.setattr(kernels, "launch", lambda kernel, programs, *arguments, **constants: grids.append(programs))
    points, bandwidth = torch.zeros(70_000, 1, 2), torch.ones(70_000)
    image = kernels.rbf_rasterize_fwd(points, None, bandwidth, 8, 8, 1e-6)
    kernels.rbf_rasterize_bwd(image, points, None, bandwidth, 1e-6, False)
    assert grids == [70_000, 70_000]


# GPU only: the public function, graphs, a compiler


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_public_function_takes_the_kernels(case: RasterCase, dtype: torch.dtype, gpu: str) -> None:
    image, gradients = case.both("native", [t if t is None else t.to(gpu, dtype) for t in inputs_of(case)])
    assert image.device.type == "cuda"
    assert_all_match([result.cpu() for result in (image, *gradients)], expected(case))


@pytest.mark.gpu
@pytest.mark.parametrize("route", ROUTES)
def test_a_cuda_graph_captures_both_directions(route: str, gpu: str) -> None:
    case = CASES[4]
    inputs, grad = convert(inputs_of(case), torch.float32, gpu), upstream(case).to(gpu, torch.float32)
    plan = plan_of(case, torch.float32, route)

    def both() -> tuple[Tensor, ...]:
        image = kernels.rbf_rasterize_fwd(*inputs, *case.height_width, 1e-6, plan)
        return image, *kernels.rbf_rasterize_bwd(grad, *inputs, 1e-6, True)

    expected = both()  # kernels are compiled and loaded at their first use
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = both()
    graph.replay()
    assert_all_same_bits(got, expected)


@pytest.mark.gpu
def test_a_compiler_traces_through(gpu: str) -> None:
    points = torch.rand(3, 65, 2, device=gpu, requires_grad=True)

    def run(points: Tensor) -> Tensor:
        return fractalops.rbf_rasterize(points * 30, 32).square().sum()

    (expected,) = torch.autograd.grad(run(points), points)
    (got,) = torch.autograd.grad(torch.compile(run, fullgraph=True)(points), points)
    assert_matches(got.cpu(), expected.cpu().double())
