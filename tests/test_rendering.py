"""Tests of `fractalops.render`: values by the formula, viewports, gradients, channels, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import rendering
from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.ifs import IFS
from fractalops.ops.fixed_point import fixed_point
from fractalops.placement import bounding_box, fit_to_frame, fold_viewport
from fractalops.reference.affine_chain import affine_chain as reference_chain
from tests.support.cases import ChainCase, seeded, value_and_gradients
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

VIEWPORT = (-5.0, -5.0, 5.0, 5.0)
TALL = (-2.0, -1.0, 1.5, 3.0)
SIZES = [16, (16, 9), (7, 12), (1, 9), (9, 1), (1, 1)]
SMALL = ChainCase("small", batch=4, points=6, maps=3)


def pixels(points: Tensor, size: int | tuple[int, int], viewport: tuple[float, ...]) -> Tensor:
    """Return points (..., 2) in pixels. The viewport's corners are the centers of the corner pixels."""
    height, width = (size, size) if isinstance(size, int) else size
    low, high = points.new_tensor(viewport[:2]), points.new_tensor(viewport[2:])
    return (points - low) / (high - low) * points.new_tensor([height - 1, width - 1])


def drawn(points: Tensor, size: int | tuple[int, int], weight: Tensor, bandwidth: float = 1.0) -> Tensor:
    """Return images (B, C, H, W) of points (B, T, 2) in pixels with weight (B, T, C), by the formula."""
    height, width = (size, size) if isinstance(size, int) else size
    row, column = torch.arange(height).to(points), torch.arange(width).to(points)
    x, y = points[..., 0, None, None], points[..., 1, None, None]  # (B, T, 1, 1)
    bump = torch.exp(-((x - row[:, None]) ** 2 + (y - column) ** 2) / bandwidth)  # (B, T, H, W)
    return torch.einsum("btc,bthw->bchw", weight, bump)


def by_hand(
    inputs: tuple[Tensor, ...], size: int | tuple[int, int], viewport: tuple[float, ...], bandwidth: float = 1.0
) -> Tensor:
    """Return images by chain, viewport, rasterizer and clamp, one after the other in float64."""
    matrix, offset, index, start = inputs
    points = reference_chain(matrix.double(), offset.double(), index, start.double())  # (B, T, 2)
    ones = torch.ones(*points.shape[:2], 1).double()  # (B, T, 1)
    return drawn(pixels(points, size, viewport), size, ones, bandwidth)[:, 0].clamp(0, 1)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("viewport", [VIEWPORT, TALL, [0, -2, 3, 3]], ids=["square", "tall", "list of ints"])
@pytest.mark.parametrize("size", SIZES)
def test_is_chain_viewport_raster_and_clamp(
    size: int | tuple[int, int], viewport: Any, dtype: torch.dtype, backend: str
) -> None:
    matrix, offset, index, start = SMALL.inputs(dtype)
    image = fractalops.render(matrix, offset, index, size, start=start, viewport=viewport, bandwidth=1.5, cutoff=None)
    assert image.dtype == dtype
    # The largest errors seen are 3e-6 and 6e-15: folding a viewport into the maps rounds a few more products.
    tolerance = 3 * TOLERANCES[dtype]
    assert_matches(image, by_hand((matrix, offset, index, start), size, viewport, 1.5), tolerance)


def test_the_cutoff_leaves_out_less_than_it_says(backend: str) -> None:
    inputs = SMALL.inputs()
    matrix, offset, index, start = inputs
    image = fractalops.render(matrix, offset, index, 16, start=start, cutoff=1e-2)
    difference = (image - by_hand(inputs, 16, VIEWPORT)).abs().max().item()
    assert 0 < difference < 1e-2 * SMALL.points


def test_concatenated_systems_are_the_systems_drawn_alone(backend: str) -> None:
    cases = [ChainCase("few maps", batch=2, points=20, maps=2), ChainCase("more", batch=3, points=20, maps=5)]
    parts = [case.inputs() for case in cases]
    matrix, offset = (torch.cat([part[i] for part in parts]) for i in (0, 1))  # (7, 2, 2), (7, 2)
    index = torch.cat([parts[0][2], parts[1][2] + 2])  # (5, 20)
    starts = [fixed_point(part[0][0], part[1][0]).expand(len(part[2]), 2) for part in parts]
    joined = fractalops.render(matrix, offset, index, (9, 12), start=torch.cat(starts))
    alone = [fractalops.render(*part[:3], (9, 12)) for part in parts]
    assert_matches(joined, torch.cat(alone))


