"""Tests of `fractalops.render` with the blend "mean": values and gradients by the formula, memory, errors."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fractalops
from fractalops.reference.affine_chain import affine_chain as reference_chain
from tests.support.cases import exact, seeded, value_and_gradients
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches
from tests.test_rendering_color import CASES, SMALL, VIEWPORT, ColorCase

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# The source of a point's color: none, a weight (B, T), weights (B, T, C), or the color (N, C) of its map.
Kind = Literal["white", "weight", "weights", "color"]
KINDS: tuple[Kind, ...] = ("white", "weight", "weights", "color")

BACKGROUND = {"background": 0.25, "background_weight": 0.3}


def inputs_of(case: ColorCase, kind: Kind, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Return matrix, offset, index, start, bandwidths (B,), and colors, if any, also outside [0, 1]."""
    matrix, offset, index, start, color = case.inputs(dtype)
    bandwidth = (torch.rand(case.batch, generator=seeded(4), dtype=torch.float64) + 0.7).to(dtype)
    shape = {"weight": index.shape, "weights": (*index.shape, case.channels)}.get(kind)
    if shape is not None:
        color = torch.randn(shape, generator=seeded(3), dtype=torch.float64).to(dtype)
    return matrix, offset, index, start, bandwidth, *([] if kind == "white" else [color])


def renderer(case: ColorCase, kind: Kind, **options: Any) -> Any:
    """Return `fractalops.render` with the blend "mean", without clamp and cutoff."""
    settings: dict[str, Any] = {"viewport": VIEWPORT, "clamp": False, "cutoff": None} | BACKGROUND | options

    def run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, bandwidth: Any, *color: Tensor) -> Tensor:
        own = {"color" if kind == "color" else "weight": color[0]} if color else {}
        return fractalops.render(
            matrix, offset, index, case.size, start=start, bandwidth=bandwidth, blend="mean", **own, **settings
        )

    return run


def by_hand(case: ColorCase, kind: Kind, background: float, background_weight: float) -> Any:
    """Return the same by dense bumps (B, T, H, W): sums of the weights (c, 1), and the background."""
    height, width = case.height_width

    def run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, bandwidth: Any, *color: Tensor) -> Tensor:
        points = reference_chain(matrix, offset, index, start)  # (B, T, 2)
        low, high = points.new_tensor(VIEWPORT[:2]), points.new_tensor(VIEWPORT[2:])
        pixels = (points - low) / (high - low) * (points.new_tensor([height, width]) - 1)
        rows = pixels[..., 0, None] - torch.arange(height)  # (B, T, H)
        columns = pixels[..., 1, None] - torch.arange(width)  # (B, T, W)
        tau = bandwidth[:, None, None, None]  # (B, 1, 1, 1)
        bumps = torch.exp(-(rows[..., None].square() + columns[:, :, None].square()) / tau)  # (B, T, H, W)
        if kind == "white":
            own = torch.ones_like(points[..., :1])
        else:
            own = color[0][index.long()] if kind == "color" else color[0]  # (B, T, C), or (B, T)
            own = own[..., None] if kind == "weight" else own
        sums = torch.stack([(own[..., c, None, None] * bumps).sum(1) for c in range(own.shape[2])], 1)  # (B, C, H, W)
        weight = background_weight * case.points * math.pi * tau / (height * width)
        image = (sums + weight * background) / (bumps.sum(1, keepdim=True) + weight)
        return image[:, 0] if kind in ("white", "weight") else image

    return run


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients_are_those_of_the_formula(
    case: ColorCase, kind: Kind, dtype: torch.dtype, backend: str
) -> None:
    inputs = inputs_of(case, kind, dtype)
    actual, gradients = value_and_gradients(renderer(case, kind), inputs)
    channels = () if kind in ("white", "weight") else (case.channels,)
    assert actual.shape == (case.batch, *channels, *case.height_width)
    expected, expected_gradients = value_and_gradients(by_hand(case, kind, **BACKGROUND), exact(inputs))
    assert_matches(actual, expected, 3 * TOLERANCES[dtype])
    if kind != "white":
        assert_matches(gradients[4], expected_gradients[4], 3 * TOLERANCES[dtype])
    first = 0 if dtype == torch.float64 else 3  # the maps' gradients contain the rounding of whole chains
    for one, other in zip(gradients[first:4], expected_gradients[first:4], strict=True):
        assert one.dtype == dtype
        # Moving points or widening bumps changes both sums alike, so that most digits cancel.
        assert_matches(one, other, 20 * TOLERANCES[dtype])


