"""Tests of the classic systems, of fractal dimensions, and of statistics of systems."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.rendering import project
from fractalops.sampling import sample_attractor, spectral_radius
from fractalops.systems import (
    CLASSICS,
    System,
    box_dimension,
    classic,
    from_right_and_up,
    similarity_dimension,
    to_right_and_up,
)
from fractalops.systems.statistics import describe, lyapunov_exponent
from tests.support.cases import seeded

GOLDEN = (1 + math.sqrt(5)) / 2

# Computed by hand: log N / log(1 / r) for N maps of one ratio r.
DIMENSIONS = {
    "triangle": math.log(3) / math.log(2),
    "carpet": math.log(8) / math.log(3),
    "dragon": 2.0,
    "levy": 2.0,
    "koch": math.log(4) / math.log(3),
    "snowflake": 2.0,  # 6 / 9 + 1 / 3 = 1
    "pentagon": math.log(5) / math.log(GOLDEN**2),
    "golden-dragon": GOLDEN,  # after Riddle
    "tetrahedron": 2.0,
    "menger": math.log(20) / math.log(3),
}
# Allowed errors of box counting with 200,000 points. They are larger for ragged outlines.
ACCURACY = {"dragon": 0.2, "levy": 0.2, "snowflake": 0.1, "menger": 0.1}


def points_of(system: System, count: int = 200_000) -> Tensor:
    sample = sample_attractor(
        system.matrix[None], system.offset[None], system.probabilities[None], count, generator=seeded(0)
    )
    return sample.points.flatten(0, 2)


@pytest.mark.parametrize("name", CLASSICS)
def test_classics_are_systems_that_contract(name: str) -> None:
    entry, system = CLASSICS[name], classic(name)
    assert system.name == entry.name == name
    assert len(entry.source) > 10
    assert system.matrix.dtype == torch.float64
    assert float(system.probabilities.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((spectral_radius(system.matrix) < 1).all())
    for turned, own in zip(to_right_and_up(system.matrix, system.offset), entry.maps[:2], strict=True):
        assert torch.equal(turned, own)  # without rounding
    assert set(CLASSICS) >= set(DIMENSIONS)


@pytest.mark.parametrize("name", [name for name, entry in CLASSICS.items() if entry.open_set])
def test_dimensions_of_classics(name: str) -> None:
    known = CLASSICS[name].dimension
    assert known is not None
    if name in DIMENSIONS:
        assert known == pytest.approx(DIMENSIONS[name], abs=1e-9)
    assert box_dimension(points_of(classic(name))) == pytest.approx(known, abs=ACCURACY.get(name, 0.05))


def test_the_table_of_the_fern_is_that_of_the_book() -> None:
    entry = CLASSICS["fern"]
    assert entry.maps[0].flatten(1).tolist()[2] == [0.2, -0.26, 0.23, 0.22]
    assert entry.maps[1].tolist() == [[0, 0], [0, 1.6], [0, 1.6], [0, 0.44]]
    torch.testing.assert_close(entry.maps[2], torch.tensor([0.01, 0.85, 0.07, 0.07]).double())
    assert entry.dimension is None


def test_an_unknown_classic_is_named() -> None:
    with pytest.raises(ValueError, match=r"^classic: name must be one of fern, triangle, .*, got 'ferns'$"):
        fractalops.systems.classic("ferns")


@pytest.mark.parametrize("name", ["fern", "tree", "maple-leaf"])
def test_plants_stand_upright(name: str) -> None:
    """Points (x, y) become (row, column) = (-y, x), so that the thin stem is at the bottom."""
    system, entry = classic(name), CLASSICS[name]
    points = points_of(system, 20_000)
    original = sample_attractor(*(part[None] for part in entry.maps), 20_000, generator=seeded(0)).points.flatten(0, 2)
    torch.testing.assert_close(points, torch.stack((-original[:, 1], original[:, 0]), 1))
    if name != "maple-leaf":  # its stem is short
        lowest = points[:, 0] > points[:, 0].amax() - 0.02
        assert float(points[lowest, 1].abs().amax()) < 0.01 * float(points[:, 1].abs().amax())


def test_the_fern_in_space_stands_upright() -> None:
    entry, system = CLASSICS["fern-3d"], classic("fern-3d")
    seen = project(points_of(system, 5000), 0, 0).plane  # rows grow downward
    original = sample_attractor(*(part[None] for part in entry.maps), 5000, generator=seeded(0)).points.flatten(0, 2)
    torch.testing.assert_close(seen, torch.stack((-original[:, 1], original[:, 0]), 1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_axes_there_and_back(dimensions: int) -> None:
    matrix = torch.randn(5, 3, dimensions, dimensions, generator=seeded(0))
    offset = torch.randn(5, 3, dimensions, generator=seeded(1))
    turned = from_right_and_up(matrix, offset)
    torch.testing.assert_close(torch.linalg.det(turned[0]), torch.linalg.det(matrix))
    for back, own in zip(to_right_and_up(*turned), (matrix, offset), strict=True):
        assert torch.equal(back, own)


# Dimensions


def shrinking(*ratios: float) -> System:
    matrix = torch.tensor(ratios)[:, None, None] * torch.eye(2)
    return System(matrix, torch.zeros(len(ratios), 2), torch.ones(len(ratios)))


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((0.5,), 0.0),
        ((0.5, 0.5), 1.0),
        ((0.5, 0.25), math.log2(GOLDEN)),  # x + x^2 = 1 for x = 2^-d
        ((0.5, -0.5, 0.5, 0.5, 0.5), math.log2(5)),  # above 2: the maps overlap
        ((0.9, 0.01), None),
    ],
)
def test_similarity_dimension(ratios: tuple[float, ...], expected: float | None) -> None:
    found = similarity_dimension(shrinking(*ratios))
    assert found is not None
    if expected is not None:
        assert found == pytest.approx(expected, abs=1e-6)
    assert sum(abs(ratio) ** found for ratio in ratios) == pytest.approx(1, abs=1e-6)


def test_similarity_dimension_is_of_maps_that_are_drawn() -> None:
    system = shrinking(0.5, 0.5, 0.9)
    only = System(system.matrix, system.offset, torch.tensor([1.0, 1.0, 0.0]))
    assert similarity_dimension(only) == pytest.approx(1)


@pytest.mark.parametrize(
    "matrix", [torch.eye(2), 1.5 * torch.eye(2), 0 * torch.eye(2), torch.tensor([[0.5, 0.1], [0.0, 0.5]])]
)
def test_where_there_is_no_similarity_dimension(matrix: Tensor) -> None:
    assert similarity_dimension(System(matrix[None], torch.ones(1, 2), torch.ones(1))) is None


@pytest.mark.parametrize(
    ("points", "expected", "accuracy"),
    [
        (torch.rand(100_000, 2, generator=seeded(0)), 2, 0.06),
        (torch.rand(200_000, 3, generator=seeded(0)), 3, 0.2),
        (torch.rand(100_000, 1, generator=seeded(0)) * torch.tensor([1.0, -0.3, 20.0]), 1, 0.02),
        (torch.rand(1000, 1, generator=seeded(0)).double() * torch.tensor([0.0, 1e-3]) + 1e3, 1, 0.15),
        (torch.ones(1000, 2), 0, 0),
        (torch.eye(3).repeat(400, 1), 0, 1e-12),
    ],
    ids=["square", "cube", "line", "few points of a line", "one point", "three points"],
)
def test_box_dimension_of_plain_sets(points: Tensor, expected: float, accuracy: float) -> None:
    assert fractalops.box_dimension(points) == pytest.approx(expected, abs=accuracy)


def test_box_dimension_does_not_depend_on_the_place_and_leaves_out_what_is_not_finite() -> None:
    cloud = points_of(classic("triangle"), 20_000)
    known = box_dimension(cloud)
    assert box_dimension(7 * cloud - 3) == pytest.approx(known, abs=0.02)
    with_others = torch.cat((cloud, cloud.new_tensor([[math.nan, 0], [math.inf, 1]])))
    assert box_dimension(with_others) == known


@pytest.mark.parametrize(
    ("points", "kind", "message"),
    [
        (torch.rand(999, 2), ValueError, "points must have at least 1000 finite points, got 999"),
        (torch.full((2000, 2), math.nan), ValueError, "points must have at least 1000 finite points, got 0"),
        (torch.rand(2000, 4), ValueError, r"points must have shape \(T, 2\) or \(T, 3\), got \(2000, 4\)"),
        (torch.rand(2000), ValueError, "points must have shape"),
        (torch.ones(2000, 2, dtype=torch.int64), TypeError, "points must be floating-point"),
        ([[0.0, 1.0]], TypeError, "points must be a tensor, got list"),
    ],
)
def test_clouds_without_a_box_dimension(points: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^box_dimension: {message}"):
        box_dimension(points)


# Statistics


def test_lyapunov_exponent_of_similarities_is_the_mean_logarithm() -> None:
    system = System(shrinking(0.5, 2.0).matrix, torch.zeros(2, 2), torch.tensor([3.0, 1.0]))
    expected = 0.75 * math.log(0.5) + 0.25 * math.log(2)
    assert lyapunov_exponent(system, seeded(0)) == pytest.approx(expected, abs=0.01)
    assert lyapunov_exponent(shrinking(0.0)) == -math.inf


def test_what_is_said_about_a_system() -> None:
    lines = dict(line.split(":", 1) for line in describe(classic("carpet")).splitlines())
    assert lines["maps"].strip() == "8 in 2 dimensions, 0 with probability 0"
    assert lines["norms"].strip() == "0.3333 to 0.3333, none is 1 or more"
    assert "1.8928" in lines["similarity dimension"]
    assert float(lines["box dimension"]) == pytest.approx(1.89, abs=0.05)
    assert "contracts on average" in lines["Lyapunov exponent"]
    bounds = lines["bounding box"].replace("[", "").replace("]", "").replace(" x ", ",").split(",")
    assert [float(bound) for bound in bounds] == pytest.approx([-1, 0, 0, 1], abs=0.01)


def test_what_is_said_about_a_system_that_expands() -> None:
    text = describe(System(2 * torch.eye(2)[None], torch.ones(1, 2), torch.ones(1)))
    assert "2 to 2, 1 is 1 or more" in text
    assert "does not contract" in text
    assert "similarity" not in text
