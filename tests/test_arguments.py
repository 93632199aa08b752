"""Tests of arguments of the public functions: NumPy's numbers are accepted, and errors name wrong arguments."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import IFS, FitConfig, FitResult, FractalDataset, FractalEmbedding, PointConfig, PointFitResult
from fractalops._checks import Bounds, check_fields
from fractalops.data.class_search import search_classes
from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.io.picture_options import PictureOptions
from fractalops.rendering import Frame
from fractalops.sampling import sample_attractor, sample_index
from fractalops.systems import System, random_systems
from tests.support.cases import seeded
from tests.support.learning import disc
from tests.support.tolerances import assert_same_bits

MATRIX = torch.rand(3, 2, 2, generator=seeded(0)) - 0.5  # (N, 2, 2)
OFFSET = torch.rand(3, 2, generator=seeded(1))  # (N, 2)
INDEX = torch.randint(3, (2, 30), generator=seeded(2))  # (B, T)
CLOUD = torch.rand(200, 3, generator=seeded(3))  # (P, 3)
PLANE = 8 * torch.rand(2, 30, 2, generator=seeded(4))  # (B, T, 2)
SHARES = torch.full((3,), 1 / 3)
CONFIG = FitConfig(maps=3, points=30, sequences=2, steps=2)


@pytest.fixture(autouse=True)
def _fewer_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.fitting.copies._CANDIDATES", 50)


def given() -> IFS:
    return IFS.from_maps(MATRIX, OFFSET)


def system() -> System:
    return System(MATRIX, OFFSET, SHARES)


@functools.cache
def result() -> FitResult:
    return fractalops.fit(disc(16), CONFIG)


@functools.cache
def point_result() -> PointFitResult:
    return fractalops.fit_points(CLOUD, PointConfig(maps=3, points=60, steps=1))


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, torch.nn.Module):
        return list(result.state_dict().values())
    if isinstance(result, FractalDataset):
        return [result.matrix, result[0][0]]
    if isinstance(result, fractalops.FitResult):
        return [result.losses, *result.system.state_dict().values()]
    if isinstance(result, System):
        return [result.matrix, result.offset]
    return [result] if isinstance(result, Tensor) else [each for part in result for each in tensors(part)]


# A call with each size, count and seed, converted to Python's int or to another type of number.
Number = Callable[[int], Any]
COUNTS: dict[str, Callable[[Number], Any]] = {
    "rbf_rasterize size": lambda n: fractalops.rbf_rasterize(PLANE, n(9)),
    "rbf_rasterize sides": lambda n: fractalops.rbf_rasterize(PLANE, (n(9), n(7))),
    "rasterize_points size": lambda n: fractalops.rasterize_points(PLANE, n(9)),
    "render size": lambda n: fractalops.render(MATRIX, OFFSET, INDEX, n(200)),
    "render sides": lambda n: fractalops.render(MATRIX, OFFSET, INDEX, [n(9), n(100)], viewport="fit"),
    "render_points size": lambda n: fractalops.render_points(CLOUD[None], n(200)),
    "random_patches": lambda n: fractalops.random_patches(n(4), n(3), seeded(0)),
    "sample_index": lambda n: sample_index(SHARES[None], n(2), n(200), seeded(0)),
    "sample_attractor": lambda n: sample_attractor(
        MATRIX[None], OFFSET[None], SHARES[None], n(99), sequences=n(2), burn_in=n(3), generator=seeded(0)
    ),
    "random_systems": lambda n: random_systems(n(2), n(100), generator=seeded(0)),
    "IFS": lambda n: IFS(n(2), n(100), channels=n(3), generator=seeded(0)),
    "IFS.forward": lambda n: given()(n(9), sequences=n(2), points=n(200), generator=seeded(0)),
    "IFS.sample": lambda n: given().sample(n(2), n(200), generator=seeded(0)),
    "IFS.system": lambda n: given().system(n(0)),
    "FractalEmbedding": lambda n: FractalEmbedding(n(100), generator=seeded(0)),
    "System.points": lambda n: system().points(n(200), burn_in=n(20), generator=seeded(0)),
    "draw_high_resolution": lambda n: draw_high_resolution(given(), (n(20), n(20)), points=n(200), generator=seeded(0)),
    "fit": lambda n: fractalops.fit(
        disc(16), FitConfig(maps=n(3), points=n(200), sequences=n(2), steps=n(2), seed=n(5), batch_size=n(2))
    ),
    "FitResult.draw": lambda n: result().draw(n(20), points=n(200), seed=n(3)),
    "FitResult[]": lambda n: result()[n(0)],
    "fit_points": lambda n: (
        fractalops.fit_points(CLOUD, PointConfig(maps=n(3), points=n(100), steps=n(2), seed=n(1))).losses
    ),
    "PointFitResult.sample": lambda n: point_result().sample(n(200), generator=seeded(0)),
    "FractalDataset": lambda n: FractalDataset(n(3), n(2), n(20), points=n(200), seed=n(4), maps=n(2)),
    "FractalDataset sides": lambda n: FractalDataset(3, 2, (n(20), n(30)), points=200, maps=(n(2), n(4))),
    "FractalDataset in space": lambda n: FractalDataset(n(2), n(2), n(9), dimensions=n(3), points=n(200)),
    "FractalDataset[]": lambda n: FractalDataset(3, 2, 20, points=200)[n(1)][0],
    "search_classes": lambda n: search_classes(
        n(2), rate=0.1, size=n(64), points=n(2000), seed=n(0), maps=(n(2), n(4))
    ),
}


def of_numpy(number: int) -> Any:
    """Return the number in a small type of NumPy. Computations with it must not overflow."""
    return np.uint8(number) if number < 256 else np.int32(number)


@pytest.mark.parametrize("name", COUNTS)
def test_integers_of_numpy_are_whole_numbers(name: str) -> None:
    actual, expected = tensors(COUNTS[name](of_numpy)), tensors(COUNTS[name](int))
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("number", [Fraction(3, 2), np.float32(1.5), np.float64(1.5)], ids=repr)
def test_any_kind_of_real_number_is_a_bandwidth(number: Any) -> None:
    points = torch.tensor([[[2.0, 3.5]]])
    expected = fractalops.rbf_rasterize(points, 7, bandwidth=1.5)
    assert_same_bits(fractalops.rbf_rasterize(points, 7, bandwidth=number), expected)


def test_settings_of_numpy_are_saved_and_loaded(tmp_path: Path) -> None:
    config = FitConfig(maps=np.int64(3), points=np.uint8(30), sequences=2, steps=1, bandwidth=np.float32(1.5))
    assert [type(value) for value in (config.maps, config.points, config.bandwidth)] == [int, int, float]
    fractalops.fit(disc(16), config).save(tmp_path / "result.safetensors")
    assert fractalops.FitResult.load(tmp_path / "result.safetensors").config.maps == 3
    assert PictureOptions(size=np.int64(9)).scaled(20, 10) == (9, 4)


WRONG = [True, np.True_, 9.0, np.float64(9), "9", torch.tensor(9), None]
WITHOUT_NONE = ("FractalDataset", "FractalDataset in space", "IFS", "FitResult.draw")  # None is a default there


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, wrong)
        for name in COUNTS
        for wrong in WRONG
        if not name.endswith("]") and name != "IFS.system" and not (wrong is None and name in WITHOUT_NONE)
    ],
)
def test_other_kinds_of_numbers_are_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^\w+(\.\w+)*: \w+ must .+, got "):
        COUNTS[name](lambda number: wrong)


# Generators

GENERATORS: dict[str, Callable[[Any], Any]] = {
    "random_patches": lambda g: fractalops.random_patches(4, generator=g),
    "sample_index": lambda g: sample_index(SHARES[None], 2, 9, g),
    "sample_attractor": lambda g: sample_attractor(MATRIX[None], OFFSET[None], SHARES[None], 9, generator=g),
    "random_systems": lambda g: random_systems(1, 3, generator=g),
    "IFS": lambda g: IFS(1, 3, generator=g),
    "IFS.reset_parameters": lambda g: IFS(1, 3).reset_parameters(g),
    "IFS.forward": lambda g: given()(9, generator=g),
    "IFS.sample": lambda g: given().sample(1, 9, generator=g),
    "FractalEmbedding": lambda g: FractalEmbedding(3, generator=g),
    "FractalEmbedding.reset_parameters": lambda g: FractalEmbedding(3).reset_parameters(g),
    "System.sample": lambda g: system().sample(9, generator=g),
    "System.points": lambda g: system().points(9, generator=g),
    "PointFitResult.sample": lambda g: point_result().sample(9, generator=g),
    "draw_high_resolution": lambda g: draw_high_resolution(given(), (9, 9), points=99, generator=g),
}


@pytest.mark.parametrize(
    "wrong",
    [3, "seed", np.random.default_rng(0), torch.Generator, [3]],
    ids=["a number", "text", "NumPy's", "the class", "a list"],
)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_wrong_generator_is_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^\w+(\.\w+)*: generator must .+, got \w+"):
        GENERATORS[name](wrong)


class Elsewhere(torch.Generator):
    """A CPU generator that claims to be on a GPU, so that the test needs no GPU."""

    device = torch.device("cuda:0")  # type: ignore[assignment]


@pytest.mark.parametrize(
    "name", ["sample_index", "sample_attractor", "IFS.forward", "IFS.sample", "System.points", "PointFitResult.sample"]
)
def test_a_generator_of_another_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+(\.\w+)*: generator must be for cpu, got one for cuda$"):
        GENERATORS[name](Elsewhere())


# Tensors

DENSE: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "affine_chain matrix": lambda c: fractalops.affine_chain(c(MATRIX), OFFSET, INDEX, OFFSET[0]),
    "affine_chain offset": lambda c: fractalops.affine_chain(MATRIX, c(OFFSET), INDEX, OFFSET[0]),
    "affine_chain index": lambda c: fractalops.affine_chain(MATRIX, OFFSET, c(INDEX), OFFSET[0]),
    "affine_chain start": lambda c: fractalops.affine_chain(MATRIX, OFFSET, INDEX, c(OFFSET[0])),
    "rbf_rasterize points": lambda c: fractalops.rbf_rasterize(c(PLANE), 9),
    "rbf_rasterize weight": lambda c: fractalops.rbf_rasterize(PLANE, 9, weight=c(PLANE[..., 0])),
    "rbf_rasterize bandwidth": lambda c: fractalops.rbf_rasterize(PLANE, 9, bandwidth=c(SHARES[:2])),
    "rasterize_points points": lambda c: fractalops.rasterize_points(c(PLANE), 9),
    "rasterize_points patch": lambda c: fractalops.rasterize_points(
        PLANE, 9, patch=c(torch.ones(3, 3, dtype=torch.bool))
    ),
    "render matrix": lambda c: fractalops.render(c(MATRIX), OFFSET, INDEX, 9),
    "render offset": lambda c: fractalops.render(MATRIX, c(OFFSET), INDEX, 9),
    "render start": lambda c: fractalops.render(MATRIX, OFFSET, INDEX, 9, start=c(OFFSET[0])),
    "render color": lambda c: fractalops.render(MATRIX, OFFSET, INDEX, 9, color=c(OFFSET)),
    "render weight": lambda c: fractalops.render(MATRIX, OFFSET, INDEX, 9, weight=c(PLANE[..., 0])),
    "render bandwidth": lambda c: fractalops.render(MATRIX, OFFSET, INDEX, 9, bandwidth=c(SHARES[:2])),
    "render_points points": lambda c: fractalops.render_points(c(CLOUD[None]), 9),
    "project points": lambda c: fractalops.project(c(CLOUD), 0.0, 0.0),
    "box_dimension points": lambda c: fractalops.box_dimension(c(CLOUD.repeat(9, 1))),
    "System matrix": lambda c: System(c(MATRIX), OFFSET, SHARES),
    "System probabilities": lambda c: System(MATRIX, OFFSET, c(SHARES)),
    "IFS.from_maps matrix": lambda c: IFS.from_maps(c(MATRIX), OFFSET),
    "IFS.from_maps offset": lambda c: IFS.from_maps(MATRIX, c(OFFSET)),
    "IFS.from_maps probabilities": lambda c: IFS.from_maps(MATRIX, OFFSET, c(SHARES)),
    "IFS.concatenated index": lambda c: given().concatenated(c(INDEX[None])),
    "IFS.points index": lambda c: given().points(c(INDEX[None])),
    "IFS.forward index": lambda c: given()(9, index=c(INDEX[None])),
    "FractalEmbedding.from_maps matrix": lambda c: FractalEmbedding.from_maps(c(MATRIX), OFFSET),
    "FractalEmbedding.step index": lambda c: FractalEmbedding(3).step(c(INDEX[0]), PLANE[0]),
    "sample_index probabilities": lambda c: sample_index(c(SHARES[None]), 2, 9),
    "fit targets": lambda c: fractalops.fit(c(disc(16)), CONFIG),
    "fit_points target": lambda c: fractalops.fit_points(c(CLOUD)),
}


@pytest.mark.parametrize("name", DENSE)
def test_sparse_tensors_are_refused_by_name(name: str) -> None:
    argument = name.split()[1]
    with pytest.raises(
        TypeError, match=rf"^[\w.]+: {argument} must be a dense tensor, got a tensor of layout torch.sparse_coo$"
    ):
        DENSE[name](lambda tensor: tensor.to_sparse())


def test_maps_are_taken_as_tensors_arrays_and_nested_lists() -> None:
    for make in (IFS.from_maps, FractalEmbedding.from_maps):
        expected = make(MATRIX, OFFSET)
        for convert in (Tensor.numpy, Tensor.tolist, list, lambda tensor: [each.numpy() for each in tensor]):
            found = make(convert(MATRIX), convert(OFFSET))
            for one, other in zip(found.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(one.float(), other)
        with pytest.raises((TypeError, ValueError), match=r"from_maps: matrix must "):
            make("maps", OFFSET)
        with pytest.raises((TypeError, ValueError), match=r"from_maps: offset must "):
            make(MATRIX, None)


@pytest.mark.parametrize("wrong", [3, "mse", torch.zeros(3)])
def test_a_loss_is_a_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^fit: loss must be a function or None, got {type(wrong).__name__}$"):
        fractalops.fit(disc(16), CONFIG, loss=wrong)


def test_every_public_name_is_tried() -> None:
    """The names that take no size, generator or tensor are listed here."""
    said = re.findall(r"\w+", " ".join((*COUNTS, *GENERATORS, *DENSE)))
    others = {"BackendError", "InputError", "MissingExtra", "RankError", "FitRun", "fit_dataset"}
    others |= {"list_backends", "show_backends", "use_backend", "FitConfig", "PointConfig"}
    assert set(fractalops.__all__) - set(said) == others


CENTER, RADIUS = torch.zeros(3), torch.ones(())


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (3, TypeError, "frame must be a Frame or None, got int"),
        ((CENTER,), TypeError, "frame must be a Frame or None, got tuple"),
        (Frame(CENTER, 1.0), TypeError, "radius must be a tensor, got float"),
        (Frame(CENTER.double(), RADIUS), TypeError, "center must have the dtype of points"),
        (Frame(CENTER[:2], RADIUS), ValueError, r"center must have shape \(3,\), got \(2,\)"),
        (Frame(CENTER, RADIUS[None]), ValueError, r"radius must have shape \(\), got \(1,\)"),
    ],
    ids=str,
)
def test_a_wrong_frame_is_refused_by_name(frame: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^render_points: {message}"):
        fractalops.render_points(torch.rand(1, 4, 3), 8, frame=frame)


def test_an_array_is_no_choice() -> None:
    index = torch.zeros(1, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^render: blend must be one of add, mean, got array"):
        fractalops.render(torch.eye(2)[None], torch.zeros(1, 2), index, 8, blend=np.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("bound", [np.float32, np.float64, int])
def test_a_viewport_is_kept_as_numbers_of_python(bound: Any) -> None:
    viewport = [bound(each) for each in (-1, -1, 1, 1)]
    kept = (IFS(viewport=viewport).viewport, FitConfig(viewport=viewport).viewport)  # type: ignore[arg-type]
    assert kept == ((-1, -1, 1, 1), (-1, -1, 1, 1))
    assert all(isinstance(each, (int, float)) for each in kept[0] + kept[1])


@dataclass
class Digit:
    """Settings with one integer that has both bounds."""

    value: Annotated[int, Bounds(least=0, most=9)]


@pytest.mark.parametrize(("value", "limit"), [(-1, "at least 0"), (10, "at most 9")])
def test_an_integer_of_settings_has_both_bounds(value: int, limit: str) -> None:
    with pytest.raises(ValueError, match=f"^Digit: value must be {limit}, got {value}$"):
        check_fields(Digit(value))