def test_a_pixel_without_points_shows_the_background(backend: str) -> None:
    matrix, offset, index, start, bandwidth, color = inputs_of(SMALL, "color")
    far = renderer(SMALL, "color", viewport=(50.0, 50.0, 51.0, 51.0), cutoff=1e-6)
    image = far(matrix, offset, index, start, bandwidth, color)
    torch.testing.assert_close(image, torch.full_like(image, 0.25))


def test_a_mean_lies_between_the_colors_and_the_background(backend: str) -> None:
    case = ColorCase("many", points=300)
    *rest, color = inputs_of(case, "color")
    image = renderer(case, "color", background=0.5)(*rest, color.clamp(0.3, 0.8))
    assert 0.3 <= image.min() < 0.5
    assert 0.5 < image.max() <= 0.8


@pytest.mark.parametrize("bandwidth", [0.5, 3.0])
def test_a_number_is_the_bandwidth_of_all_images(bandwidth: float, backend: str) -> None:
    matrix, offset, index, start, _, color = inputs_of(SMALL, "color")
    run = renderer(SMALL, "color")
    each = torch.full((SMALL.batch,), bandwidth, dtype=torch.float64)
    torch.testing.assert_close(
        run(matrix, offset, index, start, bandwidth, color), run(matrix, offset, index, start, each, color)
    )


def test_the_number_of_points_does_not_change_the_image() -> None:
    """This is true except for noise. The image is a square of four colors in the middle of the viewport."""
    matrix = torch.eye(2).expand(4, 2, 2) / 2
    offset = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    color = torch.tensor([[0.2, 1.0], [0.4, 0.0], [0.6, 0.5], [1.0, 0.3]])
    arguments: dict[str, Any] = {"color": color, "viewport": (-1.5, -1.5, 1.5, 1.5), "clamp": False}

    def drawn(points: int, blend: Any) -> Tensor:  # (2, 24, 24)
        index = torch.randint(4, (8, points), generator=seeded(points))
        return fractalops.render(matrix, offset, index, 24, blend=blend, **arguments).mean(0)

    few, many = drawn(16_000, "mean"), drawn(128_000, "mean")
    assert (few - many).abs().max() < 0.05
    assert (few - many).abs().mean() < 0.01
    assert (drawn(16_000, "add") - drawn(128_000, "add")).abs().max() > 10  # "add" does change
    assert many[:, 7, 7].tolist() == pytest.approx(color[3].tolist(), abs=0.1)  # little black background


def test_clamp_limits_the_image(backend: str) -> None:
    inputs = inputs_of(SMALL, "color")
    free = renderer(SMALL, "color")(*inputs)
    assert free.min() < 0
    assert torch.equal(renderer(SMALL, "color", clamp=True)(*inputs), free.clamp(0, 1))


@pytest.mark.parametrize("viewport", ["stretch", "fit"])
def test_a_fitted_viewport(viewport: Any, backend: str) -> None:
    """The image follows from that of "add" and the background for any viewport."""
    matrix, offset, index, start, *_ = inputs_of(SMALL, "white")
    arguments: dict[str, Any] = {"start": start, "viewport": viewport, "clamp": False}
    sums = fractalops.render(matrix, offset, index, 9, **arguments)
    mean = fractalops.render(matrix, offset, index, 9, blend="mean", **arguments, **BACKGROUND)
    weight = 0.3 * SMALL.points * math.pi / 81
    torch.testing.assert_close(mean, (sums + weight * 0.25) / (sums + weight))


def test_points_that_are_not_drawn_leave_the_gradient_finite(backend: str) -> None:
    matrix, offset, index, start, bandwidth, color = inputs_of(SMALL, "color")
    offset[2] = torch.inf
    image, gradients = value_and_gradients(renderer(SMALL, "color"), (matrix, offset, index, start, bandwidth, color))
    assert image.isfinite().all()
    assert gradients[-1].isfinite().all()
    assert not gradients[-1][2].any()


