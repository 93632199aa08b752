"""Tests of all commands on files and folders whose names are not valid UTF-8."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from fractalops import FitResult, PointFitResult
from fractalops.data.targets import open_targets
from fractalops.experiments.outcome import Outcome
from fractalops.io import read_systems
from fractalops.io.point_clouds import save_point_cloud
from fractalops.io.tensor_files import write_tensors
from tests.support.command_line import QUICK, draw, run
from tests.support.experiment_data import open_folder

ODD = os.fsdecode(b"a\xff")  # "a" and a byte that is not valid UTF-8


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for stream, errors in (("stdout", "surrogateescape"), ("stderr", "backslashreplace")):  # pytest's take only text
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), "utf-8", errors))
    try:
        Path(ODD).mkdir()
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    return Path(ODD)


def test_pictures(place: Path) -> None:
    draw(place / f"{ODD}$x$.png")
    assert run("fit", place / f"{ODD}$x$.png", "-o", place / "out", "--quiet", *QUICK) == 0
    folder = place / "out" / f"{ODD}$x$"
    assert json.loads((folder / "fit.json").read_text())["image"] == f"{ODD}/{ODD}$x$.png"
    assert FitResult.load(folder / "system.safetensors").steps == [3]


@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_a_folder_of_pictures(table: str, place: Path) -> None:
    if table == "parquet":
        pytest.importorskip("pyarrow")
    for number in range(2):
        draw(place / "in" / f"{ODD}{number}.png")
    out = place / "out"
    for _ in range(2):
        assert run("fit", place / "in", "-o", out, "--quiet", "--table", table, *QUICK) == 0
    assert (out / f"index.{table}").exists()


def test_a_cloud(place: Path) -> None:
    save_point_cloud(torch.rand(30, 3), place / f"{ODD}.ply")
    command = ("fit-points", place / f"{ODD}.ply", "-o", place, "--quiet", "--no-animation", "--steps", 1)
    assert run(*command, "--maps", 2, "--points", 8) == 0
    assert len(PointFitResult.load(place / ODD / "system.safetensors").losses) == 1


@pytest.mark.parametrize("suffix", [".ifs", ".flame", ".csv", ".npy", ".npz", ".json", ".safetensors"])
def test_systems(suffix: str, place: Path) -> None:
    """A system without a name is named after its file, with U+FFFD for undecodable bytes."""
    start = place / "start.csv"
    start.write_text("0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,1,1,0.5\n")
    named = place / f"{ODD}{suffix}"
    assert run("convert", start, place / f"{ODD}.csv") == 0
    assert run("convert", place / f"{ODD}.csv", named, "--overwrite") == 0
    assert list(read_systems(named)) == ["a\ufffd"]
    assert run("convert", named, place / "folder") == 0
    assert run("render", named, "--size", 16) == 0
    assert run("render", named, "--size", 16, "--animate", "build", "--frames", 2, "-o", place / f"{ODD}.webp") == 0
    assert run("morph", named, start, "--size", 16, "--frames", 2, "-o", place / f"{ODD}.gif") == 0
    assert run("view", named, "-o", place / f"{ODD}.html") == 0
    assert "a\ufffd" in (place / f"{ODD}.html").read_text(encoding="utf-8")
    pictures = {f"{ODD}.png", f"{ODD}.webp", f"{ODD}.gif", f"{ODD}.html"}
    assert pictures | {f"{ODD}.csv", "folder", "start.csv", named.name} == set(os.listdir(place))


def test_sheets(place: Path) -> None:
    assert run("random", "--systems", 2, "--size", 8, "--points", 9, "-o", place / f"{ODD}.png") == 0
    assert run("systems", "fern", "--size", 8, "-o", place / f"{ODD}.jpg") == 0


def test_arrays(place: Path) -> None:
    write_tensors(place / f"{ODD}.safetensors", {"images": torch.ones(2, 4, 4)}, {"format": "some.1"})
    targets = open_targets(place / f"{ODD}.safetensors")
    assert torch.equal(targets[1], torch.ones(4, 4))


def test_an_experiment(place: Path) -> None:
    output = open_folder(place / ODD)
    output.log(1, loss=0.5)
    output.save_state({"weight": torch.ones(3)}, {"step": 1})
    output.finish(Outcome([{"name": "a"}]))
    assert open_folder(place / ODD).load_state() is not None


@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
@pytest.mark.parametrize("command", ["fit", "render", "view", "fit-points"])
def test_what_is_missing(command: str, suffix: str, place: Path) -> None:
    assert run(command, place / f"{ODD}{suffix}") == 2
    sys.stderr.seek(0)
    (line,) = sys.stderr.readlines()
    assert line.startswith(f"fractalops {command}: cannot read a")
