"""Tests of the experiments' targets: data sets in torchvision's layout, downloads, and random fractals."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fractalops import IFS, InputError, MissingExtra, experiments, render
from fractalops.experiments.fractals import random_fractals
from fractalops.experiments.targets import available, download_missing, read_targets
from tests.support.command_line import run
from tests.support.experiment_data import SETTINGS, TINY_OPTIONS, write_mnist


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("place", "name"),
    [("MNIST/raw", "mnist"), ("mnist", "mnist"), ("KMNIST/raw", "kmnist"), ("FashionMNIST/raw", "fashion-mnist")],
)
def test_data_sets_are_found_where_torchvision_puts_them(place: str, name: str, packed: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / place, 10, packed=packed)
    assert available(tmp_path) == ["fractaldb", name]
    targets = read_targets(name, tmp_path, 5, size=32, points=300, seed=1)
    assert targets.images.shape == (5, 32, 32)
    assert set(targets.images.unique().tolist()) == {0.0, 1.0}
    assert len(set(targets.labels)) == 5
    again = read_targets(name, tmp_path, 5, size=32, points=300, seed=1)
    assert torch.equal(again.images, targets.images)


def test_a_folder_of_one_data_set(tmp_path: Path) -> None:
    write_mnist(tmp_path / "kmnist", 3)
    assert available(tmp_path / "kmnist") == ["fractaldb", "kmnist"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    for folder, where in ((None, r"no folder was given \(data=None\)"), (tmp_path, "has none of its files")):
        with pytest.raises(InputError, match=rf"^cannot read kmnist: .*{where}; expected are KMNIST/raw/t10k-images"):
            read_targets("kmnist", folder, 3, size=32, points=300, seed=0)
    write_mnist(tmp_path / "MNIST" / "raw", 3)
    with pytest.raises(InputError, match=r"^cannot read 4 images of .*: it has 3$"):
        read_targets("mnist", tmp_path, 4, size=32, points=300, seed=0)


class FakeTorchvision:
    """A stand-in for `torchvision.datasets` that writes small data sets and needs no network."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.brought: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def data_set(root: str, *, download: bool) -> None:
            assert download
            print(f"Downloading {name}")
            if self.error is not None:
                raise self.error
            self.brought.append(name)
            for split in ("train", "t10k"):
                write_mnist(Path(root) / name / "raw", 3, split=split, packed=False)

        return data_set


def test_torchvision_brings_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeTorchvision()
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=fake))
    command: list[str | Path] = ["experiment", "transformations", "--set", "data=fractaldb,kmnist", *TINY_OPTIONS]
    command += ["--set", "counts=1,2", "--quiet", "--data", tmp_path / "data", "-o", tmp_path / "run"]
    assert run(*command, "--download") == 0
    assert fake.brought == ["KMNIST"]
    printed = capsys.readouterr().out
    assert "Downloading" not in printed
    assert "| kmnist " in printed
    assert run(*command, "--download") == 0  # a finished run needs no download
    assert fake.brought == ["KMNIST"]


@pytest.mark.parametrize(
    ("torchvision", "error", "message"),
    [
        (None, MissingExtra, r"^download: needs torchvision .*: pip install 'fractalops\[download\]'$"),
        (FakeTorchvision(RuntimeError("no\nnetwork")), InputError, r"^cannot download mnist: no network$"),
        (FakeTorchvision(OSError("no room")), InputError, r"^cannot download mnist: no room$"),
    ],
)
def test_what_torchvision_cannot_bring(
    torchvision: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = None if torchvision is None else types.SimpleNamespace(datasets=torchvision)
    monkeypatch.setitem(sys.modules, "torchvision", module)
    settings = replace(SETTINGS, data=("fractaldb", "mnist"))
    with pytest.raises(error, match=message):
        experiments.run("reconstruct", tmp_path / "run", settings, data=tmp_path / "data", download=True)
    with pytest.raises(InputError, match=r"^cannot download: no folder was given \(data=None\)$"):
        experiments.run("reconstruct", tmp_path / "run", settings, download=True)
    assert not list(tmp_path.iterdir())
    download_missing([], None)  # nothing is missing


@pytest.mark.parametrize("count", [1, 3, 30])
def test_random_fractals_are_neither_empty_nor_full(count: int) -> None:
    images = random_fractals(count, 10, 32, 300, torch.Generator())[0]
    assert images.shape == (count, 32, 32)
    assert set(images.unique().tolist()) == {0.0, 1.0}
    lit = images.mean(dim=(1, 2))
    assert ((lit >= 0.1) & (lit <= 0.8)).all()
    # Fractals are centered, and their longer side fills 0.6 to 1 of the picture.
    for lit_pixels in images:
        rows, columns = (lit_pixels.any(dim=dim).nonzero()[[0, -1]].flatten().tolist() for dim in (1, 0))
        extents = [last - first + 1 for first, last in (rows, columns)]
        assert 0.6 * 31 - 1 <= max(extents) <= 32
        assert all(abs(first + last - 31) <= 4 for first, last in (rows, columns))


def test_random_fractals_are_what_their_maps_draw() -> None:
    images, matrix, offset = random_fractals(5, 3, 32, 300, torch.Generator())
    assert (matrix.shape, offset.shape) == ((5, 3, 2, 2), (5, 3, 2))
    index = IFS(5, 3, generator=torch.Generator()).sample(30, 300, generator=torch.Generator())  # (5, 30, 300)
    drawn = torch.stack(
        [render(matrix[i], offset[i], index[i], 32, viewport=(-5, -5, 5, 5)).mean(dim=0) for i in range(5)]
    )  # (5, 32, 32)
    errors = (drawn[:, None] - images).square().mean(dim=(2, 3))  # (5, 5): each system against each image
    assert errors.argmin(dim=0).tolist() == list(range(5))


@pytest.mark.parametrize(("size", "points"), [(2, 1), (224, 300), (8, 20)])
def test_random_fractals_of_few_points_are_drawn(size: int, points: int) -> None:
    """The least share of lit pixels is lower here, because so few points cannot light a tenth of the picture."""
    assert random_fractals(3, 10, size, points, torch.Generator())[0].shape == (3, size, size)
