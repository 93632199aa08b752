"""Tests of `fractalops experiment pictures` at tiny sizes: targets, measures, and the bumps for comparison."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from fractalops import FitConfig, FitResult, InputError, MissingExtra, experiments
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.free_bumps import FreeBumps, bumps_for, learn_bumps, pixel_places
from fractalops.experiments.outcome import Finding
from fractalops.experiments.picture_measures import intersection_over_union, psnr, ssim
from fractalops.experiments.picture_targets import GLYPHS, PHOTOGRAPHS, SHAPES, draw_glyphs, draw_shape, read_photograph
from fractalops.experiments.pictures import PRESETS, PicturesSettings, Target, _Study
from tests.support.command_line import run
from tests.support.requirements import need_matplotlib
from tests.support.tolerances import assert_same_bits

TINY = PicturesSettings(
    shapes=("ring",), glyphs=0, photographs=(), size=33, large=50, points=2000, steps=4, comparisons=True
)  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_the_same_at_every_size(name: str) -> None:
    small, large = draw_shape(name, 32), draw_shape(name, 128)
    assert small.shape == (32, 32)
    assert 0.1 < small.mean() < 0.7
    assert set(small.unique().tolist()) > {0.0, 1.0}  # smooth edges
    torch.testing.assert_close(avg_pool2d(large[None], 4)[0], small, rtol=0, atol=0.25)


@pytest.mark.parametrize("count", [1, len(GLYPHS)])
def test_glyphs_fill_their_pictures(count: int) -> None:
    need_matplotlib()
    glyphs = draw_glyphs(count, 40)
    assert glyphs.shape == (count, 40, 40)
    assert len({tuple(glyph.flatten().tolist()) for glyph in glyphs}) == count  # no boxes for missing glyphs
    for glyph in glyphs:
        rows, columns = ((glyph.amax(axis) > 0.05).nonzero()[[0, -1], 0].tolist() for axis in (1, 0))
        extents = [last - first + 1 for first, last in (rows, columns)]
        assert 0.7 * 40 <= max(extents) <= 0.9 * 40
        assert all(abs(first + last - 39) <= 3 for first, last in (rows, columns))  # centered


def test_photographs_are_read_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").write_text("raise RuntimeError('imported')")
    for file, *_ in PHOTOGRAPHS.values():
        Image.effect_noise((90, 60), 50).convert("RGB").save(folder / file)
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert read_photograph("camera", 45).shape == (30, 45)
    assert read_photograph("rocket", 1000).shape == (3, 171, 256)


def test_without_their_packages_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.experiments.picture_targets.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"^pictures: needs scikit-image; .*'fractalops\[dev\]'$"):
        read_photograph("camera", 128)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"^pictures: needs matplotlib; .*'fractalops\[plot\]'$"):
        draw_glyphs(1, 32)


def test_measures() -> None:
    target = torch.zeros(10, 10)
    assert psnr(target + 0.1, target) == pytest.approx(20, abs=1e-4)
    assert psnr(target, target) == math.inf
    target[2:6] = 1.0
    drawing = torch.zeros(10, 10)
    drawing[4:8] = 0.15
    assert intersection_over_union(drawing, target) == pytest.approx(2 / 6)
    assert intersection_over_union(target * 0, target * 0) == 1.0


def test_structural_similarity_is_of_scikit_image() -> None:
    pytest.importorskip("skimage.metrics", reason="scikit-image is not installed (extra: dev)")
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    assert ssim(image, image) == pytest.approx(1)
    assert ssim(image, image.flip(-1)) < 0.2
    assert math.isnan(ssim(image[:, :6], image[:, :6]))


@pytest.mark.parametrize("channels", [1, 3])
def test_bumps_are_a_weighted_mean(channels: int) -> None:
    config = FitConfig(blend="mean", background=0.25).resolve((64, 64))
    generator = torch.Generator().manual_seed(0)
    center, shape, color = (torch.randn(1, 5, width, generator=generator) for width in (2, 3, channels))
    bumps = FreeBumps(center, shape, color, config)
    image = bumps.draw((6, 9)).double()  # (C, H, W)
    assert image.shape == (channels, 6, 9)
    places = pixel_places((6, 9), config.viewport).view(6, 9, 2)
    assert places[0, 0].tolist() == [-2.5, -2.5]
    assert places[5, 8].tolist() == [2.5, 2.5]
    for row, column in ((0, 0), (3, 4), (5, 8)):
        total = torch.zeros(channels, dtype=torch.float64)
        weight, area = 0.0, 0.0
        for k in range(5):
            p, q, t = shape[0, k].double()
            x, y = places[row, column].double() - center[0, k].double()
            bump = math.exp(-float((p.exp() * x) ** 2 + (q.exp() * (y + t * x)) ** 2))
            total += bump * color[0, k].double().sigmoid()
            weight += bump
            area += math.pi / float((p + q).exp())
        own = config.background_weight * area / 25
        torch.testing.assert_close(image[:, row, column], (total + own * 0.25) / (weight + own), rtol=1e-3, atol=1e-4)


def test_bumps_have_as_many_parameters_as_maps() -> None:
    for maps, channels in ((64, 1), (256, 3), (10, 1)):
        assert abs(bumps_for(maps, channels) * (5 + channels) - maps * (7 + channels)) <= (5 + channels) / 2


def test_bumps_learn_and_are_read_back(tmp_path: Path) -> None:
    target = draw_shape("star", 40)
    config = FitConfig(blend="mean", maps=12, steps=60).resolve((40, 40))
    learned = learn_bumps(target, config, tmp_path / "bumps.safetensors")
    error = (learned.draw((40, 40))[0] - target).square().mean()
    still = learn_bumps(target, replace(config, steps=0), tmp_path / "first.safetensors")
    assert error < 0.5 * (still.draw((40, 40))[0] - target).square().mean()
    again = learn_bumps(target, config, tmp_path / "bumps.safetensors")
    for before, after in zip(learned.parameters, again.parameters, strict=True):
        assert_same_bits(before, after)
    assert again.seconds == learned.seconds
    with pytest.raises(InputError, match=r"bumps\.safetensors is of another target or other settings"):
        learn_bumps(target.flip(0), config, tmp_path / "bumps.safetensors")


def test_the_table_has_both_blends_and_bumps(tmp_path: Path) -> None:
    outcome = experiments.run("pictures", tmp_path / "run", TINY)
    ways = [row["learned as"] for row in outcome.rows]
    assert ways == ["fractal, mean", "fractal, add", "free bumps"]
    parameters = [int(row["parameters"]) for row in outcome.rows]
    assert parameters == [10 * 8, 10 * 7, 13 * 6]
    learned = FitResult.load(tmp_path / "run" / "learned" / "ring" / "10-maps-mean.safetensors")
    assert outcome.rows[0]["MSE"] == pytest.approx(float(learned.mean_mse[0]))
    drawing = learned.draw(50, points=2000)[0]
    assert outcome.rows[0]["IoU"] == intersection_over_union(drawing, draw_shape("ring", 50))
    with (
        Image.open(tmp_path / "run" / "pictures.png") as sheet,
        Image.open(tmp_path / "run" / "drawing-ring-10.png") as one,
    ):
        assert sheet.size == (3 * 132 + 4, 132 + 4)
        assert one.size == (50, 50)
    with (tmp_path / "run" / "table.csv").open() as table:
        assert [row["learned as"] for row in csv.DictReader(table)] == ways
    assert (tmp_path / "run" / "table.md").read_text().splitlines() == outcome.table().splitlines()
    claims = [finding.claim for finding in outcome.findings]
    assert claims == [
        "ring: MSE of at most 0.006",
        "ring: IoU of at least 0.93",
        "shapes (1 in all): the blend mean beats add by mean PSNR in dB",
        "shapes (1 in all): maps beat free bumps with as many parameters by mean PSNR in dB",
    ]
    assert all(finding.detail.endswith(", measured once") for finding in outcome.findings[:2])
    assert all(finding.verdict == "not shown at this size" for finding in outcome.findings[2:])  # a single picture
    (tmp_path / "run" / "metrics.json").unlink()
    again = experiments.run("pictures", tmp_path / "run", TINY)  # reads learned/
    assert str(again.rows) == str(outcome.rows)  # as text: NaN != NaN


def test_pictures_are_compared_together_and_photographs_once_each(tmp_path: Path) -> None:
    study = _Study(TINY, ExperimentFolder(tmp_path, "pictures", TINY, {}), "cpu", progress=False)
    for name, better, worse in (("camera", 20, 21), ("camera", 30, 33), ("coffee", 25, 26), ("rocket", 35, 38)):
        target = Target(name, torch.zeros(1, 2, 2), FitConfig())
        study._pair("it is better", target, {"PSNR": better}, {"PSNR": worse})
    study.compare()
    # The differences -2 (the camera's mean), -1 and -3 have the mean -2 and the standard deviation 1.
    detail = "28.33 against 30.33, a difference of -2.0000 +- 0.5774"
    claim = "photographs (3 in all): it is better by mean PSNR in dB"
    assert study.findings == [Finding(claim, "does not hold", detail)]


def test_glyphs_are_learned_together_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_matplotlib()
    command: list[str | Path] = ["experiment", "pictures", "--set", "shapes=", "--set", "photographs=", "--quiet"]
    for name, value in (("glyphs", 2), ("size", 33), ("large", 40), ("points", 500), ("steps", 2)):
        command += ["--set", f"{name}={value}"]
    assert run(*command, "-o", tmp_path / "run") == 0
    printed = capsys.readouterr().out
    assert "| glyphs | 33 x 33 | fractal, mean |" in printed
    assert (tmp_path / "run" / "drawing-glyphs-2.png").exists()


def test_sequences_are_drawn_as_the_settings_say() -> None:
    for settings, sampling in (
        (PicturesSettings(), "independent"),
        (PicturesSettings(sampling="balanced"), "balanced"),
    ):
        assert settings.config(maps=256).resolve((128, 128)).sampling == sampling


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": (), "glyphs": 0, "photographs": ()}, "there must be shapes, glyphs or photographs, got none"),
        ({"shapes": ("square",)}, "shapes must be one or more of leaf, star"),
        ({"photographs": ("cat",)}, "photographs must be one or more of camera"),
        ({"glyphs": 21}, "glyphs must be at most 20, got 21"),
        ({"sampling": "even"}, "sampling must be one of independent, balanced, got 'even'"),
        ({"maps": (0,)}, r"maps must be 1 or more, got \(0,\)"),
        ({"size": 1}, "size must be at least 2"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^PicturesSettings: {message}"):
        replace(TINY, **changes)
    assert PRESETS["paper"].glyphs == len(GLYPHS)
