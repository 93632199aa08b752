"""Tests of fractals in space: PC-FractalDB's classes, point clouds and views."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import DataLoader

from fractalops import IFS, FractalDataset
from fractalops.data.class_search import normalized, run_chains, search_space_classes
from fractalops.data.generators import generator_of
from fractalops.data.rules.own import perturbed
from fractalops.io import read_systems
from fractalops.systems import System
from fractalops.systems.stacking import Stack
from tests.support.cases import seeded
from tests.support.tolerances import assert_same_bits


@pytest.fixture(scope="module")
def classes() -> list[System]:
    return search_space_classes(3, points=2000)


def clouds_of(classes: list[System], **changes: Any) -> FractalDataset:
    return FractalDataset(classes, 4, **{"size": 24, "points": 500, "dimensions": 3} | changes)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 63, 3), (1, 300, 2)], ids=str)
def test_clouds_are_scaled_as_published(shape: tuple[int, int, int]) -> None:
    clouds = torch.rand(shape, generator=seeded(0), dtype=torch.float64)
    for cloud, found in zip(clouds.numpy(), normalized(clouds).numpy(), strict=True):
        expected = (cloud - cloud.min()) / (cloud.max() - cloud.min()) * 2 - 1
        numpy.testing.assert_allclose(found, expected - expected.mean(0), atol=1e-12)


def test_clouds_without_extent_or_with_nan() -> None:
    assert normalized(torch.ones(1, 4, 3)).eq(0).all()
    clouds = torch.rand(2, 5, 3, generator=seeded(1))
    clouds[1, 2, 0] = torch.nan
    assert normalized(clouds).isnan().all(dim=(1, 2)).tolist() == [False, True]


def test_classes_extend_along_each_axis() -> None:
    systems = search_space_classes(8, variance=0.06)
    generators = [generator_of(3, "test", number) for number in range(8)]
    for system, cloud in zip(systems, run_chains(Stack.of(systems), 10_000, generators).numpy(), strict=True):
        assert system.dimensions == 3
        assert 2 <= len(system) <= 7
        assert system.matrix.abs().max() <= 1
        weights = numpy.abs(numpy.linalg.det(system.matrix.numpy()))
        numpy.testing.assert_allclose(system.probabilities, weights / weights.sum())
        scaled = (cloud - cloud.min()) / (cloud.max() - cloud.min()) * 2 - 1
        assert scaled.var(0).min() > 0.045  # below 0.06: the search used another sequence
    assert_same_bits(search_space_classes(1, variance=0.06)[0].matrix, systems[0].matrix)


@pytest.mark.parametrize("points", [63, 300])
def test_items_are_clouds(points: int) -> None:
    data = FractalDataset(3, 4, dimensions=3, points=points)
    assert (data.rendering, data.num_classes, len(data)) == ("points", 3, 12)
    for cloud, label in (data[item] for item in range(12)):
        assert (cloud.shape, cloud.dtype) == ((points, 3), torch.float32)
        assert cloud.var(0, unbiased=False).min() > 0.05
        torch.testing.assert_close(cloud.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        assert 1 < cloud.max() - cloud.min() < 4
        assert label in range(3)
    assert repr(data).endswith(f"Items: own, points, ({points}, 3), torch.float32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
@pytest.mark.parametrize("size", [1, 3, (16, 9)], ids=str)
def test_items_are_views(classes: list[System], size: Any, dtype: torch.dtype) -> None:
    data = clouds_of(classes, rendering="views", size=size, dtype=dtype)
    height, width = (size, size) if isinstance(size, int) else size
    for item in (0, 5, 11):
        view, label = data[item]
        assert (view.shape, view.dtype, label) == ((1, height, width), dtype, item // 4)
        assert view.max() == (1 if dtype == torch.float32 else 255)
        assert view.min() >= 0


@pytest.mark.parametrize("rendering", ["points", "views"])
def test_an_item_depends_on_its_number_alone(classes: list[System], rendering: str) -> None:
    data = clouds_of(classes, rendering=rendering)
    together = data.__getitems__(range(12))
    loaded = [item for batch in DataLoader(data, 5, num_workers=2, collate_fn=list) for item in batch]
    for item, (one, _) in enumerate(together):
        assert_same_bits(data[item][0], one)
        assert_same_bits(loaded[item][0], one)
    assert len({one.numpy().tobytes() for one, _ in together}) == 12
    assert not torch.equal(clouds_of(classes, rendering=rendering, seed=1)[0][0], together[0][0])


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("rendering", ["points", "views"])
def test_threads_change_no_bit(classes: list[System], rendering: str) -> None:
    data = clouds_of(classes, rendering=rendering, size=(100, 101), points=20_001)
    drawn = []
    for count in (1, 2):
        torch.set_num_threads(count)
        drawn.append(data.__getitems__([2, 9]))
    for (one, _), (other, _) in zip(*drawn, strict=True):
        assert_same_bits(one, other)


def test_views_are_from_everywhere() -> None:
    # The height of a stick along the third axis is the cosine of the elevation. Its mean over the sphere is pi / 4.
    stick = System(numpy.tile(numpy.eye(3) / 2, (2, 1, 1)), [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1.0, 1.0])
    data = FractalDataset([stick], 200, 65, dimensions=3, rendering="views", points=200, perturbation=0.0)
    lit = torch.stack([data[item][0][0] > 0.3 for item in range(200)])  # (200, H, W)
    height = lit.any(2).sum(1) / 65  # (200,)
    assert height.max() > 0.95
    assert abs(height.mean() - math.pi / 4) < 0.05


def test_points_are_in_the_axes_of_the_published_files(tmp_path: Path) -> None:
    """Rows are a to i (the matrix), j, k, l (the offset) and p. The cloud is wide along x and flat along z."""
    rows = [[0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5, x, 0.5 * (x > 0) * y, 0.1 * y, 0.25] for x in (-1, 1) for y in (-1, 1)]
    (tmp_path / "00000.csv").write_text("\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    systems = read_systems(tmp_path / "00000.csv")
    cloud = FractalDataset(systems, 1, 24, dimensions=3, points=5000, perturbation=0)[0][0]  # (T, 3)
    table = torch.tensor(rows, dtype=torch.float64)
    raw = System(table[:, :9].view(-1, 3, 3), table[:, 9:12], table[:, 12])
    expected = normalized(run_chains(Stack.of([raw]), 5000, [seeded(0)]))[0]
    torch.testing.assert_close(cloud.double().std(0), expected.std(0), rtol=0.05, atol=0)
    assert cloud[:, 0].std() > 1.5 * cloud[:, 1].std() > 1.5 * cloud[:, 2].std()


def test_instances_are_turned_and_shrunk() -> None:
    matrix, offset = torch.eye(3).expand(2, 4, 3, 3), torch.ones(2, 4, 3)
    stack = Stack(matrix, offset, torch.full((2, 4), 0.25))
    moved, shifted = perturbed(stack, 0.2, [seeded(0), seeded(1)])
    values = torch.linalg.svdvals(moved)  # each matrix is a rotation times a number
    torch.testing.assert_close(values[..., 0], values[..., 2])
    assert values.min() > 0.8
    assert values.max() <= 1 + 1e-6
    assert torch.linalg.det(moved).gt(0).all()
    assert (moved != matrix).any(dim=(2, 3)).all()
    assert (shifted != offset).any(dim=2).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dimensions": 4}, ValueError, "dimensions must be 2 or 3, got 4"),
        ({"rendering": "patch"}, ValueError, "rendering must be one of points, views, got 'patch'"),
        ({"background": "random"}, ValueError, "background must be one of black, got 'random'"),
        ({"dtype": torch.uint8}, TypeError, "dtype must be torch.float32 for point clouds, got torch.uint8"),
        ({"rules": "fractaldb"}, ValueError, "rules must be 'own' in space, got 'fractaldb'"),
        ({"density": 0.2}, ValueError, "density must be None with these rules, got 0.2"),
        ({"dimensions": 2, "variance": 0.1}, ValueError, "variance must be None with these rules, got 0.1"),
        ({"variance": 1.0}, ValueError, "variance must lie in [0, 1), got 1.0"),
        ({"dimensions": 2}, ValueError, "systems must have 2 dimensions, got 3"),
        ({"systems": IFS(2, 3, generator=seeded(0))}, ValueError, "systems must have 3 dimensions, got 2"),
        ({"systems": []}, ValueError, "systems must not be empty"),
    ],
    ids=str,
)
def test_errors(classes: list[System], changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^FractalDataset: {re.escape(message)}$"):
        clouds_of(**{"classes": changes.pop("systems", classes)}, **changes)


def test_a_variance_that_no_system_has() -> None:
    message = r"^search_space_classes: variance must be reached by random systems, got 0.9 \(0 of 6016 reached it\)$"
    with pytest.raises(ValueError, match=message):
        search_space_classes(1, variance=0.9, points=20)
