"""The loss of `fit` as an op: backends agree with autograd, transformations, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fractalops.ops.clamped_squared_error import clamped_squared_error
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHAPES = [(0, 3, 4, 5), (1, 1, 1, 1), (2, 3, 1, 3), (3, 2, 7, 9), (2, 5, 4, 4), (4, 50, 32, 32)]
COLOR_SHAPES = [(0, 3, 3, 4, 5), (1, 1, 1, 1, 1), (2, 3, 3, 1, 3), (3, 2, 5, 7, 9), (2, 50, 3, 32, 32)]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """images (S, K, ...), a third of their pixels outside [0, 1] and some on its borders, and targets (S, ...)."""
    generator = torch.Generator().manual_seed(0)
    images = 1.5 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.25
    images.view(-1)[::5] = 0.0
    images.view(-1)[2::5] = 1.0
    targets = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    return images.to(dtype), targets.to(dtype)


def upstream(systems: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(-2, 3, systems, dtype=torch.float64).to(dtype)  # (S,)


def value_and_gradient(images: Tensor, targets: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    images = images.detach().requires_grad_()
    errors = clamped_squared_error(images, targets, backend=backend)
    (gradient,) = torch.autograd.grad(errors, images, upstream(len(images), images.dtype))
    return errors.detach(), gradient


def limited(images: Tensor) -> Tensor:
    """The clamp to [0, 1] whose gradient is 1 on the borders too."""
    return torch.where((images >= 0) & (images <= 1), images, images.detach().clamp(0, 1))


def by_autograd(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same in float64, written out with torch's own functions."""
    images = images.detach().double().requires_grad_()
    errors = (limited(images) - targets.double()[:, None]).square().flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(errors, images, upstream(len(images)))
    return errors.detach(), gradient


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES + COLOR_SHAPES, ids=str)
def test_it_is_the_error_of_the_clamped_images(shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    images, targets = drawn(*shape, dtype=dtype)
    assert_all_match(value_and_gradient(images, targets, backend), by_autograd(images, targets))


def test_the_gradient_reaches_the_borders_and_no_further(backend: str) -> None:
    below, above = math.nextafter(0.0, -1.0), math.nextafter(1.0, 2.0)
    pixels = [below, -0.0, 0.0, 1.0, above, math.inf, -math.inf]
    images = torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, 7)
    errors, gradient = value_and_gradient(images, torch.full((1, 1, 7), 0.5).double(), backend)
    assert errors.item() == pytest.approx(0.25)
    assert (gradient != 0).flatten().tolist() == [False, True, True, True, False, False, False]


def test_inputs_of_any_strides(backend: str) -> None:
    images, targets = drawn(3, 2, 5, 4)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    expanded = targets[:1].expand(3, 5, 4)
    expected = by_autograd(images, expanded)
    assert_all_match(value_and_gradient(turned, expanded, backend), expected)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(clamped_squared_error(images, targets, backend=backend).sum(), images)
    (wanted,) = torch.autograd.grad((limited(images) - targets[:, None]).square().sum() / 40, images)
    assert_matches(gradient, wanted)


@pytest.mark.parametrize("pixels", [(4, 5), (3, 2, 3)])
def test_gradcheck(pixels: tuple[int, ...], backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(2, 3, *pixels, generator=generator, dtype=torch.float64) - 0.5  # none on the borders
    targets = torch.rand(2, *pixels, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda images: clamped_squared_error(images, targets, backend=backend), images.requires_grad_()
    )


def test_nan_in_one_system_stays_there(backend: str) -> None:
    images, targets = drawn(3, 2, 4, 4)
    broken = images.clone()
    broken[1, 0, 2, 2] = math.nan
    got, expected = (value_and_gradient(each, targets, backend) for each in (broken, images))
    assert got[0][1].isnan()
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one[[0, 2]], other[[0, 2]])


