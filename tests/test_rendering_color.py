"""Tests of `fractalops.render` with a color per map: values and gradients by the formula, transformations, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.reference.affine_chain import affine_chain as reference_chain
from fractalops.reference.rbf_rasterize import rbf_rasterize as reference_rasterizer
from tests.support.cases import ChainCase, exact, seeded, value_and_gradients
from tests.support.requirements import skip_or_fail
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")

VIEWPORT = (-4.0, -3.0, 2.5, 3.0)

# matrix, offset, index, start, color -> images (B, C, H, W)
Render = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ColorCase:
    """Shapes of one call of `render` with colors."""

    name: str
    batch: int = 3
    points: int = 63
    maps: int = 10
    channels: int = 3
    size: int | tuple[int, int] = (9, 6)
    index_dtype: torch.dtype = torch.uint8

    @property
    def height_width(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return matrix, offset, index and start of `ChainCase`, and color (N, C), also negative and above 1."""
        case = ChainCase(self.name, batch=self.batch, points=self.points, maps=self.maps, index_dtype=self.index_dtype)
        generator = seeded(2)
        color = torch.randn(self.maps, self.channels, generator=generator, dtype=torch.float64)
        return *case.inputs(dtype), color.to(dtype)


CASES = [
    ColorCase("one of everything", batch=1, points=1, maps=1, channels=1, size=1),
    ColorCase("empty batch", batch=0),
    ColorCase("one point", points=1, size=(1, 7)),
    ColorCase("one map", points=3, maps=1, size=(7, 1), index_dtype=torch.int32),
    ColorCase("one channel", batch=1, channels=1, index_dtype=torch.int64),
    ColorCase("odd", size=63),
    ColorCase("odd, int32", batch=33, size=(30, 17), index_dtype=torch.int32),
    ColorCase("five channels, int64", channels=5, size=(17, 30), index_dtype=torch.int64),
    ColorCase("256 maps", points=300, maps=256, size=32),
    ColorCase("300 maps", points=300, maps=300, size=(3, 63), index_dtype=torch.int32),
]
SMALL = ColorCase("small", batch=4, points=6, maps=3)


def renderer(case: ColorCase, backend: str, **options: Any) -> Render:
    """Return `fractalops.render` on one backend, without clamp and cutoff."""

    def run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, color: Tensor) -> Tensor:
        arguments: dict[str, Any] = {"viewport": VIEWPORT, "clamp": False, "cutoff": None} | options
        with fractalops.use_backend(backend):
            return fractalops.render(matrix, offset, index, case.size, start=start, color=color, **arguments)

    return run


def by_hand(case: ColorCase) -> Render:
    """Return the same in float64. The product of the one-hot index and the colors gives the points' colors."""

    def run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, color: Tensor) -> Tensor:
        points = reference_chain(matrix, offset, index, start)  # (B, T, 2)
        last = points.new_tensor(case.height_width) - 1
        low, high = points.new_tensor(VIEWPORT[:2]), points.new_tensor(VIEWPORT[2:])
        pixels = (points - low) / (high - low) * last
        weight = (index.long()[..., None] == torch.arange(case.maps)).double() @ color  # (B, T, C)
        return reference_rasterizer(pixels, weight, points.new_ones(len(points)), *case.height_width, 0.0)

    return run


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients_are_those_of_the_formula(case: ColorCase, dtype: torch.dtype, backend: str) -> None:
    inputs = case.inputs(dtype)
    actual, gradients = value_and_gradients(renderer(case, backend), inputs)
    assert actual.shape == (case.batch, case.channels, *case.height_width)
    expected, expected_gradients = value_and_gradients(by_hand(case), exact(inputs))
    first = 0 if dtype == torch.float64 else 3  # the maps' gradients contain the rounding of whole chains
    # As for images without colors, folding a viewport into the maps rounds a few more products.
    for one, other in zip([actual, *gradients[first:]], [expected, *expected_gradients[first:]], strict=True):
        assert one.dtype == dtype
        assert_matches(one, other, 3 * TOLERANCES[dtype])


