"""Tests of copies and pickles of public objects, also after a backward pass: they work like the originals."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import fractalops
from fractalops import IFS, FitConfig, FractalDataset, FractalEmbedding, PointConfig, systems
from fractalops.data.class_search import search_classes
from fractalops.data.fractal_dataset import RULES
from fractalops.data.targets import PictureFiles, PictureFolder, TensorTargets, open_targets
from fractalops.io import PictureOptions
from fractalops.io.images import save_image
from tests.support.cases import seeded
from tests.support.learning import disc
from tests.support.tolerances import assert_all_same_bits

MODULES = ("fractalops", "fractalops.systems", "fractalops.io", "fractalops.data.targets", "fractalops.fitting")
PUBLIC = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
}
CLASSES = {
    each
    for each in PUBLIC.values()
    if inspect.isclass(each) and not inspect.isabstract(each) and not getattr(each, "_is_protocol", False)
}

COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda each: pickle.loads(pickle.dumps(each)),
}
INDEX = torch.randint(3, (2, 2, 20), generator=seeded(0))
MATRIX, OFFSET = torch.rand(3, 2, 2, generator=seeded(1)) - 0.5, torch.rand(3, 2, generator=seeded(2))
CLOUD = torch.rand(60, 3, generator=seeded(3))
CONFIG = FitConfig(maps=3, points=30, sequences=2, steps=2)


def draw(module: nn.Module) -> list[Tensor]:
    """Return what a module draws, and the gradients of its parameters."""
    if isinstance(module, IFS):
        result = module(9, sequences=2, points=20, generator=seeded(4))
    else:
        result = module(INDEX[0], torch.zeros(2))
    parameters = list(module.parameters())
    module.zero_grad()
    torch.autograd.backward(result.square().sum())
    return [result.detach(), *(torch.zeros(()) if each.grad is None else each.grad for each in parameters)]


def tensors(fields: Any) -> list[Tensor]:
    return [each for each in fields if isinstance(each, Tensor)]


def nothing(_: Any) -> list[Tensor]:
    return []


def targets(folder: Path) -> dict[str, Any]:
    """Return targets of every kind."""
    picture = folder / "disc.png"
    save_image(disc(8), picture)
    numpy.save(folder / "stack.npy", torch.stack([disc(8), disc(8).mT]).numpy())
    return {
        "PictureFiles": PictureFiles([picture], PictureOptions(size=8)),
        "PictureFolder": PictureFolder(folder, PictureOptions(size=8)),
        "StackTargets": open_targets(folder / "stack.npy", PictureOptions(size=8)),
        "TensorTargets": TensorTargets(disc(8)[None]),
    }


# A function that creates the object in a folder, and one whose results are compared with those of a copy.
MADE: dict[str, tuple[Callable[[Path], Any], Callable[[Any], list[Tensor]]]] = {
    "IFS": (lambda folder: IFS(2, 3, generator=seeded(5)), draw),
    "IFS of all": (
        lambda folder: IFS(
            2,
            3,
            parametrization="matrix",
            probabilities="learned",
            sampling="balanced",
            channels=3,
            blend="mean",
            viewport="fit",
            bandwidth=2.0,
            cutoff=None,
            generator=seeded(5),
        ),
        draw,
    ),
    "IFS.from_maps": (lambda folder: IFS.from_maps(MATRIX, OFFSET), draw),
    "FractalEmbedding": (lambda folder: FractalEmbedding(3, generator=seeded(6)), draw),
    "FitConfig": (lambda folder: FitConfig.paper(maps=3), nothing),
    "PointConfig": (lambda folder: PointConfig(maps=3), nothing),
    "PictureOptions": (lambda folder: PictureOptions(size=8), nothing),
    "FitResult": (
        lambda folder: fractalops.fit(disc(8), CONFIG),
        lambda result: [result.losses, result.draw(9), *draw(result.system)],
    ),
    "PointFitResult": (
        lambda folder: fractalops.fit_points(CLOUD, PointConfig(maps=2, points=50, steps=1)),
        lambda result: [result.matrix, result.losses, result.sample(50, generator=seeded(7))],
    ),
    "FitRun": (
        lambda folder: fractalops.fit_dataset(disc(8)[None], folder / "run", CONFIG),
        lambda run: [run.minimum_mse, *draw(run.system())],
    ),
    "System": (lambda folder: IFS(1, 3, generator=seeded(5)).system(), lambda system: tensors(vars(system).values())),
    **{
        f"Classic {name}": (lambda folder, name=name: systems.CLASSICS[name], lambda each: [*each.maps])
        for name in systems.CLASSICS
    },
    "RandomSystems": (lambda folder: systems.random_systems(2, 3, generator=seeded(8)), tensors),
    **{
        f"FractalDataset {rules} {rendering}": (
            lambda folder, rules=rules, rendering=rendering: FractalDataset(
                2 if rules == "own" else search_classes(2, rate=0.05, size=64, points=2000),
                2 if rules == "own" else None,
                17,
                rules=rules,
                rendering=rendering,
                points=100,
            ),
            lambda data: [data[0][0], data[len(data) - 1][0]],
        )
        for rules, kind in RULES.items()
        for rendering in (kind.renderings if rules == "own" else kind.renderings[:1])
    },
    **{
        name: (lambda folder, name=name: targets(folder)[name], lambda data: [data[0]])
        for name in ("PictureFiles", "PictureFolder", "StackTargets", "TensorTargets")
    },
    "use_backend": (lambda folder: fractalops.use_backend("reference"), lambda scope: inside(scope)),
    "BackendError": (lambda folder: fractalops.BackendError("affine_chain: can't run"), nothing),
    "InputError": (lambda folder: fractalops.InputError("cannot read x: it is empty"), nothing),
    "MissingExtra": (lambda folder: fractalops.MissingExtra("plot", "matplotlib", "plot"), nothing),
    "RankError": (lambda folder: fractalops.RankError("rank 1 is missing"), nothing),
}


def inside(scope: Any) -> list[Tensor]:
    with scope:
        assert fractalops.backends.choose("affine_chain", torch.device("cpu")) == "reference"
    return []


@pytest.mark.parametrize("name", MADE)
def test_a_copy_does_as_the_original(name: str, tmp_path: Path) -> None:
    make, results = MADE[name]
    original = make(tmp_path)
    assert type(original) in CLASSES
    expected = results(original)
    for duplicate in COPIES.values():
        copied = duplicate(original)
        assert type(copied) is type(original)
        if "object at" not in repr(original):
            assert (repr(copied), str(copied)) == (repr(original), str(original))
        assert_all_same_bits(results(copied), expected)
    assert_all_same_bits(results(original), expected)


def test_every_public_class_is_tried() -> None:
    tried = {name.partition(" ")[0].partition(".")[0] for name in MADE}
    assert {each.__name__ for each in CLASSES} == tried


@pytest.mark.parametrize("name", [name for name, each in PUBLIC.items() if callable(each)])
def test_public_functions_and_classes_are_pickled_by_their_names(name: str) -> None:
    for duplicate in COPIES.values():
        assert duplicate(PUBLIC[name]) is PUBLIC[name]


def test_a_copied_module_learns_by_itself() -> None:
    module = IFS(1, 3, generator=seeded(5))
    expected = draw(module)
    copied = copy.deepcopy(module)
    torch.optim.SGD(copied.parameters(), 0.1).zero_grad()
    draw(copied)
    torch.optim.SGD(copied.parameters(), 0.1).step()
    assert not torch.equal(draw(copied)[0], expected[0])
    assert_all_same_bits(draw(module), expected)
