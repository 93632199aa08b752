"""Tests of `fractalops fit --color` and of pictures of its results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from fractalops.cli.fit_pictures import OUTPUT_NAMES
from fractalops.fitting import FitResult, FitRun
from tests.support.command_line import QUICK, draw, files, run

pytestmark = pytest.mark.usefixtures("small_pictures")


def pixels(path: Path) -> numpy.ndarray:
    """Return the RGB values (3, P) of a picture's colored pixels, without black and the gray between the tiles."""
    with Image.open(path) as picture:
        values = numpy.array(picture.convert("RGB")).reshape(-1, 3).T
    return values[:, values.max(axis=0) != values.min(axis=0)]


def test_fit_in_color_writes_everything_in_color(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert report["config"]["color"] is True
    assert (report["height"], report["width"]) == (4, 8)
    result = FitResult.load(folder / "system.safetensors")
    assert result.best_image.shape == (1, 3, 4, 8)
    assert 0 < report["minimum_mse"] <= report["mean_mse"]

    assert run("render", folder / "system.safetensors", "--size", 40, "--points", 500, "-o", tmp_path / "c.png") == 0
    with Image.open(tmp_path / "c.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (40, 20))


def test_a_gray_and_a_colored_picture_are_learned_together_in_color(tmp_path: Path) -> None:
    image = draw(tmp_path / "disc.png")
    Image.new("RGB", (8, 8), (0, 90, 0)).save(tmp_path / "green.png")
    assert run("fit", image, tmp_path / "green.png", "-o", tmp_path / "out", "--quiet", "--color", *QUICK) == 0
    for name in ("disc", "green"):
        assert FitResult.load(tmp_path / "out" / name / "system.safetensors").best_image.shape == (1, 3, 8, 8)


def test_a_folder_of_pictures_is_learned_in_color(tmp_path: Path) -> None:
    for name, color in (("reds/1.png", (230, 0, 0)), ("reds/2.png", (200, 30, 0)), ("others/green.png", (0, 200, 0))):
        picture = Image.new("RGBA", (8, 8))  # transparent pixels become black
        picture.paste((*color, 255), (2, 2, 6, 6))
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "pictures" / name)
    draw(tmp_path / "pictures" / "others" / "white.png")
    folder = tmp_path / "run"
    assert run("fit", tmp_path / "pictures", "-o", folder, "--color", "--quiet", "--device", "cpu", *QUICK) == 0
    learned = FitRun.load(folder)
    assert [row.name for row in learned.rows] == ["others/green.png", "others/white.png", "reds/1.png", "reds/2.png"]
    for row, channel in zip(learned.rows, (1, None, 0, 0), strict=True):
        image = learned.result(row).best_image  # (1, 3, 8, 8)
        assert image.shape == (1, 3, 8, 8)
        means = image.mean((0, 2, 3)).tolist()
        if channel is not None:
            assert means[channel] > 2 * max(mean for place, mean in enumerate(means) if place != channel)
    with Image.open(folder / "contact.png") as sheet:
        assert sheet.mode == "RGB"
        # The center of each enlarged pixel of the first pair: the target and the learned image are green.
        tiles = [numpy.array(sheet)[5:69, 5 + side * 65 : 69 + side * 65][4::8, 4::8] for side in (0, 1)]
    assert tiles[0].reshape(-1, 3).max(0).tolist() == [0, 200, 0]
    assert tiles[1][..., 1].mean() > 2 * tiles[1][..., 0].mean()