@pytest.mark.parametrize("viewport", [VIEWPORT, "stretch", "fit"])
def test_a_color_is_a_weight_for_all_points_of_its_map(viewport: Any, backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    image = renderer(SMALL, backend, viewport=viewport, clamp=True)(matrix, offset, index, start, color)
    weight = torch.stack([color[row] for row in index.long()])  # (B, T, C)
    arguments: dict[str, Any] = {"start": start, "viewport": viewport, "cutoff": None}
    assert_same_bits(image, fractalops.render(matrix, offset, index, SMALL.size, weight=weight, **arguments))
    assert image.min() == 0  # negative colors too
    assert image.max() <= 1


def test_a_map_that_is_never_drawn_gets_no_gradient(backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    gradients = value_and_gradients(renderer(SMALL, backend), (matrix, offset, index.clamp(max=1), start, color))[1]
    assert gradients[3][:2].ne(0).all()
    assert not gradients[3][2].any()


def test_points_that_are_not_drawn_leave_the_gradient_finite(backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    offset[2] = torch.inf
    image, gradients = value_and_gradients(renderer(SMALL, backend), (matrix, offset, index, start, color))
    assert image.isfinite().all()
    assert gradients[3].isfinite().all()
    assert not gradients[3][2].any()


# The gradient's bits, and its accuracy


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("channels", [1, 3])
def test_runs_and_threads_change_no_bit_of_the_gradients(channels: int, native: str) -> None:
    torch.use_deterministic_algorithms(False)  # `poisoned_memory` enables them; users need not
    case = ColorCase("published", batch=50, points=300, channels=channels, size=32)
    inputs = case.inputs(torch.float32)
    expected = None
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        for _ in range(3):
            image, gradients = value_and_gradients(renderer(case, native, cutoff=1e-6), inputs)
            expected = expected or [image, *gradients]
            assert_all_same_bits([image, *gradients], expected)


def test_the_gradient_of_many_points_loses_no_digits(native: str) -> None:
    """Sums in float32, one point after the other, would have larger errors than the tolerance."""
    case = ColorCase("many", batch=1, points=300_000, maps=3, size=8)
    arguments = case.inputs(torch.float32)
    upstream = torch.ones(1, 3, 8, 8)
    gradient = value_and_gradients(renderer(case, native, cutoff=1e-6), arguments, upstream)[1][3]
    weight = torch.ones(1, case.points, 3, requires_grad=True)
    matrix, offset, index, start, _ = arguments
    image = fractalops.render(matrix, offset, index, 8, start=start, viewport=VIEWPORT, weight=weight, clamp=False)
    (per_point,) = torch.autograd.grad(image, weight, upstream)
    exact = torch.zeros(3, 3).double().index_add_(0, index[0].long(), per_point[0].double())
    assert_matches(gradient, exact)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_on_a_gpu_the_gradient_is_the_same_in_every_run(case: ColorCase) -> None:
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")
    torch.use_deterministic_algorithms(False)
    expected = value_and_gradients(by_hand(case), case.inputs())[1][3]
    inputs = [tensor.cuda() for tensor in case.inputs()]
    runs = [value_and_gradients(renderer(case, "reference"), inputs)[1][3].cpu() for _ in range(5)]
    assert_matches(runs[0], expected, 3 * TOLERANCES[torch.float64])
    assert_all_same_bits(runs[1:], runs[:1] * 4)


# Transformations


@pytest.mark.parametrize("size", [(6, 5), (1, 5)])
def test_gradcheck(size: tuple[int, int], backend: str) -> None:
    case = ColorCase("tiny", batch=2, points=4, maps=2, channels=2, size=size)
    matrix, offset, index, start, color = case.inputs()
    leaves = [tensor.requires_grad_() for tensor in (matrix, offset, start, color)]
    run = renderer(case, backend)
    assert torch.autograd.gradcheck(lambda m, o, s, c: run(m, o, index, s, c), leaves)
    if backend == "reference":
        assert torch.autograd.gradgradcheck(lambda c: run(matrix, offset, index, start, c).square(), color)


def test_compile(backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(renderer(SMALL, backend), fullgraph=True, backend="aot_eager")
    value, gradients = value_and_gradients(compiled, SMALL.inputs())
    expected, expected_gradients = value_and_gradients(renderer(SMALL, backend), SMALL.inputs())
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


@pytest.mark.parametrize("dimensions", [(None, 0), (0, None), (0, 1)], ids=str)
def test_vmap_over_sequences_and_colors(dimensions: tuple[int | None, int | None], backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    many = [(index.flip(k % 2), color * (1 + k / 8)) for k in range(3)]

    def stacked(position: int) -> Tensor:
        dimension = dimensions[position]
        return many[0][position] if dimension is None else torch.stack([one[position] for one in many], dimension)

    def run(index: Tensor, color: Tensor) -> Tensor:
        return renderer(SMALL, backend)(matrix, offset, index, start, color)

    def loop(index: Tensor, color: Tensor) -> Tensor:
        indices = [index] * 3 if dimensions[0] is None else index.unbind(dimensions[0])
        colors = [color] * 3 if dimensions[1] is None else color.unbind(dimensions[1])
        return torch.stack([run(*each) for each in zip(indices, colors, strict=True)])

    inputs = (stacked(0), stacked(1))
    value, gradients = value_and_gradients(torch.vmap(run, in_dims=dimensions), inputs)
    expected, expected_gradients = value_and_gradients(loop, inputs)
    assert_matches(value, expected)
    assert_all_match(gradients, expected_gradients)


def test_func_grad(backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()

    def loss(color: Tensor) -> Tensor:
        return renderer(SMALL, backend)(matrix, offset, index, start, color).square().sum()

    leaf = color.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    assert_matches(torch.func.grad(loss)(color), expected)


# Errors

COLOR = SMALL.inputs()[4]
ERRORS: list[tuple[type[Exception], dict[str, Any]]] = [
    (TypeError, {"color": [[1.0, 0.0, 0.0]] * 3}),
    (TypeError, {"color": COLOR.float()}),
    (TypeError, {"color": COLOR.long()}),
    (ValueError, {"color": COLOR.to("meta")}),
    (ValueError, {"color": COLOR[0]}),
    (ValueError, {"color": COLOR[:2]}),
    (ValueError, {"color": COLOR[:, :0]}),
    (ValueError, {"color": COLOR.expand(4, 3, 3)}),
    (ValueError, {"weight": torch.ones(4, 6).double()}),
]


@pytest.mark.parametrize("viewport", [VIEWPORT, "stretch", "fit"])
@pytest.mark.parametrize(("error", "changes"), ERRORS)
def test_names_the_argument_and_what_it_got(
    error: type[Exception], changes: dict[str, Any], viewport: Any, backend: str
) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    arguments: dict[str, Any] = {"start": start, "color": color, "viewport": viewport}
    with pytest.raises(error, match=r"^render: color must .+, got .+"):
        fractalops.render(matrix, offset, index, 9, **(arguments | changes))


def test_an_index_out_of_range_is_found_before_its_color_is(backend: str) -> None:
    matrix, offset, index, start, color = SMALL.inputs()
    with pytest.raises(IndexError, match=r"^affine_chain: index must lie in \[0, 3\), got 3$"):
        renderer(SMALL, backend)(matrix, offset, index + 1, start, color)
