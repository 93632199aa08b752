"""Tests of the fractal embedding layer against its definition and against `IFS`."""

from __future__ import annotations

import pytest
import torch

from fractalops.embedding import FractalEmbedding
from fractalops.ifs import IFS
from tests.support.cases import seeded


def test_columns_are_those_of_the_paper() -> None:
    matrix = torch.arange(12.0).view(3, 2, 2)
    offset = torch.arange(6.0).view(3, 2)
    layer = FractalEmbedding.from_maps(matrix, offset)
    assert layer.matrix_columns.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert layer.offset_columns.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert torch.equal(layer.maps()[0], matrix)
    assert torch.equal(layer.maps()[1], offset)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_a_step_is_eq_7_with_one_hot_vectors(dtype: torch.dtype) -> None:
    layer = FractalEmbedding(4, generator=seeded(0), dtype=torch.float64)
    index = torch.tensor([3, 0, 0, 2, 1])
    points = torch.randn(5, 2, generator=seeded(1), dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(index, 4).double().t()  # (4, 5)
    matrix = (layer.matrix_columns @ one_hot).t().view(5, 2, 2)
    expected = (matrix * points.unsqueeze(1)).sum(-1) + (layer.offset_columns @ one_hot).t()
    torch.testing.assert_close(layer.step(index.to(dtype), points), expected)


def test_one_call_is_as_many_steps() -> None:
    layer = FractalEmbedding(4, generator=seeded(2), dtype=torch.float64)
    index = torch.randint(4, (3, 20), generator=seeded(3))
    start = torch.randn(3, 2, generator=seeded(4), dtype=torch.float64)
    points = layer(index, start)
    assert points.shape == (3, 20, 2)
    state = start
    stepped = []
    for step in index.unbind(1):
        state = layer.step(step, state)
        stepped.append(state)
    expected = torch.stack(stepped, 1)
    torch.testing.assert_close(points, expected)
    seed = torch.randn(3, 20, 2, generator=seeded(5), dtype=torch.float64)
    parameters = list(layer.parameters())
    gradients = torch.autograd.grad(points, parameters, seed)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected, parameters, seed), strict=True):
        torch.testing.assert_close(actual, wanted)


def test_a_layer_from_systems_holds_all_their_maps() -> None:
    system = IFS(2, 3, generator=seeded(6))
    state = torch.get_rng_state()
    layer = FractalEmbedding.from_ifs(system)
    assert torch.equal(torch.get_rng_state(), state)
    matrix, offset = system.maps()
    assert torch.equal(layer.maps()[0], matrix.flatten(0, 1))
    assert torch.equal(layer.maps()[1], offset.flatten(0, 1))
    with torch.no_grad():
        layer.offset_columns.zero_()
    assert system.offset.abs().sum() > 0


def test_a_layer_starts_as_a_random_system_and_shows_its_size() -> None:
    layer = FractalEmbedding(5, generator=seeded(7))
    plain = IFS(1, 5, parametrization="matrix", generator=seeded(7))
    assert torch.equal(layer.maps()[0], plain.matrix[0])
    assert torch.equal(layer.maps()[1], plain.offset[0])
    assert repr(layer) == "FractalEmbedding(maps=5)"


def test_errors_name_the_argument() -> None:
    layer = FractalEmbedding(2)
    with pytest.raises(ValueError, match="FractalEmbedding: maps must be at least 1, got 0"):
        FractalEmbedding(0)
    with pytest.raises(TypeError, match="FractalEmbedding: dtype must be"):
        FractalEmbedding(2, dtype=torch.float16)
    with pytest.raises(ValueError, match="from_maps: matrix must have shape"):
        FractalEmbedding.from_maps(torch.eye(2), torch.zeros(2))
    with pytest.raises(ValueError, match="from_maps: offset must have shape"):
        FractalEmbedding.from_maps(torch.eye(2)[None], torch.zeros(2))
    with pytest.raises(TypeError, match="step: index must be an integer tensor"):
        layer.step(torch.zeros(3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="step: index and points must have shapes"):
        layer.step(torch.zeros(3).long(), torch.zeros(4, 2))
