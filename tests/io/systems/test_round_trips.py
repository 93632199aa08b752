"""Tests that written systems are read back equal, and that drawings match those of the formats' own programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fractalops import IFS, project
from fractalops.drawing.high_resolution import Picture, draw
from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from fractalops.sampling import sample_attractor
from fractalops.systems import System
from tests.support.system_files import CSV, FERN_ROWS, assert_equal, random_system, write
from tests.support.system_files import IFS as IFS_TEXT

SUFFIXES = (".ifs", ".flame", ".npz", ".json", ".safetensors", "")
IN_SPACE = (".ifs", ".npz", ".json", ".safetensors", "")
COLORED = (".flame", ".npz", ".json", ".safetensors")


@pytest.mark.parametrize(("suffix", "dimensions"), [(each, 2) for each in SUFFIXES] + [(each, 3) for each in IN_SPACE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [None, 3])
def test_what_is_written_is_read_back(
    suffix: str, dimensions: int, dtype: torch.dtype, channels: int | None, tmp_path: Path
) -> None:
    systems = {
        name: random_system(maps, dimensions=dimensions, dtype=dtype, channels=channels, name=name, seed=maps)
        for name, maps in (("a", 1), ("b-ü", 3), ("c", 64))
    }
    path = tmp_path / f"systems{suffix}"
    with collect_notices() as notices:
        write_systems(path, systems)
        read = read_systems(path)
    assert list(read) == list(systems)
    assert (notices != {}) == (channels is not None and suffix not in COLORED)
    for name, expected in systems.items():
        system = read[name]
        assert system.name == name
        if suffix in (".npz", ".safetensors"):
            held = dtype if suffix == ".safetensors" else torch.promote_types(dtype, torch.float32)
            assert system.matrix.dtype == system.offset.dtype == held
        if suffix not in COLORED:
            expected = replace(expected, color=None)
        total = expected.probabilities.double().sum()
        if suffix in (".ifs", "") and abs(total - 1) > 1.001e-3:  # half precision: the formats need a sum of 1
            expected = replace(expected, probabilities=expected.probabilities.double() / total)
        if suffix == ".flame" and system.color is not None:
            system = replace(system, color=system.color.to(dtype))  # a flame has multiples of 1/255
        assert_equal(system, expected)
    again = tmp_path / f"again{suffix}"
    with collect_notices():
        write_systems(again, list(read.values()))
    for one, other in zip(sorted(path.rglob("*")), sorted(again.rglob("*")), strict=True):
        assert one.is_dir() or one.read_bytes() == other.read_bytes()
    if suffix:
        assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("suffix", [".ifs", ".flame", ".json"])
def test_awkward_numbers(suffix: str, tmp_path: Path) -> None:
    numbers = torch.tensor([[[1e-300, -0.0], [5e-324, 1.7976931348623157e308]]], dtype=torch.float64)
    system = System(numbers, torch.tensor([[0.1, 1 / 3]], dtype=torch.float64), torch.ones(1), name="a")
    write_systems(tmp_path / f"a{suffix}", system)
    assert_equal(read_systems(tmp_path / f"a{suffix}")["a"], system)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a\x1ab",
        "\ufeffa",
        "a\0b",
        "comment",
        "x/y",
        "./a",
        "a//b",
        "a.npy",
        "allow_pickle",
        "'",
        "<&>",
        "\n",
        "\udc80",
        "(3D)",
    ],
)
def test_awkward_names(name: str, suffix: str, tmp_path: Path) -> None:
    """Names are kept, changed if the format requires it, or refused."""
    systems = [random_system(2, name=name, seed=0), random_system(3, name="zz", seed=1)]
    path = tmp_path / f"a{suffix}"
    refused = ""
    with collect_notices() as notices:
        try:
            write_systems(path, systems)
        except InputError as error:
            refused = str(error)
    if refused:
        assert refused.startswith(f"cannot save {path}: ")
        assert suffix in ("", ".npz")
        assert list(tmp_path.rglob("*.*")) == []
        return
    read = read_systems(path)
    assert (list(read) == [name, "zz"]) == (notices == {})
    assert notices == {} or suffix in (".ifs", ".flame")
    for system, expected in zip(read.values(), systems, strict=True):
        assert_equal(system, expected)


def test_the_kinds_of_systems_that_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    one, other = random_system(seed=1), random_system(seed=2, name="b")
    for systems, names in (
        (one, ["a"]),
        (other, ["b"]),
        ([one, other], ["0", "b"]),
        ((other,), ["b"]),
        ({"x": other, "y": other}, ["x", "y"]),
        (IFS(1, 3), ["a"]),
        (IFS(3, 2), ["0", "1", "2"]),
    ):
        write_systems(path, systems)
        assert list(read_systems(path)) == names


@pytest.mark.parametrize(
    ("systems", "error", "reason"),
    [
        ([], ValueError, "systems must not be empty, got no system"),
        ({}, ValueError, "systems must not be empty, got no system"),
        ([random_system(name="a")] * 2, ValueError, "names must be unique, got 'a' twice"),
        (3, TypeError, "systems must be a System, several of them, or an IFS, got int"),
        ([1], TypeError, "systems must be a System, several of them, or an IFS, got list"),
        (
            System(torch.full((1, 2, 2), torch.nan), torch.zeros(1, 2), torch.ones(1)),
            InputError,
            "cannot save .*a.json: the system 'a': matrix must be finite",
        ),
    ],
)
def test_what_is_not_written(systems: Any, error: type[Exception], reason: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=reason):
        write_systems(tmp_path / "a.json", systems)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot save .*a\.txt: unknown suffix '\.txt', use one of \.ifs, \.flame"):
        write_systems(tmp_path / "a.txt", random_system())
    with pytest.raises(FileNotFoundError):
        write_systems(tmp_path / "nowhere" / "a.ifs", random_system())


def test_ambient_state_changes_nothing(tmp_path: Path) -> None:
    expected = read_systems(write(tmp_path, "a.ifs", IFS_TEXT))
    write_systems(tmp_path / "a.flame", expected["fern"])
    content = (tmp_path / "a.flame").read_bytes()
    with torch.device("meta"), torch.inference_mode():
        torch.set_default_dtype(torch.float16)
        try:
            systems = read_systems(tmp_path / "a.ifs")
            flame = read_systems(tmp_path / "a.flame")
            write_systems(tmp_path / "b.flame", systems["fern"])
        finally:
            torch.set_default_dtype(torch.float32)
    for name, system in systems.items():
        assert_equal(system, expected[name])
    assert_equal(flame["fern"], expected["fern"])
    assert (tmp_path / "b.flame").read_bytes() == content


def fern_points() -> np.ndarray:
    """Return points (P, 2) of the fern as (x, y), with y up, by the chaos game."""
    rows = np.array(FERN_ROWS)
    random = np.random.default_rng(0)
    points = np.zeros((2000, 2))
    kept = []
    for step in range(80):
        a, b, c, d, e, f = rows[random.choice(4, 2000, p=rows[:, 6])][:, :6].T
        points = np.stack((a * points[:, 0] + b * points[:, 1] + e, c * points[:, 0] + d * points[:, 1] + f), 1)
        kept += [points] if step > 20 else []
    return np.concatenate(kept)


def moments(weights: np.ndarray) -> np.ndarray:
    """Return a picture's (H, W) mean row and column, and 10 times its third central moments, in shares of its sides."""
    height, width = weights.shape
    share = weights / weights.sum()
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    mean = np.array([share.sum(1) @ rows, share.sum(0) @ columns])
    third = np.array([share.sum(1) @ (rows - mean[0]) ** 3, share.sum(0) @ (columns - mean[1]) ** 3])
    return np.concatenate((mean, 10 * third))


