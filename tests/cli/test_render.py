"""Tests of `fractalops render` and `fractalops morph`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fractalops.fitting import FitConfig, FitResult, fit
from tests.support.command_line import refusal, run

SMALL = ["--size", 24, "--points", 500]


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with systems: of two images, in gray, in color, and with maps that do not contract."""
    folder = tmp_path_factory.mktemp("systems")
    config = FitConfig(maps=3, points=20, sequences=2, steps=3)
    both = fit(torch.eye(6, 8).expand(2, 6, 8), config)
    both.save(folder / "two.safetensors")
    both[0].save(folder / "gray.safetensors")
    both[1].save(folder / "other.safetensors")
    color = FitConfig(maps=4, points=20, sequences=2, steps=3, color=True)
    fit(torch.eye(8, 8).expand(3, 8, 8), color).save(folder / "color.safetensors")
    raw = fit(torch.eye(8), FitConfig(maps=2, points=20, steps=0, parametrization="matrix"))
    with torch.no_grad():
        raw.system.matrix[0, 1] = 1.25 * torch.eye(2)
    raw.save(folder / "raw.safetensors")
    return folder


def pixels(path: Path) -> torch.Tensor:
    """Return the bytes (H, W, C) of a picture."""
    with Image.open(path) as picture:
        data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return data.view(picture.height, picture.width, -1)


@pytest.mark.parametrize(
    ("system", "options", "mode"),
    [
        ("gray", [], "L"),
        ("gray", ["--transparent"], "LA"),
        ("gray", ["--palette", "fire"], "RGB"),
        ("gray", ["--palette", "#102030,#ffcc00", "--transparent"], "RGBA"),
        ("color", [], "RGB"),
        ("color", ["--transparent", "--gamma", "0.5"], "RGBA"),
    ],
)
def test_the_kinds_of_pictures(system: str, options: list[str], mode: str, systems: Path, tmp_path: Path) -> None:
    path = systems / f"{system}.safetensors"
    assert run("render", path, *SMALL, *options, "-o", tmp_path / "a.png") == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
        assert picture.size == (24, 18 if system == "gray" else 24)
    shown = pixels(tmp_path / "a.png")
    assert shown.float().std() > 1
    if "--palette" in options and "--transparent" not in options:
        assert shown[..., 0].int().sum() > shown[..., 2].int().sum()  # "fire" is more red than blue


def test_a_picture_has_the_bytes_of_the_drawing(systems: Path, tmp_path: Path) -> None:
    path = systems / "color.safetensors"
    assert run("render", path, *SMALL, "--seed", 4, "-o", tmp_path / "a.png") == 0
    drawn = FitResult.load(path).draw(24, points=500, seed=4)[0]
    assert torch.equal(pixels(tmp_path / "a.png"), (drawn * 255).round().to(torch.uint8).permute(1, 2, 0))


@pytest.mark.parametrize("factor", ["1", "7.5", "1e6"])
def test_a_zoom_into_a_fixed_point(factor: str, systems: Path, tmp_path: Path) -> None:
    """A zoom into a fixed point shows points at any depth."""
    path = systems / "gray.safetensors"
    result = FitResult.load(path)
    low, high = torch.tensor(result.system.viewport, dtype=torch.float64).view(2, 2)
    last = torch.tensor([17.0, 23.0], dtype=torch.float64)
    place = (result.system.start().double()[0] - low) / (high - low)  # (2,)
    y, x = ((place * last + 0.5) / (last + 1)).tolist()
    assert run("render", path, *SMALL, f"--zoom={x!r},{y!r},{factor}", "-o", tmp_path / "a.png") == 0
    drawn = result.draw(24, points=500, seed=0, zoom=(x, y, float(factor)))[0]
    assert torch.equal(pixels(tmp_path / "a.png")[..., 0], (drawn * 255).round().to(torch.uint8))
    assert drawn.max() == 1