@pytest.mark.parametrize("size", [(16, 16), (16, 9), (2, 5)])
@pytest.mark.parametrize("viewport", [VIEWPORT, TALL])
def test_a_folded_viewport_gives_the_points_in_pixels(
    size: tuple[int, int], viewport: tuple[float, float, float, float]
) -> None:
    matrix, offset, index, start = ChainCase("long", batch=3, points=300).inputs()
    folded = fold_viewport(matrix, offset, start, size, viewport)
    assert [tensor.shape for tensor in folded] == [matrix.shape, offset.shape, start.shape]
    expected = pixels(reference_chain(matrix, offset, index, start), size, viewport)
    assert_matches(reference_chain(folded[0], folded[1], index, folded[2]), expected)


def test_folding_with_one_scale_leaves_the_matrices_alone() -> None:
    matrix, offset, _, start = SMALL.inputs()
    assert fold_viewport(matrix, offset, start, (16, 16), VIEWPORT)[0] is matrix


def test_a_start_of_none_is_the_fixed_point_of_map_0(backend: str) -> None:
    matrix, offset, index, _ = SMALL.inputs()
    start = torch.linalg.solve(torch.eye(2).double() - matrix[0], offset[0])
    expected = by_hand((matrix, offset, index, start.expand(len(index), 2)), 9, VIEWPORT)
    assert_matches(fractalops.render(matrix, offset, index, 9, cutoff=None), expected)
    expected = fractalops.render(matrix, offset, index, 9, start=start)
    assert_matches(fractalops.render(matrix, offset, index, 9), expected)


def test_no_gradient_reaches_the_maps_through_a_start_of_none(backend: str) -> None:
    matrix, offset, index, _ = SMALL.inputs()

    def gradients(start: Tensor | None) -> list[Tensor]:
        def run(matrix: Tensor, offset: Tensor) -> Tensor:
            return fractalops.render(matrix, offset, index, 9, start=start)

        return value_and_gradients(run, (matrix, offset))[1]

    assert_all_match(gradients(None), gradients(fixed_point(matrix[0], offset[0])))


def test_clamp_limits_the_image_and_stops_its_gradient(backend: str) -> None:
    matrix = torch.zeros(1, 2, 2)
    offset = torch.zeros(1, 2, requires_grad=True)
    index = torch.zeros(1, 3, dtype=torch.uint8)
    arguments: dict[str, Any] = {"viewport": (0, 0, 4, 4)}
    raw = fractalops.render(matrix, offset, index, 5, clamp=False, **arguments)
    clamped = fractalops.render(matrix, offset, index, 5, **arguments)
    assert raw[0, 0, 0] == 3
    assert_same_bits(clamped, raw.clamp(0, 1))
    assert raw[0, 0, 1] > 1
    (gradient,) = torch.autograd.grad(clamped[0, 0, :2].sum(), offset)
    assert not gradient.any()
    negative = fractalops.render(matrix, offset, index, 5, weight=-torch.ones(1, 3), **arguments)
    assert not negative.any()


def test_weights_are_channels(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    weight = torch.rand(4, 6, 3, generator=seeded(0), dtype=torch.float64) / 6
    arguments: dict[str, Any] = {"start": start, "cutoff": None}
    color = fractalops.render(matrix, offset, index, (9, 12), weight=weight, **arguments)
    points = pixels(reference_chain(matrix, offset, index, start), (9, 12), VIEWPORT)
    assert_matches(color, drawn(points, (9, 12), weight).clamp(0, 1))
    gray = fractalops.render(matrix, offset, index, (9, 12), weight=weight[..., 0], **arguments)
    assert gray.shape == (4, 9, 12)
    assert_matches(gray, color[:, 0])


# The fitted viewport


@pytest.mark.parametrize("viewport", ["stretch", "fit"])
@pytest.mark.parametrize("size", [(16, 16), (16, 9), (9, 30), (1, 9), (1, 1)])
def test_a_fitted_viewport_is_the_bounding_box(size: tuple[int, int], viewport: Any, backend: str) -> None:
    """If stretched, its corners are on the corner pixels. If it keeps its proportions, it is centered."""
    matrix, offset, index, start = ChainCase("scattered", batch=3, points=40).inputs()
    image = fractalops.render(matrix, offset, index, size, start=start, viewport=viewport, cutoff=None)
    points = reference_chain(matrix, offset, index, start)
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)  # (B, 1, 2)
    last = points.new_tensor([side - 1 for side in size])  # (2,)
    scale = last / (high - low)  # (B, 1, 2)
    if viewport == "fit":
        scale = scale.amin(dim=2, keepdim=True)
    expected = drawn((points - (low + high) / 2) * scale + last / 2, size, torch.ones(3, 40, 1).double())
    assert_matches(image, expected[:, 0].clamp(0, 1))


