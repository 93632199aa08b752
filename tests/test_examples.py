"""Tests of the examples."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

import fractalops
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import read_point_cloud
from tests.support.requirements import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_the_target_files_are_what_the_script_draws(tmp_path: Path) -> None:
    script = import_module("draw_targets")
    script.main(tmp_path)
    for name in (*script.TARGETS, "autumn"):
        options = PictureOptions(size=256, color=name == "autumn")
        drawn = read_image(tmp_path / f"{name}.png", options)
        with collect_notices() as notices:
            kept = read_image(EXAMPLES / f"{name}.png", options)
        assert kept.shape == ((3, 256, 256) if options.color else (256, 256))
        assert notices == {}
        # Other versions of Pillow may round edges differently.
        assert float((drawn - kept).abs().mean()) < 1e-3
    assert (kept.amax(dim=(1, 2)) > 0.5).tolist() == [True, True, False]  # green, yellow and red, no blue


def test_a_fern_and_a_tree_are_drawn_and_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds = import_module("draw_point_clouds")
    clouds.main(tmp_path)
    for name in ("fern", "tree"):
        with collect_notices() as notices:
            points = read_point_cloud(tmp_path / f"{name}.npy")
        assert points.shape == (clouds.POINTS, 3)
        assert notices == {}
    # Higher than wide, and not flat.
    low, high = clouds.fern(2000).aminmax(dim=0)
    assert (high - low)[2] > (high - low)[1] > (high - low)[0] > 1
    monkeypatch.setattr("fractalops.fitting.copies._CANDIDATES", 50)
    import_module("point_cloud").main(tmp_path / "out", steps=2, side=16, frames=2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{suffix}" for name in ("fern", "tree") for suffix in ("png", "gif", "safetensors")
    }
    assert capsys.readouterr().out.count("Chamfer distance") == 2


def test_the_still_life_is_what_the_script_draws(tmp_path: Path) -> None:
    import_module("draw_still_life").main(tmp_path)
    drawn, kept = (read_image(folder / "still-life.png", PictureOptions(color=True)) for folder in (tmp_path, EXAMPLES))
    assert kept.shape == (3, 256, 256)
    torch.testing.assert_close(drawn, kept, atol=2 / 255, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "to_halves", "to_start"), [("fern", 1.3, 0.65), ("tree", 1.6, 0.8)])
def test_what_is_learned_comes_near(name: str, to_halves: float, to_start: float) -> None:
    example = import_module("point_cloud")
    result = fractalops.fit_points(example.CLOUDS[name](), fractalops.PointConfig(maps=example.MAPS[name]))
    assert result.chamfer < to_halves * result.halves_chamfer
    assert result.chamfer < to_start * result.start_chamfer


def test_both_versions_of_the_training_loop_learn_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    script = import_module("training_loop")
    target = read_image(EXAMPLES / "leaf.png", PictureOptions(size=script.SIZE))
    by_hand, _ = script.train(script.render_by_hand, target, 5)
    by_fractalops, _ = script.train(script.render_by_fractalops, target, 5)
    torch.testing.assert_close(torch.tensor(by_hand), torch.tensor(by_fractalops), atol=1e-5, rtol=1e-4)
    assert by_fractalops[-1] < by_fractalops[0]
    script.main(1)
    assert "speed-up" in capsys.readouterr().out


def test_shapes_are_drawn_and_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = import_module("draw_shapes")
    targets = script.shapes()
    assert targets.shape == (20, 32, 32)
    lit = targets.mean(dim=(1, 2))
    assert ((lit > 0.03) & (lit < 0.6)).all()
    assert torch.unique(targets, dim=0).shape == targets.shape
    script.main(tmp_path, steps=2, points=1000)
    assert "20 maps: mean of the minimum MSE" in capsys.readouterr().out
    picture = read_image(tmp_path / "shapes.png", PictureOptions(size=1004))
    assert picture.shape == (804, 1004)


def test_a_network_is_trained_on_fractals(capsys: pytest.CaptureFixture[str]) -> None:
    script = import_module("pretrain")
    reports = [script.main(workers, classes=3, instances=20, size=16, epochs=2) for workers in (0, 1)]
    for report in reports:
        assert (report.images, len(report.losses)) == (120, 4)
        assert 0 < report.waiting < report.seconds
    torch.testing.assert_close(torch.tensor(reports[0].losses), torch.tensor(reports[1].losses), atol=1e-5, rtol=1e-4)
    shown = capsys.readouterr().out
    assert shown.count("images per second with 1 workers; the network waits for data") == 1


@pytest.mark.slow
def test_fractals_can_be_told_apart() -> None:
    script = import_module("pretrain")
    report = script.main(0, classes=10, instances=50, size=32, epochs=5)
    assert report.accuracy > 0.5  # chance is 0.1
