"""`fractalops fit --colour`, and what is drawn of its results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from fractalops.cli.outputs import OUTPUT_NAMES
from fractalops.inversion import FitResult
from tests.command_line import QUICK, draw, files, run


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crisp pictures of 64 pixels and 2000 points, so that the tests are quick."""
    monkeypatch.setattr("fractalops.cli.outputs._CRISP_SIDE", 64)
    monkeypatch.setattr("fractalops.cli.outputs._CRISP_POINTS", 2000)


def pixels(path: Path) -> numpy.ndarray:
    """Red, green and blue (3, P) of a picture's pixels that are neither black nor the grey between the tiles."""
    with Image.open(path) as picture:
        values = numpy.array(picture.convert("RGB")).reshape(-1, 3).T
    return values[:, values.max(axis=0) != values.min(axis=0)]


def test_fit_in_colour_writes_everything_in_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = Image.new("RGB", (20, 10))
    picture.paste((230, 0, 0), (2, 2, 18, 8))
    picture.save(tmp_path / "red.png")
    assert run("fit", tmp_path / "red.png", "-o", tmp_path / "out", "--colour", *QUICK) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'red.png'}: scaled from 20 x 10 to 8 x 4 pixels\n")
    folder = tmp_path / "out" / "red"
    assert files(folder) == set(OUTPUT_NAMES)

    for name in ("comparison.png", "fractal.png", "learning.gif"):
        red, green, blue = (float(channel.mean()) for channel in pixels(folder / name))
        assert red > 2 * green
        assert red > 2 * blue
    with Image.open(folder / "fractal.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (64, 32))
    report = json.loads((folder / "fit.json").read_text())
    assert report["config"]["colour"] is True
    assert (report["height"], report["width"]) == (4, 8)
    result = FitResult.load(folder / "system.safetensors")
    assert result.best_image.shape == (1, 3, 4, 8)
    assert 0 < report["minimum_mse"] <= report["mean_mse"]

    assert run("render", folder / "system.safetensors", "--size", 40, "--points", 500, "-o", tmp_path / "c.png") == 0
    with Image.open(tmp_path / "c.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (40, 20))


def test_a_grey_and_a_coloured_picture_are_learned_together_in_colour(tmp_path: Path) -> None:
    image = draw(tmp_path / "disc.png")
    Image.new("RGB", (8, 8), (0, 90, 0)).save(tmp_path / "green.png")
    assert run("fit", image, tmp_path / "green.png", "-o", tmp_path / "out", "--quiet", "--color", *QUICK) == 0
    for name in ("disc", "green"):
        assert FitResult.load(tmp_path / "out" / name / "system.safetensors").best_image.shape == (1, 3, 8, 8)