@pytest.mark.parametrize("form", [".ifs", ".csv", ".flame", ".npz", ".json"])
def test_the_fern_stands_upright(form: str, tmp_path: Path) -> None:
    system = next(iter(read_systems(write(tmp_path, "a.ifs", IFS_TEXT)).values()))
    if form == ".csv":
        system = read_systems(write(tmp_path, "a.csv", CSV))["a"]
    elif form != ".ifs":
        write_systems(tmp_path / f"b{form}", system)
        (system,) = read_systems(tmp_path / f"b{form}").values()
    picture = Picture(size=(96, 96), points=200_000, viewport="fit", gamma=1.0)
    image = draw(system, picture, torch.Generator().manual_seed(0))[0].numpy()  # (H, W)
    points = fern_points()
    low, high = points.min(0), points.max(0)
    pixel = (points - (low + high) / 2) / (high - low).max() * 95 + 47.5  # (P, 2) as x and y
    expected, _, _ = np.histogram2d(95 - pixel[:, 1], pixel[:, 0], bins=96, range=((-0.5, 95.5), (-0.5, 95.5)))
    lit, reference = (each > 0.01 * each.max() for each in (image, expected))
    ways = {
        f"{turns} {'over' if over else ''}": moments(np.rot90(reference.T if over else reference, turns).astype(float))
        for turns in range(4)
        for over in (False, True)
    }
    distance = {name: np.abs(moments(lit.astype(float)) - way).max() for name, way in ways.items()}
    assert distance["0 "] < 0.02
    assert min(each for name, each in distance.items() if name != "0 ") > 0.025


def test_the_fern_in_space_stands_upright(tmp_path: Path) -> None:
    text = "a (3D) {\n 0 0 0 0 .18 0 0 0 0 0 0 0 .01\n .85 0 0 0 .85 .1 0 -.1 .85 0 1.6 0 .99\n}"
    system = read_systems(write(tmp_path, "a.ifs", text))["a"]
    points = sample_attractor(
        system.matrix[None], system.offset[None], system.probabilities[None], 1000, generator=torch.Generator()
    ).points.flatten(0, 2)
    plane, depth = project(points, 0.0, 0.0)
    height, leaning = -plane[:, 0], -depth  # up, and toward the viewer
    assert height.min() >= 0
    assert height.max() > 5
    # y points up. z points toward the viewer, and is negative for large y.
    assert torch.corrcoef(torch.stack((height, leaning)))[0, 1] < -0.5
