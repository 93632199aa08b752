"""Tests of data sets by published rules: FractalDB pixel by pixel, properties of 1p-frac and fractal-pretraining."""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fractalops import IFS, FractalDataset
from fractalops.data.rules.fractal_pretraining import hsv_to_rgb, plasma
from fractalops.data.rules.fractaldb import RENDERINGS, picture_seed, published_factors
from fractalops.io import read_systems, write_systems
from fractalops.systems import System
from tests.support.cases import seeded
from tests.support.published_fractaldb import Map, draw, random_class
from tests.support.tolerances import assert_same_bits

RULES = ["fractaldb", "fractal-pretraining", "one-parameter"]
SIZE = (40, 33)


def classes(count: int = 2) -> tuple[list[list[Map]], list[System]]:
    """Draw classes with 2, 3, ... maps by FractalDB's rule. Return the rows of their CSV files and the systems."""
    generator = random.Random(3)
    tables = [random_class(generator, number + 2) for number in range(count)]
    systems = []
    for number, table in enumerate(tables):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{number:05}.csv"
            np.savetxt(path, table, delimiter=",")
            systems += read_systems(path).values()
    return tables, systems


def rows_of(system: System, path: Path) -> list[Map]:
    """Write a system as FractalDB's CSV, and return its rows."""
    write_systems(path, system)
    return [tuple(row) for row in np.loadtxt(path, delimiter=",", ndmin=2).tolist()]  # type: ignore[misc]


def dataset(rules: Any, **changes: Any) -> FractalDataset:
    small: dict[str, Any] = {"systems": classes()[1], "size": SIZE, "points": 700, "dtype": torch.uint8}
    return FractalDataset(**(small | changes), rules=rules)


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize("instance", [0, 1, 2, 3, -1, 0.5])
def test_fractaldb_is_equal_to_the_published_pictures(rendering: Any, instance: float) -> None:
    tables, systems = classes()
    data = dataset("fractaldb", systems=systems, rendering=rendering, seed=4)
    counts = 10 if rendering.startswith("patch") else 1
    assert data.instances == 25 * counts * 4
    place = {-1: data.instances - 1, 0.5: data.instances // 2 + 5}.get(instance, int(instance))
    for number, rows in enumerate(tables):
        image, label = data[number * data.instances + place]
        weight, count, flip = np.unravel_index(place, (25, counts, 4))
        picture = (number * 25 + weight) * counts + count
        wanted = draw(
            rows,
            rendering,
            points=700,
            size=SIZE,
            weight=published_factors(0.4)[weight].tolist(),
            flip=int(flip),
            seed=picture_seed(4, int(picture)),
        )
        wanted = wanted.transpose(2, 0, 1) if rendering.endswith("color") else wanted[None, ..., 0]
        assert np.array_equal(image.numpy(), wanted)
        assert label == number


def test_searched_classes_are_those_that_their_files_show(tmp_path: Path) -> None:
    data = FractalDataset(2, 100, SIZE, rules="fractaldb", rendering="point_gray", points=700, density=0.1)
    for number, system in enumerate(data.systems):
        rows = rows_of(system, tmp_path / f"{number}.csv")
        image, _ = data[100 * number + 8]  # row 2 of the factors: all are 1
        wanted = draw(rows, "point_gray", points=700, size=SIZE, weight=[1.0] * 6, flip=0, seed=0)
        assert np.array_equal((image * 255).round().byte().numpy(), wanted[None, ..., 0])


def test_drawn_systems_of_one_parameter_are_those_that_their_files_show(tmp_path: Path) -> None:
    data = FractalDataset(3, None, SIZE, rules="one-parameter", rendering="point_gray", points=700, dtype=torch.uint8)
    for number, system in enumerate(data.systems):
        rows = rows_of(system, tmp_path / f"{number}.csv")
        wanted = draw(rows, "point_gray", points=700, size=SIZE, weight=[1.0] * 6, flip=0, seed=0)
        assert np.array_equal(data[number][0].numpy(), wanted[None, ..., 0])


def test_factors_are_those_of_the_published_files() -> None:
    rows = published_factors(0.4).tolist()
    assert [row[0] for row in rows] == [0.2, 0.6, 1.0, 1.4, 1.8, *([1.0] * 20)]
    for place in range(1, 6):
        assert [row[place] for row in rows[1 + 4 * place : 5 + 4 * place]] == [0.2, 0.6, 1.4, 1.8]
    assert sum(level != 1 for row in rows for level in row) == 24
    assert published_factors(0.5)[:5, 0].tolist() == [0.01, 0.5, 1.0, 1.5, 2.0]
    assert published_factors(0.0125)[21:, 5].tolist() == [0.975, 0.9875, 1.0125, 1.025]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("workers", [0, 2])
def test_items_depend_on_their_number_alone(rules: str, workers: int) -> None:
    data = dataset(rules, instances={"fractaldb": 100}.get(rules, 6))
    loaded = torch.cat([images for images, _ in DataLoader(data, 5, num_workers=workers)])
    for item in (0, 3, len(data) - 1):
        assert_same_bits(data[item][0], loaded[item])
    assert data.classes == ["00000", "00001"]
    assert [system.name for system in data.systems] == data.classes


@pytest.mark.parametrize("rules", RULES)
def test_ambient_state_changes_nothing(rules: str) -> None:
    image = dataset(rules, dtype=torch.float32)[1][0]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            other = dataset(rules, systems=[*dataset(rules).systems], dtype=torch.float32)[1][0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_bits(other, image)


def test_given_systems_keep_their_precision() -> None:
    _, systems = classes()
    data = dataset("fractaldb")
    assert data.matrix.dtype == torch.float64
    for given, kept in zip(systems, data.systems, strict=True):
        assert torch.equal(kept.matrix, given.matrix)
        assert torch.equal(kept.probabilities, given.probabilities)


def test_weights_that_do_not_add_up_to_1_are_scaled() -> None:
    _, systems = classes(1)
    system = systems[0]
    heavier = System(system.matrix, system.offset, 8 * system.probabilities)
    assert_same_bits(dataset("fractaldb", systems=[heavier])[7][0], dataset("fractaldb", systems=[system])[7][0])


def test_one_parameter_draws_classes_around_one_system_and_from_what_was_kept() -> None:
    data = dataset("one-parameter", systems=5, perturbation=0.1, density=0.05)
    assert (len(data), data.instances, data.offset.shape) == (5, 1, (5, 2, 2))
    ratios = data.matrix / data.matrix.mean(0)
    assert (ratios - 1).abs().max() < 0.2
    assert len(torch.unique(data.matrix.flatten(1), dim=0)) == 5
    assert torch.equal(data.probabilities, data.probabilities[:1].expand(5, -1))
    for item in range(5):
        assert (data[item][0] > 0).double().mean() > 0.05
    again = dataset("one-parameter", systems=data.systems)
    for item in range(5):
        assert_same_bits(again[item][0], data[item][0])


def test_one_parameter_keeps_within_delta_of_its_base() -> None:
    base = classes(2)[1][1]
    data = dataset("one-parameter", systems=6, base=base, perturbation=0.2, density=0.0)
    for matrix, offset in zip(data.matrix, data.offset, strict=True):
        for part, of_base in ((matrix, base.matrix), (offset, base.offset)):
            assert ((part / of_base - 1).abs() <= 0.2 + 1e-12).all()
    spread = (data.matrix / base.matrix - 1).abs()
    assert spread.max() > 0.15


def test_fractal_pretraining_scales_one_map_and_stays_contractive() -> None:
    data = FractalDataset(4, 8, 24, rules="fractal-pretraining", points=2000, seed=2)
    images = torch.stack([data[item][0] for item in range(16)])
    assert images.shape == (16, 3, 24, 24)
    assert 0 <= images.min() <= images.max() <= 1
    assert len(torch.unique(images.flatten(1), dim=0)) == 16
    assert 2 <= min(map(len, data.systems)) <= max(map(len, data.systems)) <= 7
    gray = FractalDataset(4, 8, 24, rules="fractal-pretraining", rendering="gray", points=2000)[3][0]
    assert gray.shape == (1, 24, 24)
    assert 0 < gray.max() <= 127 / 255 + 1e-6  # blurring lowers the maximum


def test_hues_are_those_of_the_color_wheel() -> None:
    hue = torch.tensor([[0.0, 1 / 3, 2 / 3, 1.0, 1.5]])
    assert torch.allclose(
        hsv_to_rgb(hue, torch.ones(1), torch.ones(1))[:, 0].T,
        torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]]),
        atol=1e-5,
    )