def test_stretching_draws_a_single_point_in_the_middle(backend: str) -> None:
    matrix = torch.zeros(1, 2, 2)
    offset = torch.tensor([[300.0, -7.0]])
    index = torch.zeros(2, 5, dtype=torch.uint8)
    image = fractalops.render(matrix, offset, index, (9, 5), viewport="stretch", weight=torch.full((2, 5), 0.1))
    middle = drawn(torch.tensor([[[4.0, 2.0]]]).double(), (9, 5), torch.full((1, 1, 1), 0.5).double())[0]
    assert_matches(image, middle.expand(2, 9, 5), 1e-5)


def test_stretching_centers_the_axis_that_is_flat(backend: str) -> None:
    matrix = torch.tensor([[[0.5, 0.0], [0.0, 0.0]]])
    offset = torch.tensor([[0.0, 3.0]])
    index = torch.zeros(1, 4, dtype=torch.uint8)
    arguments: dict[str, Any] = {"start": torch.tensor([8.0, 3.0]), "viewport": "stretch"}
    image = fractalops.render(matrix, offset, index, (7, 5), bandwidth=0.1, **arguments)  # x = 4, 2, 1, 0.5
    assert_same_bits(image, image.flip(2))
    assert image[0, 6, 2] == 1
    assert image[0, 0, 2] == 1


def test_stretching_leaves_points_that_are_not_drawn_out_of_the_box(backend: str) -> None:
    """A point with one infinite coordinate is not drawn, so its other coordinate does not count."""
    offset = torch.tensor([[0.0, 0.0], [1.0, 2.0], [math.inf, 50.0]])
    index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    weight = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    image = fractalops.render(
        torch.zeros(3, 2, 2), offset, index, 8, start=torch.zeros(2), viewport="stretch", weight=weight
    )
    assert image[0].max() == 1
    assert_same_bits(image[1], image[0])


def test_stretching_of_nothing_but_nan_is_a_black_image(backend: str) -> None:
    index = torch.zeros(2, 3, dtype=torch.uint8)
    offset = torch.full((1, 2), math.nan, requires_grad=True)
    image = fractalops.render(torch.zeros(1, 2, 2), offset, index, 8, viewport="stretch")
    assert not image.any()
    image.sum().backward()
    assert offset.grad is not None


def test_no_gradient_flows_through_the_fitted_box(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    points = reference_chain(matrix, offset, index, start)
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)  # (B, 1, 2), constants
    ones = torch.ones(4, 6, 1).double()

    def by_hand(matrix: Tensor, offset: Tensor, start: Tensor) -> Tensor:
        moved = reference_chain(matrix, offset, index, start)
        return drawn((moved - low) / (high - low) * 8, 9, ones)[:, 0]

    def run(matrix: Tensor, offset: Tensor, start: Tensor) -> Tensor:
        return fractalops.render(matrix, offset, index, 9, start=start, viewport="stretch", clamp=False, cutoff=None)

    value, gradients = value_and_gradients(run, (matrix, offset, start))
    expected, expected_gradients = value_and_gradients(by_hand, (matrix, offset, start))
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("viewport", ["stretch", "fit"])
def test_a_drawing_for_people_shows_the_same_part_of_the_plane(viewport: Any) -> None:
    """Viewport names mean the same in `render` and in drawings. This system is three times as long as it is wide."""
    system = IFS(1, 3, parametrization="matrix", viewport=viewport, generator=torch.Generator())
    with torch.no_grad():
        system.matrix.copy_(0.5 * torch.eye(2))
        system.offset.copy_(torch.tensor([[0.0, 0.0], [0.75, 0.0], [0.0, 0.25]]))
    learned = system(33, points=3000, generator=seeded(0))[0, 0] > 0.2
    drawing = draw_high_resolution(system, (33, 33), points=3000, generator=seeded(0))[0] > 0.2
    assert (learned == drawing).float().mean() > 0.95
    rows, columns = (torch.where(drawing.any(dim=1 - axis))[0] for axis in (0, 1))
    assert (rows[0], rows[-1]) == (0, 32)
    left, right = (0, 32) if viewport == "stretch" else (11, 21)
    assert abs(int(columns[0]) - left) <= 1
    assert abs(int(columns[-1]) - right) <= 1


