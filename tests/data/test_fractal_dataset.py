"""Tests of the data set for pre-training: reproducibility and appearance of items, and errors."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fractalops import IFS, FractalDataset
from fractalops.data.classes import fitted
from fractalops.data.rules.own import OwnRules, perturbed
from fractalops.systems import System
from tests.support.cases import seeded
from tests.support.tolerances import assert_same_bits

SMALL: dict[str, Any] = {"systems": 3, "instances": 5, "size": 16, "points": 500}


def dataset(**changes: Any) -> FractalDataset:
    return FractalDataset(**(SMALL | changes))


@pytest.mark.parametrize("background", ["black", "random"])
@pytest.mark.parametrize(
    ("rendering", "channels"), [("binary", 1), ("patch", 1), ("gray", 1), ("color", 3)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("size", [1, 3, (16, 9)], ids=str)
def test_items_are_images_and_classes(rendering: str, channels: int, background: str, size: Any) -> None:
    data = dataset(rendering=rendering, background=background, size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert len(data) == 15
    for item in (0, 7, 14):
        image, label = data[item]
        assert image.shape == (channels, height, width)
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert image.max() > 0 or (rendering, size) == ("patch", 1)  # a patch may leave out the only pixel
        assert label == item // 5


@pytest.mark.parametrize("rendering", ["patch", "color"])
@pytest.mark.parametrize("points", [1, 63, 5000])
def test_an_item_depends_on_its_number_alone(rendering: str, points: int) -> None:
    data = dataset(rendering=rendering, points=points, background="random", density=0.0)
    alone = [data[item] for item in range(len(data))]
    together = data.__getitems__(list(reversed(range(len(data)))))[::-1]
    for (one, label), (other, same) in zip(alone, together, strict=True):
        assert_same_bits(one, other)
        assert label == same
    again = dataset(rendering=rendering, points=points, background="random", density=0.0)
    assert_same_bits(again[-1][0], alone[-1][0])


def test_instances_differ_and_seeds_differ() -> None:
    data = dataset()
    images = torch.stack([data[item][0] for item in range(5)])
    assert len(torch.unique(images, dim=0)) == 5
    assert not torch.equal(dataset(seed=1)[0][0], images[0])


def test_without_perturbation_the_systems_stay() -> None:
    stack = dataset(systems=2, maps=3)._rules.stack
    matrix, offset, _ = stack
    generators = [seeded(s) for s in range(2)]
    same = perturbed(stack, 0.0, generators)
    assert_same_bits(same[0], matrix)
    moved, shifted = perturbed(stack, 0.3, generators)
    largest = torch.linalg.matrix_norm(matrix, 2)
    assert (torch.linalg.matrix_norm(moved, 2) <= largest * (1 + 1e-6)).all()
    assert (moved != matrix).any(dim=(1, 2, 3)).all()
    assert (shifted != offset).any(dim=(1, 2)).all()


@pytest.mark.parametrize("others", [2, 5, 20])
def test_an_instance_does_not_depend_on_how_many_maps_other_classes_have(others: int) -> None:
    one, other = (IFS(1, maps, generator=seeded(maps)).system() for maps in (2, others))
    alone, beside = (FractalDataset(systems, 3, 32, points=2000) for systems in ([one], [one, other]))
    for item in range(3):
        assert_same_bits(beside[item][0], alone[item][0])


def test_items_do_not_depend_on_autocast_and_keep_no_batch() -> None:
    data = dataset(rendering="gray")
    plain = data.__getitems__([0, 1])[1][0]
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_bits(dataset(rendering="gray")[1][0], plain)
    assert plain.untyped_storage().nbytes() == plain.nbytes


@pytest.mark.parametrize("rules", ["own", "fractal-pretraining"])
def test_systems_whose_points_diverge_raise_a_warning(rules: Any) -> None:
    systems = [System([[[scale, 0.0], [0.0, 0.5]]] * 2, [[0.0, 0.0], [1.0, 1.0]], [0.5, 0.5]) for scale in (0.5, 1.5)]
    with pytest.warns(UserWarning, match=r"^FractalDataset: the points of 1 of 2 systems diverge, the first is "):
        FractalDataset(systems, 1, 32, rules=rules)
    FractalDataset({"one": systems[0]}, 1, 32, rules=rules)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)], ids=str)
def test_clouds_fill_the_image_in_their_proportions(shape: tuple[int, int]) -> None:
    clouds = torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]])  # all points of the second coincide
    pixels = fitted(clouds.unflatten(1, shape), (21, 41))
    assert torch.allclose(pixels[0], torch.tensor([[1.0, 15.5], [19.0, 24.5]]))
    assert torch.allclose(pixels[1], torch.tensor([10.0, 20.0]))


@pytest.mark.parametrize("rendering", OwnRules.renderings)
def test_bytes_are_the_values_rounded(rendering: str) -> None:
    values, label = dataset(rendering=rendering, background="random")[3]
    levels, same = dataset(rendering=rendering, background="random", dtype=torch.uint8)[3]
    assert levels.dtype == torch.uint8
    assert torch.equal(levels, (values * 255).round().to(torch.uint8))
    assert label == same


def test_given_systems_are_the_classes() -> None:
    system = IFS(4, 5, generator=seeded(2))
    data = FractalDataset(system, 2, 16, points=300)
    assert (data.classes, data.num_classes, len(data)) == (["0000", "0001", "0002", "0003"], 4, 8)
    assert data.class_to_idx == {"0000": 0, "0001": 1, "0002": 2, "0003": 3}
    named = FractalDataset(system, 2, 16, points=300, names=["leaf", "tree", "digit", "galaxy"])
    assert named.classes[named[5][1]] == "digit"
    assert named.class_to_idx["galaxy"] == 3
    for names in (["leaf"], ["leaf", "tree", "digit", "leaf"]):
        with pytest.raises(ValueError, match=r"^FractalDataset: names must be 4 different names, got "):
            FractalDataset(system, 2, 16, names=names)
    assert torch.equal(data.matrix, system.maps()[0])


def test_given_systems_are_drawn_alike_in_both_precisions() -> None:
    images = []
    for dtype in (torch.float32, torch.float64):
        system = IFS(2, 3, generator=seeded(4), dtype=dtype)
        data = FractalDataset(system, 2, 16, points=300)
        assert data[3][0].dtype == torch.float32
        images.append(torch.stack([data[item][0] for item in range(4)]))
    assert (images[0] != images[1]).float().mean() < 0.02  # rounding moves some points to the next pixel


def test_the_dataset_keeps_its_systems() -> None:
    system = IFS(2, 3, parametrization="matrix", generator=seeded(4))
    data = FractalDataset(system, 2, 16, points=300)
    before = data[1][0]
    with torch.no_grad():
        system.matrix.zero_()
    assert_same_bits(data[1][0], before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_given_systems_must_be_finite(value: float) -> None:
    system = IFS(4, 3, generator=seeded(4))
    with torch.no_grad():
        system.offset[2, 1, 0] = value
    with pytest.raises(ValueError, match=r"^FractalDataset: systems must be finite, got NaN or infinity in system 2$"):
        FractalDataset(system, 2, 16)


@pytest.mark.parametrize("perturbation", [0.0, 0.05])
@pytest.mark.parametrize("size", [64, (100, 63)], ids=str)
def test_every_picture_is_as_dense_as_asked(perturbation: float, size: Any) -> None:
    changes = {"systems": 10, "instances": 4, "size": size, "points": 10_000, "perturbation": perturbation}
    dense, loose = (dataset(density=density, **changes) for density in (0.3, 0.0))
    shares = [[data[item][0].mean() for item in range(len(data))] for data in (dense, loose)]
    assert min(shares[0]) >= 0.3
    assert min(shares[1]) < 0.2


@pytest.mark.slow
def test_every_picture_of_the_default_size_is_as_dense_as_asked() -> None:
    data = FractalDataset(20, 10)
    assert min(image.mean() for image, _ in data.__getitems__(range(200))) >= 0.2


def test_items_are_transformed() -> None:
    plain = dataset()
    data = dataset(transform=torch.Tensor.sum, target_transform=str)
    assert data[7] == (plain[7][0].sum(), "1")
    assert data.targets == plain.targets == [0] * 5 + [1] * 5 + [2] * 5 == [label for _, label in plain]
    worked = list(DataLoader(data, 4, num_workers=1, collate_fn=list))
    assert [label for batch in worked for _, label in batch] == [str(target) for target in data.targets]


def test_representation() -> None:
    assert repr(dataset(rendering="color", size=(3, 5))) == (
        "Dataset FractalDataset\n    Number of datapoints: 15\n    Classes: 3 of 5 instances\n"
        "    Items: own, color, (3, 3, 5), torch.float32"
    )
    shown = repr(dataset(transform=torch.nn.Identity(), target_transform=str))
    assert shown.endswith("\n    Transform: Identity()\n    Target transform: <class 'str'>")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"systems": 0}, ValueError, "systems must be at least 1, got 0"),
        ({"instances": 0}, ValueError, "instances must be at least 1, got 0"),
        ({"points": 0}, ValueError, "points must be at least 1, got 0"),
        ({"size": (3, 0)}, ValueError, "size must lie in [1, 4194303], got (3, 0)"),
        ({"rendering": "hard"}, ValueError, "rendering must be one of binary, patch, gray, color, got 'hard'"),
        ({"background": "white"}, ValueError, "background must be one of black, random, got 'white'"),
        ({"perturbation": 1.0}, ValueError, "perturbation must lie in [0, 1), got 1.0"),
        ({"density": -0.1}, ValueError, "density must lie in [0, 1), got -0.1"),
        ({"density": 0.95}, ValueError, "density must be reached by random systems, got 0.95 (0 of 640 reached it)"),
        # The search stops early for any number of systems.
        (
            {"systems": 1000, "density": 0.99},
            ValueError,
            "density must be reached by random systems, got 0.99 (0 of 2048 reached it)",
        ),
        (
            {"points": 50, "density": 0.2},
            ValueError,
            "density must be at most 0.195, the share of 16 x 16 pixels that 50 points can light, got 0.2",
        ),
        ({"maps": 2.0}, TypeError, "maps must be an int or a pair of them, got 2.0"),
        ({"dtype": torch.int32}, TypeError, "dtype must be torch.float32 or torch.uint8, got torch.int32"),
    ],
    ids=str,
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^FractalDataset: {re.escape(message)}$"):
        dataset(**changes)


def test_which_items_there_are() -> None:
    data = dataset()
    with pytest.raises(IndexError, match=r"^FractalDataset: index must lie in \[-15, 15\), got 15$"):
        data[15]
    with pytest.raises(TypeError, match="float"):
        data[1.5]  # type: ignore[index]
    assert type(data[torch.tensor(7)][1]) is int  # type: ignore[index]