@pytest.mark.parametrize("side", [1, 3, 63])
def test_the_plasma_is_larger_than_asked_for_and_neighbors_are_alike(side: int) -> None:
    field = plasma(side, seeded(side))
    assert len(field) == field.shape[1] > side
    if side == 63:
        assert (field - field.roll(1, 0)).abs().mean() < 0.5 * field.std()


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"rules": "fractaldb", "size": 12}, "size must lie in [13, 65535] with these rules, got (12, 12)"),
    ({"rules": "one-parameter", "size": 12}, "size must lie in [13, 65535] with these rules, got (12, 12)"),
    ({"rules": "fractaldb", "points": 1}, "points must lie in [2, 8388607] with these rules, got 1"),
    ({"rules": "fractaldb", "instances": 150}, "instances must be a multiple of 100, got 150"),
    (
        {"rules": "fractaldb", "instances": 1000, "rendering": "point_gray"},
        "instances must be 100 if the rendering has no patches, got 1000",
    ),
    ({"rules": "fractaldb", "rendering": "gray"}, "rendering must be one of patch_gray, patch_color, "),
    ({"rules": "fractaldb", "background": "random"}, "background must be one of black, got 'random'"),
    ({"rules": "own", "rendering": "patch_gray"}, "rendering must be one of binary, patch, gray, color, got "),
    ({"rules": "perlin"}, "rules must be one of own, fractaldb, fractal-pretraining, one-parameter, got 'perlin'"),
    ({"rules": "fractaldb", "base": classes(1)[1][0]}, "base must be None unless rules is 'one-parameter' and "),
    ({"rules": "one-parameter", "systems": 2, "density": 0.9}, "density must be reached by a perturbed system, got "),
]


@pytest.mark.parametrize(("changes", "message"), ERRORS)
def test_an_error_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^FractalDataset: {re.escape(message)}"):
        dataset(**changes)


def test_an_ifs_is_drawn_by_published_rules_too() -> None:
    system = IFS(2, 3, generator=seeded(1))
    images: list[Tensor] = [dataset(rules, systems=system)[0][0] for rules in RULES]
    assert all(image.any() for image in images)
