"""Tests of random systems, of SVD parameters, and of `System`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from fractalops import IFS
from fractalops.ops.svd_matrix import SingularValues, svd_matrix
from fractalops.sampling import sample_attractor
from fractalops.systems import System, random_systems, svd_parameters
from tests.support.cases import seeded
from tests.support.tolerances import assert_same_bits


@pytest.mark.parametrize(
    ("maps", "sigma_factor"),
    [(1, None), (2, None), (3, None), (10, None), (20, None), (1, 1.5), (2, 0.0), (3, 9.0), (10, 4), (20, 31.7)],
)
def test_random_singular_values_keep_their_sum_and_bounds(maps: int, sigma_factor: float | None) -> None:
    drawn = random_systems(500, maps, sigma_factor=sigma_factor, generator=seeded(7), dtype=torch.float64)
    assert drawn.singular_values.shape == (500, maps, 2)
    first, second = drawn.singular_values.unbind(-1)
    assert (second >= 0).all()
    assert (second <= first + 1e-12).all()
    assert (first <= 1).all()
    total = (first + 2 * second).sum(-1)
    low, high = (5 + maps) / 2, (6 + maps) / 2
    if sigma_factor is not None:
        torch.testing.assert_close(total, torch.full_like(total, sigma_factor))
    elif maps == 1:  # 3 to 3.5 is not possible: limited to just below 3
        torch.testing.assert_close(total, torch.full_like(total, 3 - 1e-3))
    else:
        assert low - 1e-9 <= total.min() < low + 0.05
        assert high - 0.05 < total.max() <= high + 1e-9


def test_random_rotations_reflections_and_offsets() -> None:
    drawn = random_systems(300, 10, generator=seeded(9))
    for angle in (drawn.theta, drawn.phi):
        assert angle.shape == (300, 10)
        assert angle.dtype == torch.float32
        assert angle.abs().max() <= math.pi
        assert angle.min() < -3.1
        assert angle.max() > 3.1
        assert abs(angle.mean().item()) < 5 * math.pi / math.sqrt(3 * 3000)
    assert drawn.reflection.abs().eq(1).all()
    assert abs(drawn.reflection.mean().item()) < 5 / math.sqrt(6000)
    assert drawn.offset.shape == (300, 10, 2)
    assert drawn.offset.abs().max() <= 1
    assert abs(drawn.offset.mean().item()) < 5 / math.sqrt(3 * 6000)


def test_random_systems_depend_on_the_generator_and_not_on_the_precision() -> None:
    one, two = (random_systems(3, 4, generator=seeded(10), dtype=torch.float64) for _ in range(2))
    single = random_systems(3, 4, generator=seeded(10))
    other = random_systems(3, 4, generator=seeded(11), dtype=torch.float64)
    for a, b, c, d in zip(one, two, single, other, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.float(), c)
        assert not torch.equal(a, d)


def test_a_system_with_a_generator_of_its_own_does_not_depend_on_its_neighbors() -> None:
    together = random_systems(3, 4, generator=[seeded(seed) for seed in range(3)])
    for seed in range(3):
        alone = random_systems(1, 4, generator=seeded(seed))
        assert all(torch.equal(a[seed : seed + 1], b) for a, b in zip(together, alone, strict=True))


ANGLES = torch.linspace(-3, 3, 7, dtype=torch.float64)  # (7,)
ROTATIONS = torch.stack((ANGLES.cos(), -ANGLES.sin(), ANGLES.sin(), ANGLES.cos()), -1).view(7, 2, 2)
MIRROR = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
MATRICES = {
    "rotations": 0.5 * ROTATIONS,
    "reflections": 0.9 * ROTATIONS @ MIRROR,
    "stretched": ROTATIONS @ torch.diag(torch.tensor([0.8, 0.1])).double() @ ROTATIONS.flip(0),
    "stretched and mirrored": ROTATIONS @ torch.diag(torch.tensor([0.1, -0.8])).double() @ ROTATIONS.flip(0),
    "any": torch.rand(2, 3, 2, 2, generator=seeded(0), dtype=torch.float64) - 0.5,
    "one": 0.3 * MIRROR,
    "none": torch.zeros(0, 3, 2, 2, dtype=torch.float64),
}
EXTREMES = {
    "isometries": torch.cat((ROTATIONS, ROTATIONS @ MIRROR)),
    "singular": ROTATIONS @ torch.diag(torch.tensor([0.7, 0.0])).double(),
    "zero": torch.zeros(2, 2, dtype=torch.float64),
}


@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_a_matrix_is_that_of_its_svd_parameters(matrix: Tensor, singular_values: SingularValues) -> None:
    parameters = svd_parameters(matrix, singular_values)
    assert parameters.shape == (*matrix.shape[:-2], 6)
    assert parameters[..., 4:].abs().eq(1).all()
    torch.testing.assert_close(svd_matrix(parameters, singular_values), matrix, rtol=0, atol=1e-12)
    single = svd_parameters(matrix.float(), singular_values)
    assert single.dtype == torch.float32
    torch.testing.assert_close(svd_matrix(single, singular_values), matrix.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("matrix", EXTREMES.values(), ids=EXTREMES)
def test_singular_values_at_their_bounds(matrix: Tensor) -> None:
    torch.testing.assert_close(svd_matrix(svd_parameters(matrix, "clamp"), "clamp"), matrix, rtol=0, atol=1e-12)
    parameters = svd_parameters(matrix)
    assert parameters.isfinite().all()
    # Singular values differ by at most the margin.
    assert torch.linalg.matrix_norm(svd_matrix(parameters) - matrix, 2).max() <= 1e-3 + 1e-12


@pytest.mark.parametrize(("singular_values", "most"), [("sigmoid", 0.999), ("clamp", 1.0)])
def test_a_matrix_that_expands_becomes_the_nearest_that_does_not(singular_values: SingularValues, most: float) -> None:
    matrix = 3 * torch.randn(9, 2, 2, generator=seeded(1), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix)
    expected = left @ torch.diag_embed(values.clamp(0.001 if singular_values == "sigmoid" else 0, most)) @ right
    actual = svd_matrix(svd_parameters(matrix, singular_values), singular_values)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


BAD_CALLS: list[tuple[Any, type[Exception], str]] = [
    (lambda: random_systems(0, 3), ValueError, "random_systems: systems must be at least 1, got 0"),
    (lambda: random_systems(1, 0), ValueError, "random_systems: maps must be at least 1, got 0"),
    (lambda: random_systems(1, 2, sigma_factor=6.1), ValueError, "sigma_factor must lie in"),
    (lambda: random_systems(1, 2, sigma_factor=math.nan), ValueError, "sigma_factor must lie in"),
    (lambda: random_systems(1, 2, sigma_factor="3"), TypeError, "sigma_factor must be a number or None"),  # type: ignore[arg-type]
    (lambda: random_systems(1, 2, dtype=torch.float16), TypeError, "dtype must be torch.float32"),
    (lambda: random_systems(2, 2, generator=[seeded(0)]), ValueError, "must have length 2, one for each system, got 1"),
    (lambda: random_systems(2, 2, generator=7), TypeError, "random_systems: generator must be a torch.Generator"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=itertools.count())
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


MAPS = {"matrix": torch.eye(2).expand(3, 2, 2), "offset": torch.zeros(3, 2), "probabilities": torch.ones(3)}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"offset": torch.zeros(3, 4)}, r"offset must have shape \(N, 2\) or \(N, 3\) with N >= 1, got \(3, 4\)"),
        ({"offset": torch.zeros(0, 2)}, r"offset must have shape .+, got \(0, 2\)"),
        ({"matrix": torch.zeros(3, 3, 3)}, r"matrix must have shape \(3, 2, 2\), got \(3, 3, 3\)"),
        ({"matrix": torch.zeros(3, 2, 2).double()}, "offset must have the dtype of matrix"),
        ({"matrix": [[1.0, 2.0], [3.0]]}, "matrix must be a tensor or an array of numbers, got "),
        ({"probabilities": [1, -1, 1]}, "probabilities must be finite, non-negative and not all zero, got "),
        ({"probabilities": [1.0, math.nan, 1.0]}, "probabilities must be finite"),
        ({"probabilities": [0, 0, 0]}, "probabilities must be finite, non-negative and not all zero"),
        ({"probabilities": [1, 1]}, r"probabilities must have shape \(3,\), got \(2,\)"),
        ({"color": "red"}, "color must be a tensor or an array of numbers, got 'red'"),
        ({"color": torch.zeros(2, 3)}, r"color must have shape \(3, C\) with C >= 1, got \(2, 3\)"),
        ({"color": [[0.5], [1.5], [0.0]]}, r"color must lie in \[0, 1\], got values from 0 to 1.5"),
        ({"color": torch.zeros(3, 1, device="meta")}, "color must be on the device of matrix"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_system_refuses_wrong_arguments(changes: dict[str, Any], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^System: {error}"):
        System(**(MAPS | changes))


def test_a_system_takes_numbers_of_all_kinds() -> None:
    system = System(numpy.eye(2)[None], [(1, 2)], [1], [[0, 1, 1]], "one")
    for part in (system.matrix, system.offset, system.probabilities, system.color):
        assert part is not None
        assert part.dtype == torch.float64
    assert (len(system), system.dimensions, system.name) == (1, 2, "one")
    mixed = System(**MAPS, color=[[0, 1, 1]] * 3)
    assert mixed.color is not None
    assert mixed.color.dtype == torch.float32


def test_an_exported_system_is_a_copy() -> None:
    module = IFS(2, 3, parametrization="matrix", channels=1)
    system = module.system(1)
    expected = module.matrix[1].detach().clone()
    with torch.no_grad():
        module.matrix.zero_()
    assert torch.equal(system.matrix, expected)
    with pytest.raises(IndexError, match=r"^IFS.system"):
        module.system(2)


@pytest.mark.parametrize("channels", [None, 3])
def test_each_system_is_the_system_of_its_number(channels: int | None) -> None:
    module = IFS(3, 4, channels=channels, generator=seeded(0))
    each = module.each_system()
    assert len(each) == 3
    for number, system in enumerate(each):
        expected = module.system(number)
        for name in ("matrix", "offset", "probabilities") + (() if channels is None else ("color",)):
            assert_same_bits(getattr(system, name), getattr(expected, name))
        assert system.channels == channels
    each[0].offset.fill_(7)  # the tensors are copies
    assert not bool((module.offset == 7).any())


@pytest.mark.parametrize("points", [1, 3, 1001, 2000])
def test_a_system_draws_as_many_points_as_asked(points: int) -> None:
    system = IFS(1, 3, generator=seeded(0)).system()
    drawn, maps = system.sample(points, burn_in=5, generator=seeded(1))
    expected = sample_attractor(
        system.matrix[None], system.offset[None], system.probabilities[None], points, burn_in=5, generator=seeded(1)
    )
    assert drawn.shape == (points, 2)
    assert maps.shape == (points,)
    assert_same_bits(drawn, expected.points.reshape(-1, 2)[:points])
    assert_same_bits(maps, expected.maps.reshape(-1)[:points])
    assert_same_bits(system.points(points, burn_in=5, generator=seeded(1)), drawn)