def test_large_pictures_come_in_bands(systems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet of two pictures has the same values, up to rounding, when it is drawn in bands."""
    arguments = ["render", systems / "two.safetensors", *SMALL]
    assert run(*arguments, "-o", tmp_path / "whole.png") == 0
    monkeypatch.setattr("fractalops.drawing.high_resolution._CANVAS_VALUES", 24 * 5)
    monkeypatch.setattr("fractalops.drawing.high_resolution._BAND_VALUES", 24 * 2)
    assert run(*arguments, "-o", tmp_path / "bands.png") == 0
    whole, bands = pixels(tmp_path / "whole.png"), pixels(tmp_path / "bands.png")
    assert whole.shape == (18 + 2 * 4, 2 * 24 + 3 * 4, 1)
    assert whole[:4].unique().tolist() == [64]
    assert (whole.int() - bands.int()).abs().max() <= 1


@pytest.mark.parametrize("kind", ["zoom", "build", "orbit"])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("system", ["gray", "color"])
def test_animations(kind: str, suffix: str, system: str, systems: Path, tmp_path: Path) -> None:
    output = tmp_path / f"a{suffix}"
    arguments = ["--animate", kind, "--frames", 4, "--fps", 10, "-o", output]
    if suffix == ".webp":
        arguments += ["--transparent"]
    assert run("render", systems / f"{system}.safetensors", *SMALL, *arguments) == 0
    with Image.open(output) as animation:
        assert animation.size == (24, 18 if system == "gray" else 24)
        assert 2 <= animation.n_frames <= 4  # equal frames of a GIF are joined
        animation.load()
        assert animation.info["duration"] >= 100


def test_a_morph(systems: Path, tmp_path: Path) -> None:
    first, last = systems / "gray.safetensors", systems / "other.safetensors"
    assert run("morph", first, last, *SMALL, "--frames", 5, "--palette", "ice", "-o", tmp_path / "m.gif") == 0
    with Image.open(tmp_path / "m.gif") as animation:
        assert animation.size == (24, 18)


# Each command, run in the folder of the fixture `systems`: the beginning of its error.
REFUSALS = {
    "render gray.safetensors --zoom 1,2": "argument --zoom: must be X,Y,FACTOR with X and Y from 0 to 1 and FACTOR ",
    "render gray.safetensors --zoom 0.5,0.5,0": "argument --zoom: must be X,Y,FACTOR with ",
    "render gray.safetensors --zoom 2,0.5,3": "argument --zoom: must be X,Y,FACTOR with ",
    "render gray.safetensors --zoom nan,0.5,3": "argument --zoom: must be X,Y,FACTOR with ",
    "render gray.safetensors --zoom a,b,c": "argument --zoom: must be X,Y,FACTOR with ",
    "render gray.safetensors --zoom 0,0,1e6 -o a.png": "cannot draw this zoom: it shows no point of the attractor",
    "render raw.safetensors --zoom 0,0,2 -o a.png": "deep zoom: the maps must contract, got a norm of 1.25 for map 1",
    "render gray.safetensors --gamma 0": "argument --gamma: must be a number above 0, at most 10, got '0'",
    "render gray.safetensors --palette lava": "argument --palette: must be one of fire, ice, ",
    "render color.safetensors --palette ice -o a.png": "--palette is only for gray systems, but this system has colors",
    "render gray.safetensors --transparent -o a.jpg": "cannot save a.jpg: --transparent needs a format with opacity",
    "render gray.safetensors --size 16384 -o a.webp": "cannot save a.webp: --size must be at most 16383 for WebP",
    "render gray.safetensors --size 16385": "argument --size: must be at most 16384, got 16385",
    "render gray.safetensors --fps 3 -o a.png": "--fps is only for animations; add --animate to write one",
    "render gray.safetensors --animate spin": "argument --animate: invalid choice: 'spin'",
    "render gray.safetensors --animate zoom -o a.png": "cannot save a.png: the suffix of an animation must be .gif, ",
    "render gray.safetensors --animate zoom -o a.mp4": "cannot save a.mp4: ffmpeg is not installed",
    "render gray.safetensors --animate zoom -o no/a.gif": "cannot write no/a.gif: the folder no does not exist",
    "render gray.safetensors --animate orbit --transparent": "cannot save gray.gif: --transparent needs a format with",
    "render two.safetensors --animate orbit": "cannot use two.safetensors: an animation needs exactly one system",
    "render gray.safetensors --animate orbit --frames 0": "argument --frames: must be at least 1, got 0",
    "render gray.safetensors --animate orbit --fps 61": "argument --fps: must be at most 60, got 61",
    "render raw.safetensors --animate zoom": "deep zoom: the maps must contract, got a norm of 1.25 for map 1",
    "morph gray.safetensors": "the following arguments are required: B",
    "morph gray.safetensors nothing.safetensors": "cannot read nothing.safetensors: ",
    "morph gray.safetensors two.safetensors": "cannot use two.safetensors: a morph needs exactly one system, got 2",
    "morph color.safetensors gray.safetensors": "cannot use gray.safetensors: both systems must have the same blend ",
    "morph gray.safetensors gray.safetensors -o m.png": "cannot save m.png: the suffix of an animation must be ",
    "morph color.safetensors color.safetensors --palette ice": "--palette is only for gray systems, but this system ",
}


@pytest.mark.parametrize("command", REFUSALS)
def test_one_line_says_what_is_wrong(
    command: str, systems: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(systems)
    monkeypatch.setattr("shutil.which", lambda program: None)
    before = set(systems.iterdir())
    assert refusal(capsys, *command.split()).startswith(REFUSALS[command])
    assert set(systems.iterdir()) == before