@pytest.mark.parametrize("keep_proportions", [True, False])
def test_a_frame_leaves_a_margin_and_takes_clouds_of_any_shape(keep_proportions: bool) -> None:
    clouds = torch.rand(2, 5, 7, 2, generator=seeded(0)) * torch.tensor([4.0, 1.0])
    clouds[1, 2, 3] = torch.tensor([math.nan, 900.0])
    placed = fit_to_frame(clouds, (21, 41), keep_proportions=keep_proportions, margin=0.1)(clouds)
    assert placed.shape == clouds.shape
    low, high = (bound.tolist() for bound in bounding_box(placed))
    for (top, left), (bottom, right) in zip(low, high, strict=True):
        assert (top, bottom) == (pytest.approx(2, abs=1e-4), pytest.approx(18, abs=1e-4))
        assert left + right == pytest.approx(40, abs=1e-4)
        assert keep_proportions == (right - left < 30)


# Gradients, torch.compile, bad numbers


@pytest.mark.parametrize(("size", "viewport"), [((6, 5), TALL), ((5, 5), VIEWPORT), ((1, 5), VIEWPORT)], ids=str)
def test_gradcheck(size: tuple[int, int], viewport: Any, backend: str) -> None:
    matrix, offset, index, start = ChainCase("tiny", batch=2, points=4, maps=2).inputs()
    weight = torch.rand(2, 4, 2, generator=seeded(0), dtype=torch.float64) * 0.2
    bandwidth = torch.tensor([1.5, 2.0], dtype=torch.float64)

    def run(matrix: Tensor, offset: Tensor, start: Tensor, weight: Tensor, bandwidth: Tensor) -> Tensor:
        arguments: dict[str, Any] = {"start": start, "weight": weight, "bandwidth": bandwidth}
        return fractalops.render(matrix, offset, index, size, viewport=viewport, cutoff=None, **arguments)

    inputs = [tensor.requires_grad_() for tensor in (matrix, offset, start, weight, bandwidth)]
    image = run(*inputs)
    assert image.min() > 0  # the clamp has no effect here
    assert image.max() < 1
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("start_is_given", [True, False])
@pytest.mark.parametrize("viewport", [TALL, "stretch", "fit"])
def test_compile(viewport: Any, start_is_given: bool, backend: str) -> None:
    torch._dynamo.reset()
    matrix, offset, index, start = SMALL.inputs()

    def run(matrix: Tensor, offset: Tensor, start: Tensor) -> Tensor:
        given = start if start_is_given else None
        return fractalops.render(matrix, offset, index, (9, 7), start=given, viewport=viewport) + 0 * start.sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    value, gradients = value_and_gradients(compiled, (matrix, offset, start))
    expected, expected_gradients = value_and_gradients(run, (matrix, offset, start))
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("viewport", [TALL, "stretch", "fit"])
@pytest.mark.parametrize("size", SIZES)
def test_no_number_is_copied_from_the_host(
    size: int | tuple[int, int], viewport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a copy waits for a GPU, and no graph can capture it. "meta" replaces the GPU."""
    monkeypatch.setattr(Tensor, "new_tensor", None)
    monkeypatch.setattr(rendering, "run_rbf_rasterize", lambda points, *arguments: points[:, None])
    matrix, offset, index, start = (tensor.to("meta") for tensor in SMALL.inputs())
    points = fractalops.render(matrix, offset, index, size, start=start, viewport=viewport)
    assert points.device.type == "meta"


@pytest.mark.parametrize("viewport", [VIEWPORT, "stretch", "fit"])
@pytest.mark.parametrize("factor", [3.0, 1e10, 1e38])
def test_exploding_maps_give_finite_images(factor: float, viewport: Any, backend: str) -> None:
    generator = seeded(0)
    matrix = (factor * torch.randn(3, 2, 2, generator=generator)).requires_grad_()
    offset = torch.randn(3, 2, generator=generator)
    index = torch.randint(3, (4, 200), generator=generator)
    image = fractalops.render(matrix, offset, index, 12, viewport=viewport)
    assert image.isfinite().all()
    image.sum().backward()


def test_an_exploding_sequence_leaves_its_neighbors_alone(backend: str) -> None:
    matrix, offset, index, start = SMALL.inputs()
    expected = fractalops.render(matrix, offset, index, 12, start=start)
    start[1] = math.inf
    image = fractalops.render(matrix, offset, index, 12, start=start)
    assert not image[1].any()
    assert_same_bits(image[[0, 2, 3]], expected[[0, 2, 3]])


# Errors

MATRIX, OFFSET, INDEX, START = SMALL.inputs()
ERRORS: list[tuple[type[Exception], str, str, dict[str, Any]]] = [
    (TypeError, "render", "matrix", {"matrix": [[1.0]]}),
    (TypeError, "render", "matrix", {"matrix": MATRIX.long()}),
    (ValueError, "render", "matrix", {"matrix": MATRIX[0]}),
    (ValueError, "render", "matrix", {"matrix": torch.zeros(3, 3, 3).double()}),
    (ValueError, "render", "matrix", {"matrix": MATRIX[:0], "offset": OFFSET[:0]}),
    (ValueError, "render", "matrix", {"matrix": MATRIX[:0], "offset": OFFSET[:0], "start": None}),
    (TypeError, "render", "offset", {"offset": None}),
    (TypeError, "render", "offset", {"offset": OFFSET.float()}),
    (ValueError, "render", "offset", {"offset": OFFSET[:2]}),
    (ValueError, "render", "offset", {"offset": OFFSET[0]}),
    (ValueError, "render", "offset", {"offset": OFFSET.to("meta"), "start": None}),
    (TypeError, "render", "index", {"index": [[0]]}),
    (ValueError, "render", "index", {"index": INDEX[0]}),
    (ValueError, "render", "index", {"index": INDEX[:, :0]}),
    (IndexError, "affine_chain", "index", {"index": INDEX + 1}),
    (ValueError, "render", "index", {"index": INDEX.to("meta")}),
    (TypeError, "render", "index", {"index": INDEX.double()}),
    (TypeError, "render", "start", {"start": [0.0, 0.0]}),
    (TypeError, "render", "start", {"start": START.float()}),
    (TypeError, "render", "start", {"start": START.long()}),
    (ValueError, "render", "start", {"start": START.to("meta")}),
    (ValueError, "render", "start", {"start": START[:1]}),
    (ValueError, "render", "start", {"start": START[:, :1]}),
    (ValueError, "render", "start", {"start": START[0, 0]}),
    (TypeError, "render", "size", {"size": 3.5}),
    (TypeError, "render", "size", {"size": (3, 4, 5)}),
    (ValueError, "render", "size", {"size": 0}),
    (ValueError, "render", "viewport", {"viewport": "fill"}),
    (ValueError, "render", "viewport", {"viewport": None}),
    (ValueError, "render", "viewport", {"viewport": (0, 0, 1)}),
    (ValueError, "render", "viewport", {"viewport": (1, 0, 1, 1)}),
    (ValueError, "render", "viewport", {"viewport": (0, 2, 1, 1)}),
    (ValueError, "render", "viewport", {"viewport": (0, 0, math.nan, 1)}),
    (ValueError, "render", "viewport", {"viewport": (0, 0, math.inf, 1)}),
    (ValueError, "render", "viewport", {"viewport": ("0", 0, 1, 1)}),
    (ValueError, "render", "viewport", {"viewport": torch.tensor(VIEWPORT)}),
    (ValueError, "render", "bandwidth", {"bandwidth": math.nan}),
    (ValueError, "render", "bandwidth", {"bandwidth": torch.zeros(4).double()}),
    (ValueError, "render", "weight", {"weight": torch.ones(4, 5).double()}),
    (ValueError, "render", "cutoff", {"cutoff": 1.0}),
]


@pytest.mark.parametrize("viewport", [VIEWPORT, "stretch", "fit"])
@pytest.mark.parametrize(("error", "function", "argument", "changes"), ERRORS)
def test_names_the_argument_and_what_it_got(
    error: type[Exception], function: str, argument: str, changes: dict[str, Any], viewport: Any, backend: str
) -> None:
    arguments = {"matrix": MATRIX, "offset": OFFSET, "index": INDEX, "size": 9, "start": START, "viewport": viewport}
    with pytest.raises(error, match=rf"^{function}: {argument} must .+, got .+"):
        fractalops.render(**arguments | changes)


def test_autocast_changes_nothing(backend: str) -> None:
    matrix, offset = 0.4 * torch.randn(10, 2, 2, generator=seeded(0)), torch.ones(10, 2)
    index = torch.randint(10, (3, 50), generator=seeded(1))
    for size, weight in ((32, None), ((40, 20), torch.ones(3, 50, 2))):
        expected = fractalops.render(matrix, offset, index, size, weight=weight)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = fractalops.render(matrix, offset, index, size, weight=weight)
        assert_same_bits(image, expected)
