"""Tests of distances between clouds and their gradients, against all pairs in float64, for awkward shapes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.fitting import distances
from fractalops.fitting.distances import chamfer_distance, kernel_distance, mean_kernel, nearest

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (63, 64), (40, 200)]


@pytest.fixture(params=[2**20, 7, 300], ids=["one block", "a row each", "blocks"], autouse=True)
def pairs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_PAIRS", request.param)


def clouds(points: int, target: int, dimensions: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return points and target."""
    generator = torch.Generator().manual_seed(points + 1000 * target)
    drawn = [torch.randn(count, dimensions, generator=generator, dtype=torch.float64) for count in (points, target)]
    return [tensor.to(dtype) for tensor in drawn]


def all_pairs(points: Tensor, target: Tensor) -> Tensor:
    """Return distances (M, P), with gradient 0 where they are 0."""
    squared = (points[:, None] - target).square().sum(-1)
    return torch.where(squared > 0, squared.where(squared > 0, torch.ones_like(squared)).sqrt(), 0)


def kernel_by_definition(points: Tensor, target: Tensor, scale: float = 0.05) -> Tensor:
    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return (1 + (first[:, None] - second).square().sum(-1) / scale**2) ** -0.5

    def within(cloud: Tensor) -> Tensor:  # the mean over pairs of different points
        others = ~torch.eye(len(cloud), dtype=torch.bool)
        return kernel(cloud, cloud)[others].sum() / max(1, int(others.sum()))

    return within(points) + within(target) - 2 * kernel(points, target).mean()


def chamfer_by_definition(points: Tensor, target: Tensor) -> Tensor:
    distance = all_pairs(points, target)
    return (distance.min(1).values.mean() + distance.min(0).values.mean()) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_values_and_gradients(shape: tuple[int, int], dimensions: int, dtype: torch.dtype) -> None:
    for function, definition, learned in (
        (kernel_distance, kernel_by_definition, 1),
        (chamfer_distance, chamfer_by_definition, 2),
    ):
        found, expected = ([], [])
        given = clouds(*shape, dimensions, dtype)
        # The reference gets the rounded numbers, so that it finds the same nearest points.
        for run, arguments, outputs in ((function, given, found), (definition, [x.double() for x in given], expected)):
            arguments = [tensor.clone().requires_grad_(place < learned) for place, tensor in enumerate(arguments)]
            value = run(*arguments)
            (2 * value).backward()
            outputs += [value.detach(), *(argument.grad for argument in arguments[:learned])]
        for one, other in zip(found, expected, strict=True):
            # The terms are of size 1 and cancel. A kernel's slope is up to 1 / scale, a point's weight up to 2.
            torch.testing.assert_close(one.double(), other, rtol=0, atol=1000 * torch.finfo(dtype).eps)


def test_gradcheck() -> None:
    points, target = (tensor.requires_grad_() for tensor in clouds(6, 7))
    assert torch.autograd.gradcheck(lambda x: kernel_distance(x, target, scale=0.7), points)
    assert torch.autograd.gradcheck(chamfer_distance, (points, target))


def test_the_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    points, target = clouds(1000, 1000)
    assert abs(kernel_distance(points, target)) < 1e-3
    assert kernel_distance(points + 0.5, target) > 3e-3
    same = kernel_distance(points, target, spread=float(mean_kernel(target)))
    torch.testing.assert_close(same, kernel_distance(points, target))


def test_coincident_points_have_distance_and_gradient_zero() -> None:
    for function in (kernel_distance, chamfer_distance):
        points = torch.ones(5, 3, requires_grad=True)
        value = function(points, torch.ones(4, 3))
        value.backward()
        assert value == 0
        assert points.grad is not None
        assert (points.grad == 0).all()
    assert mean_kernel(torch.ones(5, 3)) == 1
    assert mean_kernel(torch.ones(1, 3)) == 0


def test_nearest_takes_the_first_of_equals() -> None:
    points = torch.tensor([[0.0, 0], [2, 0], [2, 0]])
    target = torch.tensor([[1.0, 0], [2, 0]])
    there, back = nearest(points, target)
    assert there.tolist() == [0, 1, 1]
    assert back.tolist() == [0, 1]


def test_near_points_far_from_the_origin_keep_their_distance() -> None:
    points = torch.tensor([[1000.0, 0, 0]])
    assert chamfer_distance(points, points + torch.tensor([2.0**-10, 0, 0])) == 2.0**-10


def test_a_gradient_of_the_gradient_is_refused() -> None:
    points, target = clouds(3, 4)
    points.requires_grad_()
    (grad,) = torch.autograd.grad(kernel_distance(points, target), points, create_graph=True)
    with pytest.raises(RuntimeError):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": [[1.0]]}, TypeError, "kernel_distance: points must be a tensor, got list"),
        ({"points": torch.ones(3)}, ValueError, r"kernel_distance: points must have shape \(M, D\) .*, got \(3,\)"),
        ({"points": torch.ones(0, 3)}, ValueError, "kernel_distance: points must have shape"),
        (
            {"target": torch.ones(4, 2)},
            ValueError,
            r"kernel_distance: target must have shape \(P, 3\) .*, got \(4, 2\)",
        ),
        ({"target": torch.ones(4, 3).double()}, TypeError, "kernel_distance: target must have the dtype of points"),
        ({"points": torch.ones(3, 3).half()}, TypeError, "kernel_distance: points must be float32 or float64"),
        ({"scale": 0.0}, ValueError, "kernel_distance: scale must be a finite number above 0, got 0.0"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernel_distance(**({"points": torch.ones(3, 3), "target": torch.ones(4, 3)} | arguments))
    assert math.isfinite(float(kernel_distance(torch.ones(3, 3), torch.ones(4, 3))))