# Transformations


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 5), (1, 5)])
def test_gradcheck(size: tuple[int, int], kind: Kind, backend: str) -> None:
    case = ColorCase("tiny", batch=2, points=4, maps=2, channels=2, size=size)
    matrix, offset, index, *others = inputs_of(case, kind)
    leaves = [tensor.requires_grad_() for tensor in (matrix, offset, *others)]
    run = renderer(case, kind)
    assert torch.autograd.gradcheck(lambda m, o, *rest: run(m, o, index, *rest), leaves)


def test_compile(backend: str) -> None:
    torch._dynamo.reset()
    inputs = inputs_of(SMALL, "color")
    compiled = torch.compile(renderer(SMALL, "color"), fullgraph=True, backend="aot_eager")
    value, gradients = value_and_gradients(compiled, inputs)
    expected, expected_gradients = value_and_gradients(renderer(SMALL, "color"), inputs)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("mapped", [(2,), (5,), (2, 4, 5)], ids=["index", "color", "index, bandwidth and color"])
def test_vmap(mapped: tuple[int, ...], backend: str) -> None:
    inputs = inputs_of(SMALL, "color")
    lanes = [list(inputs) for _ in range(3)]
    for number, lane in enumerate(lanes):
        for place in mapped:
            lane[place] = inputs[place].flip(0) if number == 1 else inputs[place].roll(number, 0)
    stacked = [torch.stack(each) if place in mapped else each[0] for place, each in enumerate(zip(*lanes, strict=True))]
    dims = tuple(0 if place in mapped else None for place in range(len(inputs)))
    run = renderer(SMALL, "color")

    def loop(*inputs: Tensor) -> Tensor:
        return torch.stack([run(*(x[i] if p in mapped else x for p, x in enumerate(inputs))) for i in range(3)])

    value, gradients = value_and_gradients(torch.vmap(run, in_dims=dims), stacked)
    expected, expected_gradients = value_and_gradients(loop, stacked)
    assert_matches(value, expected)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert_matches(one, other, 3 * TOLERANCES[torch.float64])


def test_func_grad(backend: str) -> None:
    *rest, color = inputs_of(SMALL, "color")

    def loss(color: Tensor) -> Tensor:
        return renderer(SMALL, "color")(*rest, color).square().sum()

    leaf = color.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    assert_matches(torch.func.grad(loss)(color), expected)


class Largest(TorchDispatchMode):
    """A mode that records the number of elements of the largest result of an op."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        sizes = [tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_as_large_as_all_bumps(kind: Kind, native: str) -> None:
    case = ColorCase("large", batch=2, points=2000, channels=3, size=(40, 50))
    inputs = inputs_of(case, kind, torch.float32)
    with Largest() as largest:
        value_and_gradients(renderer(case, kind, cutoff=1e-6), inputs)
    assert 0 < largest.numbers <= 2 * 2000 * 4  # the images or the points; all bumps have 2 * 2000 * 2000


# Errors


@pytest.mark.parametrize(
    ("error", "argument", "changes"),
    [
        (ValueError, "blend", {"blend": "max"}),
        (ValueError, "blend", {"blend": None}),
        *((ValueError, "background", {"background": value}) for value in (-0.1, 1.1, math.nan)),
        (TypeError, "background", {"background": "black"}),
        (TypeError, "background", {"background": torch.tensor(0.5)}),
        *((ValueError, "background_weight", {"background_weight": value}) for value in (0, -1.0, math.nan, math.inf)),
        (TypeError, "background_weight", {"background_weight": None}),
    ],
    ids=str,
)
def test_names_the_argument_and_what_it_got(
    error: type[Exception], argument: str, changes: dict[str, Any], backend: str
) -> None:
    matrix, offset, index, start, *_ = inputs_of(SMALL, "white")
    with pytest.raises(error, match=rf"^render: {argument} must .+, got .+"):
        fractalops.render(matrix, offset, index, 9, start=start, **({"blend": "mean"} | changes))
    with pytest.raises(error, match=rf"^IFS: {argument} must .+, got .+"):
        fractalops.IFS(**({"blend": "mean"} | changes))
