"""Tests of rendering with varying sizes by torch.compile, torch.export and vmap: few graphs, and the eager images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import fractalops
from tests.support.cases import seeded

pytestmark = pytest.mark.usefixtures("native")

MAPS = 4
LOOKS: dict[str, dict[str, Any]] = {
    "added": {},
    "fit": {"viewport": "fit"},
    "stretch, mean": {"viewport": "stretch", "blend": "mean"},
    "bandwidth": {"bandwidth": 2.5, "cutoff": 1e-3},
}


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def inputs(batch: int = 3, points: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrix (N, 2, 2), offset (N, 2) and index (B, T)."""
    generator = seeded(batch)
    matrix = torch.rand(MAPS, 2, 2, generator=generator) - 0.5
    return matrix, torch.rand(MAPS, 2, generator=generator), torch.randint(MAPS, (batch, points), generator=generator)


def cloud(batch: int = 3, points: int = 20) -> Tensor:
    return torch.rand(batch, points, 3, generator=seeded(points))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("look", [look if look == "added" else slow(look) for look in LOOKS])
def test_render_compiles_with_dynamic_shapes(look: str) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(fractalops.render, fullgraph=True, dynamic=True, backend=counter)
    for number in range(10):
        given, size = inputs(3 + number, 20 + 3 * number), 16 + 2 * number
        assert_close(compiled(*given, size, **LOOKS[look]), fractalops.render(*given, size, **LOOKS[look]))
    assert counter.frame_count <= 2


@pytest.mark.slow
def test_gradients_of_dynamic_shapes() -> None:
    compiled = torch.compile(fractalops.render, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, size in ((3, 16), (5, 20)):
        gradients = []
        for draw in (compiled, fractalops.render):
            matrix, offset, index = inputs(batch)
            leaves = matrix.requires_grad_(), offset.requires_grad_()
            gradients.append(torch.autograd.grad(draw(*leaves, index, size).square().sum(), leaves))
        for actual, expected in zip(*gradients, strict=True):
            assert_close(actual, expected)


@pytest.mark.parametrize("name", ["render", "render, pair", "rbf_rasterize", "rasterize_points", "render_points"])
def test_a_size_that_varies_needs_two_graphs(name: str) -> None:
    """There is one for the first size and one for all others. torch.compile would refuse the ninth."""
    given, points = inputs(), cloud()
    calls: dict[str, Callable[[int], Tensor]] = {
        "render": lambda size: fractalops.render(*given, size),
        "render, pair": lambda size: fractalops.render(*given, (size, size + 3)),
        "rbf_rasterize": lambda size: fractalops.rbf_rasterize(8 * points[..., :2], size),
        "rasterize_points": lambda size: fractalops.rasterize_points(8 * points[..., :2], size),
        "render_points": lambda size: fractalops.render_points(points, size),
    }
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(calls[name], fullgraph=True, backend=counter)
    for size in range(10, 22):
        assert_close(compiled(size), calls[name](size))
    assert counter.frame_count == 2


@pytest.mark.parametrize("varies", ["batch", "points"])
def test_batches_and_points_that_vary(varies: str) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(fractalops.render, fullgraph=True, backend=counter)
    for number in range(2, 14):
        given = inputs(**{varies: number})
        assert_close(compiled(*given, 12), fractalops.render(*given, 12))
    assert counter.frame_count == 2


class Drawing(nn.Module):
    def __init__(self, look: dict[str, Any]) -> None:
        super().__init__()
        self.look = look

    def forward(self, matrix: Tensor, offset: Tensor, index: Tensor) -> Tensor:
        return fractalops.render(matrix, offset, index, 16, **self.look)


class Cloud(nn.Module):
    def forward(self, points: Tensor) -> Tensor:
        return fractalops.render_points(points, 16)


@pytest.mark.parametrize(
    ("look", "strict"),
    [(look, False) for look in LOOKS] + [("fit", True), slow("added", True), slow("bandwidth", True)],
)
def test_render_is_exported_with_a_dynamic_batch(look: str, strict: bool) -> None:
    module = Drawing(LOOKS[look])
    sizes = ({}, {}, {0: torch.export.Dim("B"), 1: torch.export.Dim("T")})
    exported = torch.export.export(module, inputs(), dynamic_shapes=sizes, strict=strict).module()
    for batch, points in ((1, 11), (2, 20), (8, 40)):
        assert_close(exported(*inputs(batch, points)), module(*inputs(batch, points)))


@pytest.mark.parametrize("strict", [True, False])
def test_clouds_are_exported_with_a_dynamic_batch(strict: bool) -> None:
    sizes = ({0: torch.export.Dim("B"), 1: torch.export.Dim("T")},)
    exported = torch.export.export(Cloud(), (cloud(),), dynamic_shapes=sizes, strict=strict).module()
    for batch, points in ((1, 11), (2, 30), (8, 40)):
        assert_close(exported(cloud(batch, points)), Cloud()(cloud(batch, points)))


def test_clouds_without_a_frame_compile_and_are_vmapped() -> None:
    points = torch.stack([cloud(), 3 * cloud(), cloud() + 5])  # (3, B, T, 3)
    points[0, 0, 3] = torch.nan
    points[1, 2, 5, 1] = torch.inf
    expected = torch.stack([fractalops.render_points(each, 16) for each in points])
    assert expected.any()
    compiled = torch.compile(lambda each: fractalops.render_points(each, 16), fullgraph=True, backend="aot_eager")
    assert_close(torch.stack([compiled(each) for each in points]), expected)
    assert_close(torch.vmap(lambda each: fractalops.render_points(each, 16))(points), expected)