def test_bits_do_not_depend_on_threads(native: str, restored_threads: None) -> None:
    images, targets = drawn(5, 20, 33, 31, dtype=torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(value_and_gradient(images, targets, native))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("pixels", [(4, 5), (3, 4, 5)])
def test_vmap_and_grad(pixels: tuple[int, ...], native: str) -> None:
    images, targets = drawn(6, 2, *pixels)
    stacked, stacked_targets = images.view(2, 3, 2, *pixels), targets.view(2, 3, *pixels)
    errors = torch.vmap(clamped_squared_error)(stacked, stacked_targets)  # (2, 3)
    assert_same_bits(errors.flatten(), clamped_squared_error(images, targets))
    shared = torch.vmap(clamped_squared_error, in_dims=(0, None))(stacked, targets[:3])
    assert_same_bits(shared[1], clamped_squared_error(stacked[1], targets[:3]))

    def loss(images: Tensor, targets: Tensor) -> Tensor:
        return clamped_squared_error(images, targets).sum()

    images.requires_grad_()
    (expected,) = torch.autograd.grad(loss(images, targets), images)
    assert_same_bits(torch.func.grad(loss)(images.detach(), targets), expected)
    assert_same_bits(torch.vmap(torch.func.grad(loss))(stacked, stacked_targets).flatten(0, 1), expected)


def test_compiles_into_one_graph(native: str) -> None:
    images, targets = drawn(3, 2, 4, 5)
    images.requires_grad_()
    errors = torch.compile(clamped_squared_error, fullgraph=True, backend="aot_eager")(images, targets)
    eager = clamped_squared_error(images, targets)
    assert_same_bits(errors, eager)
    assert_same_bits(torch.autograd.grad(errors.sum(), images)[0], torch.autograd.grad(eager.sum(), images)[0])


@pytest.mark.parametrize(
    ("error", "argument", "images", "targets"),
    [
        (ValueError, "images", torch.zeros(2, 4, 5), torch.zeros(2, 4, 5)),
        (ValueError, "images", torch.zeros(2, 0, 4, 5), torch.zeros(2, 4, 5)),
        (ValueError, "images", torch.zeros(2, 3, 0, 5), torch.zeros(2, 0, 5)),
        (ValueError, "images", torch.zeros(2, 3, 0, 4, 5), torch.zeros(2, 0, 4, 5)),
        (ValueError, "images", torch.zeros(2, 3, 1, 3, 4, 5), torch.zeros(2, 1, 3, 4, 5)),
        (ValueError, "targets", torch.zeros(2, 3, 3, 4, 5), torch.zeros(2, 4, 5)),
        (ValueError, "targets", torch.zeros(2, 3, 3, 4, 5), torch.zeros(2, 1, 4, 5)),
        (ValueError, "targets", torch.zeros(2, 3, 4, 5), torch.zeros(2, 5, 4)),
        (ValueError, "targets", torch.zeros(2, 3, 4, 5), torch.zeros(1, 4, 5)),
        (ValueError, "targets", torch.zeros(2, 3, 4, 5), torch.zeros(2, 1, 4, 5)),
        (TypeError, "images", torch.zeros(2, 3, 4, 5, dtype=torch.int64), torch.zeros(2, 4, 5, dtype=torch.int64)),
        (TypeError, "targets", torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5).double()),
    ],
)
def test_errors(error: type[Exception], argument: str, images: Tensor, targets: Tensor, backend: str) -> None:
    with pytest.raises(error, match=rf"^clamped_squared_error: {argument} must .+, got .+"):
        clamped_squared_error(images, targets, backend=backend)


def test_other_float_dtypes_are_for_the_reference(native: str) -> None:
    images, targets = drawn(3, 2, 4, 5, dtype=torch.bfloat16)
    errors = clamped_squared_error(images, targets, backend="reference")
    torch.testing.assert_close(errors.double(), by_autograd(images, targets)[0], rtol=0.02, atol=0)
    with pytest.raises(TypeError, match=r"^clamped_squared_error: images must .+, got .+"):
        clamped_squared_error(images, targets, backend=native)
