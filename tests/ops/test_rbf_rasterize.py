"""`fractalops.rbf_rasterize` on every backend: values, gradients, windows, isolation, determinism."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractalops
from tests.support.cases import (
    RASTER_CASES,
    RASTER_GRADCHECK_CASES,
    RasterCase,
    rasterizer,
    reference_rasterizer,
    value_and_gradients,
)
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")

DTYPES = list(TOLERANCES)
SMALL = RasterCase("small", batch=4, points=9, size=(9, 6), channels=3)
cases = pytest.mark.parametrize("case", RASTER_CASES, ids=lambda case: case.name)

# Values and gradients


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_match_the_reference(case: RasterCase, dtype: torch.dtype, backend: str) -> None:
    inputs = case.inputs(dtype)
    value, gradients = value_and_gradients(rasterizer(case, backend), inputs)
    exact = [None if tensor is None else tensor.double() for tensor in inputs]
    expected, expected_gradients = value_and_gradients(reference_rasterizer(case), exact)
    assert value.dtype == dtype
    assert value.shape == (case.batch, *([case.channels] if case.channels else []), *case.height_width)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


def test_the_reference_is_the_formula() -> None:
    case = RasterCase("formula", size=(7, 5), cutoff=None, channels=2)
    points, weight, bandwidth = case.inputs()
    assert weight is not None
    row, column = torch.meshgrid(torch.arange(7.0).double(), torch.arange(5.0).double(), indexing="ij")  # (H, W)
    x, y = points[..., 0, None, None], points[..., 1, None, None]  # (B, T, 1, 1)
    bump = torch.exp(-((x - row) ** 2 + (y - column) ** 2) / bandwidth[:, None, None, None])  # (B, T, H, W)
    assert_matches(reference_rasterizer(case)(points, weight, bandwidth), torch.einsum("btc,bthw->bchw", weight, bump))


@pytest.mark.parametrize("case", RASTER_GRADCHECK_CASES, ids=lambda case: case.name)
def test_gradcheck(case: RasterCase, backend: str) -> None:
    points, weight, bandwidth = case.inputs()
    # The window jumps where a coordinate is half-way between pixels: keep 0.1 away from there.
    points = points.floor() + 0.6 + 0.8 * points.frac().abs()
    leaves = [tensor.requires_grad_() for tensor in (points, weight, bandwidth) if tensor is not None]
    rasterize = rasterizer(case, backend)
    assert torch.autograd.gradcheck(
        lambda points, *rest: rasterize(points, rest[0] if len(rest) == 2 else None, rest[-1]), leaves
    )


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_any_subset_of_inputs_can_want_gradients(wanted: tuple[int, ...], backend: str) -> None:
    inputs = SMALL.inputs()
    _, expected = value_and_gradients(rasterizer(SMALL, backend), inputs, torch.ones(4, 3, 9, 6))
    leaves = [
        tensor.clone().requires_grad_(position in wanted)
        for position, tensor in enumerate(inputs)
        if tensor is not None
    ]
    torch.autograd.backward(rasterizer(SMALL, backend)(*leaves).sum())
    for position, leaf in enumerate(leaves):
        if position in wanted:
            assert leaf.grad is not None
            assert leaf.grad.any()
            assert_matches(leaf.grad, expected[position])
        else:
            assert leaf.grad is None


def test_no_gradient_wanted_means_no_graph(backend: str) -> None:
    assert not rasterizer(SMALL, backend)(*SMALL.inputs()).requires_grad


def test_a_bandwidth_is_a_number_a_scalar_or_one_an_image(backend: str) -> None:
    points, weight, _ = SMALL.inputs()
    leaf = torch.full((4,), 2.5, dtype=torch.float64)
    expected, expected_gradients = value_and_gradients(rasterizer(SMALL, backend), (points, weight, leaf))
    scalar = torch.tensor(2.5, dtype=torch.float64)
    value, gradients = value_and_gradients(rasterizer(SMALL, backend), (points, weight, scalar))
    assert_same_bits(value, expected)
    assert_all_match(gradients[:2], expected_gradients[:2])
    assert_matches(gradients[2], expected_gradients[2].sum())
    number = fractalops.rbf_rasterize(points, (9, 6), bandwidth=2.5, weight=weight, backend=backend)
    assert_same_bits(number, expected)


# The window


def test_x_runs_along_rows(backend: str) -> None:
    image = fractalops.rbf_rasterize(torch.tensor([[[2.0, 5.0]]]), (4, 7), backend=backend)
    assert image[0].argmax() == 2 * 7 + 5
    assert image[0, 2, 5] == 1


def test_the_window_is_a_square_around_the_rounded_point(backend: str) -> None:
    """Radius ceil(sqrt(-ln 0.01)) = 3 around (10, 12): 10.5 is a tie and goes to the even 10."""
    image = fractalops.rbf_rasterize(torch.tensor([[[10.5, 12.4]]]), (24, 24), cutoff=1e-2, backend=backend)
    touched = torch.zeros(24, 24, dtype=torch.bool)
    touched[7:14, 9:16] = True
    assert torch.equal(image[0] > 0, touched)


def test_without_cutoff_every_pixel_is_touched(backend: str) -> None:
    image = fractalops.rbf_rasterize(torch.tensor([[[4.0, 4.0]]]).double(), 12, cutoff=None, backend=backend)
    assert (image > 0).all()


BAD = {
    "nan": (float("nan"), 3.0),
    "nan column": (3.0, float("nan")),
    "infinite": (float("inf"), 3.0),
    "minus infinite": (3.0, float("-inf")),
    "both": (float("nan"), float("inf")),
    "huge": (1e30, 3.0),
    "minus huge": (3.0, -1e30),
    "both huge": (1e30, -1e30),
    "past int32": (2.0**31, 3.0),
    "past int64": (3.0, 2.0**63),
    "far": (3.0, 500.0),
    "far above": (-400.0, 3.0),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("cutoff", [1e-6, None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_point_that_reaches_no_pixel_adds_nothing(
    bad: str, cutoff: float | None, dtype: torch.dtype, backend: str
) -> None:
    points, weight, bandwidth = SMALL.inputs(dtype)
    assert weight is not None
    case = RasterCase("bad", size=SMALL.size, cutoff=cutoff)
    rest = [position for position in range(9) if position not in (0, 4)]
    upstream = torch.randn(4, 3, 9, 6, dtype=torch.float64)
    points[:, (0, 4)] = torch.tensor(BAD[bad], dtype=dtype)
    value, (to_points, to_weight, to_bandwidth) = value_and_gradients(
        rasterizer(case, backend), (points, weight, bandwidth), upstream
    )
    kept = (points[:, rest].double(), weight[:, rest].double(), bandwidth.double())
    expected, expected_gradients = value_and_gradients(reference_rasterizer(case), kept, upstream)
    assert_matches(value, expected)
    assert_all_match([to_points[:, rest], to_weight[:, rest], to_bandwidth], expected_gradients)
    assert not to_points[:, (0, 4)].any()
    assert not to_weight[:, (0, 4)].any()


@pytest.mark.parametrize("where", ["points", "weight", "upstream"])
def test_a_bad_image_leaves_the_others_alone(where: str, backend: str) -> None:
    points, weight, bandwidth = SMALL.inputs()
    assert weight is not None
    upstream = torch.randn(4, 3, 9, 6, dtype=torch.float64)
    rasterize = rasterizer(SMALL, backend)
    expected, expected_gradients = value_and_gradients(rasterize, (points, weight, bandwidth), upstream)
    {"points": points, "weight": weight, "upstream": upstream}[where][1].fill_(float("nan"))
    value, gradients = value_and_gradients(rasterize, (points, weight, bandwidth), upstream)
    others = [0, 2, 3]
    assert_same_bits(value[others], expected[others])
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert_same_bits(actual[others], wanted[others])


# Memory layouts


def test_strided_and_expanded_inputs(backend: str) -> None:
    points, weight, bandwidth = SMALL.inputs()
    assert weight is not None
    strided = (
        points.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        weight.mT.contiguous().mT,
        torch.stack([bandwidth, bandwidth], dim=-1)[..., 0],
    )
    expanded = (points[:1].expand(4, 9, 2), weight[..., :1].expand(4, 9, 3), bandwidth[:1].expand(4))
    rasterize = rasterizer(SMALL, backend)
    for inputs in (strided, expanded):
        assert not any(tensor.is_contiguous() for tensor in inputs)
        expected, expected_gradients = value_and_gradients(rasterize, [tensor.contiguous() for tensor in inputs])
        value, gradients = value_and_gradients(rasterize, inputs)
        assert_same_bits(value, expected)
        assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("layout", ["expanded", "transposed", "every second"])
@pytest.mark.parametrize("channels", [None, 0, 3])
def test_gradient_of_any_layout(layout: str, channels: int | None, backend: str) -> None:
    case = RasterCase("layout", batch=4, channels=channels)
    shape = (4, *([channels] if channels else []), *case.height_width)
    upstream = {
        "expanded": torch.ones(1, dtype=torch.float64).expand(shape),
        "transposed": torch.randn(shape[::-1], dtype=torch.float64).permute(*range(len(shape))[::-1]),
        "every second": torch.randn(*shape[:-1], 2 * shape[-1], dtype=torch.float64)[..., ::2],
    }[layout]
    assert not upstream.is_contiguous()
    _, gradients = value_and_gradients(rasterizer(case, backend), case.inputs(), upstream)
    _, expected = value_and_gradients(rasterizer(case, backend), case.inputs(), upstream.contiguous())
    assert_all_match(gradients, expected)


# Determinism


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",
    [
        RasterCase("published", batch=50, points=300, size=32, channels=0),
        RasterCase("no weight", batch=7, points=300, size=32),
        RasterCase("color", batch=3, points=1000, size=(63, 100), channels=3),
        RasterCase("one large image", batch=1, points=20000, size=(300, 200)),
        RasterCase("one large image, color", batch=1, points=20000, size=(300, 200), channels=3),
        RasterCase("one image, exact", batch=1, points=500, size=(63, 100), cutoff=None),
    ],
    ids=lambda case: case.name,
)
def test_bits_do_not_depend_on_threads_or_repeats(case: RasterCase, dtype: torch.dtype, native: str) -> None:
    inputs = case.inputs(dtype)
    results = []
    for threads in (1, 2, 3, 3):
        torch.set_num_threads(threads)
        results.append(value_and_gradients(rasterizer(case, native), inputs))
    for value, gradients in results[1:]:
        assert_same_bits(value, results[0][0])
        assert_all_same_bits(gradients, results[0][1])


def test_one_large_image_matches_the_reference(backend: str) -> None:
    case = RasterCase("one large image", batch=1, points=5000, size=(300, 200), channels=2)
    inputs = case.inputs(torch.float32)
    value, gradients = value_and_gradients(rasterizer(case, backend), inputs)
    exact = [tensor.double() for tensor in inputs if tensor is not None]
    expected, expected_gradients = value_and_gradients(reference_rasterizer(case), exact)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(9, 7), (20, 33), (5, 100)], ids=str)
def test_windows_of_different_widths_in_one_batch(size: tuple[int, int], dtype: torch.dtype, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4, 30, 2, generator=generator, dtype=torch.float64) * torch.tensor(size)
    bandwidth = torch.tensor([1e-3, 0.25, 4.0, 1e4], dtype=torch.float64)
    seed = torch.randn(4, *size, generator=generator, dtype=torch.float64)

    def run(dtype: torch.dtype, backend: str) -> tuple[Tensor, ...]:
        inputs = [each.to(dtype).requires_grad_() for each in (points.to(dtype), bandwidth)]
        image = fractalops.rbf_rasterize(inputs[0], size, bandwidth=inputs[1], backend=backend)
        return image.detach(), *torch.autograd.grad(image, inputs, seed.to(dtype))

    if dtype == torch.float32:  # the points that the backend sees, in the reference too
        points = points.float().double()
        bandwidth = bandwidth.float().double()
    for one, other in zip(run(dtype, backend), run(torch.float64, "reference"), strict=True):
        for image, expected in zip(one, other, strict=True):
            # A bandwidth of 1e-3 multiplies the rounding of coordinates up to 100 by a thousand.
            assert_matches(image, expected, tolerance=100 * TOLERANCES[dtype])


def test_tensors_without_values_have_their_shapes_told() -> None:
    points = torch.empty(2, 3, 2, device="meta")
    assert fractalops.rbf_rasterize(points, (8, 5)).shape == (2, 8, 5)
    assert fractalops.rbf_rasterize(points, 8, weight=torch.empty(2, 3, 4, device="meta")).shape == (2, 4, 8, 8)
