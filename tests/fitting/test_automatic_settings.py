"""Tests of the settings of `FitConfig` that depend on the targets' size: their rule, files, runs over two sizes."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import fractalops
from fractalops import FitConfig, FitResult, InputError
from fractalops._checks import is_auto
from fractalops.fitting.config import automatic_settings
from fractalops.fitting.result import parse_config
from fractalops.fitting.targets import settings_for, shown_pixels
from tests.support.learning import assert_same_result, disc
from tests.support.runs import Pictures, contents, interrupt, run

AUTOMATIC = [field.name for field in dataclasses.fields(FitConfig) if is_auto(field.default)]
FORMER: dict[str, Any] = {
    "maps": 10,
    "points": 300,
    "sequences": 5,
    "steps": 2000,
    "blend": "add",
    "initialization": "intensity",
    "sampling": "balanced",
    "learning_rate": 0.1,
    "offset_rate": 1.0,
    "split_every": 0,
    "evaluation_sequences": 100,
    "batch_size": 16,
}


def is_resolved(config: FitConfig) -> bool:
    return not any(is_auto(value) for value in dataclasses.asdict(config).values())


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (1, 1), (1, 1024), (16, 64)])
@pytest.mark.parametrize("detail", ["standard", "fine"])
@pytest.mark.parametrize("color", [False, True])
def test_small_targets_have_the_former_defaults(size: tuple[int, int], detail: Any, color: bool) -> None:
    config = FitConfig(detail=detail, color=color).resolve(size)
    assert {name: getattr(config, name) for name in AUTOMATIC} == FORMER
    assert config == FitConfig(detail=detail, color=color, **FORMER)


@pytest.mark.parametrize(
    ("shown", "sequences", "points"),
    [(0, 5, 300), (1, 5, 300), (300, 5, 300), (301, 3, 600), (600, 3, 600), (601, 2, 900), (1024, 2, 900)],
)
def test_small_targets_have_points_for_what_they_show(shown: int, sequences: int, points: int) -> None:
    size = (32, 32)
    assert FitConfig().resolve(size, shown) == FitConfig(sequences=sequences, points=points).resolve(size)
    assert FitConfig(sequences=7).resolve(size, shown).points == points
    for given in ({"points": 123}, {"blend": "mean"}, {"split_every": 7}):
        assert FitConfig(**given).resolve(size, shown) == FitConfig(**given).resolve(size)
    assert FitConfig.paper().resolve(size, shown) == FitConfig.paper()
    assert FitConfig().resolve((33, 32), shown) == FitConfig().resolve((33, 32))


@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "color"])
def test_what_targets_show_is_counted_over_all_channels(channels: tuple[int, ...]) -> None:
    targets = torch.zeros(2, *channels, 5, 3)
    targets[0, ..., 0, 0] = 0.05
    targets[1].view(-1, 5, 3)[-1, :4, 1] = 0.2
    color = bool(channels)
    assert shown_pixels(targets, FitConfig(color=color)).tolist() == [0, 4]
    lighter = FitConfig(color=color, blend="mean", background=0.2)
    assert shown_pixels(targets, lighter).tolist() == [15, 15 if color else 11]


def test_the_targets_of_a_call_share_settings_and_those_of_a_run_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = torch.zeros(3, 30, 20)
    images[0, :10] = 1  # 200 pixels
    images[1:, :25] = 1  # 500
    quick: dict[str, Any] = {"maps": 2, "steps": 1, "evaluation_sequences": 1}
    assert settings_for(images, FitConfig(**quick)) == FitConfig(**quick, points=600, sequences=3).resolve((30, 20))
    assert fractalops.fit(images, FitConfig(**quick)).config.points == 600
    with caplog.at_level("INFO", "fractalops.fitting.runs"):
        learned = run(tmp_path / "run", Pictures(list(images)), FitConfig(**quick))
    assert [learned[image].config.points for image in range(3)] == [300, 600, 600]
    assert [record.getMessage() for record in caplog.records if record.name == "fractalops.fitting.runs"] == [
        "2 image(s) of 20 x 30 pixels: 2 maps, 1 steps of 3 x 600 points, blend add",
        "1 image(s) of 20 x 30 pixels: 2 maps, 1 steps of 5 x 300 points, blend add",
    ]


def test_a_run_over_many_sizes_tells_the_most_frequent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = FitConfig(maps=2, steps=0, evaluation_sequences=1)
    images = [torch.zeros(4, width) for width in (3, 3, *range(4, 12))]
    with caplog.at_level("INFO", "fractalops.fitting.runs"):
        run(tmp_path / "run", Pictures(images), config)
    lines = [record.getMessage() for record in caplog.records if record.name == "fractalops.fitting.runs"]
    assert lines[0].startswith("2 image(s) of 3 x 4 pixels: ")
    assert len(lines) == 6
    assert lines[-1] == "4 image(s) of 4 other sizes or settings"


@pytest.mark.parametrize(("images", "others"), [(1, ""), (3, " (also for 2 other images)")])
def test_a_run_names_images_that_its_points_can_not_cover(
    images: int, others: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FitConfig(maps=2, steps=0, points=20, evaluation_sequences=1)
    with caplog.at_level("INFO", "fractalops.fitting.runs"):
        run(tmp_path / "run", Pictures([torch.ones(16, 16)] * images), config)
    notice = "20 points cover at most 62 of the 256 pixels that it shows; use more points"
    assert caplog.records[-1].getMessage().endswith(f": {notice}{others}")


@pytest.mark.parametrize(
    ("size", "detail", "maps", "points", "steps"),
    [
        ((33, 32), "standard", 10, 792, 800),
        ((33, 32), "fine", 16, 1584, 2000),
        ((5, 205), "standard", 10, 769, 800),
        ((64, 64), "standard", 16, 3072, 800),
        ((64, 64), "fine", 64, 6144, 2000),
        ((128, 100), "standard", 50, 9600, 800),
        ((256, 256), "standard", 256, 49152, 800),
        ((256, 256), "fine", 1024, 98304, 2000),
        ((256, 260), "standard", 260, 49920, 800),
        ((512, 512), "fine", 4096, 393216, 2000),
    ],
)
def test_large_targets_have_maps_and_points_for_their_pixels(
    size: tuple[int, int], detail: Any, maps: int, points: int, steps: int
) -> None:
    config = FitConfig(detail=detail).resolve(size)
    assert {name: getattr(config, name) for name in AUTOMATIC} == {
        "maps": maps,
        "points": points,
        "sequences": 1,
        "steps": steps,
        "blend": "mean",
        "initialization": "tiles",
        "sampling": "balanced" if maps < 128 else "independent",
        "learning_rate": 0.05,
        "offset_rate": pytest.approx(min(1, math.sqrt(10 / maps))),
        "split_every": steps // 20 if size[0] * size[1] >= 96 * 96 else 0,
        "evaluation_sequences": 10,
        "batch_size": max(1, min(16, 2**18 // points)),
    }
    assert is_resolved(config)


@pytest.mark.parametrize("size", [(16, 16), (64, 48)])
@pytest.mark.parametrize(
    "given",
    [
        {"maps": 7},
        {"points": 123},
        {"sequences": 3},
        {"steps": 0},
        {"steps": 5},
        {"blend": "add"},
        {"blend": "mean"},
        {"initialization": "random", "sampling": "independent"},
        {"learning_rate": 0.3, "offset_rate": 0.2, "evaluation_sequences": 3, "batch_size": 2},
        {"blend": "mean", "split_every": 7},
        dict.fromkeys(("maps", "points", "sequences", "steps"), 9),
    ],
    ids=str,
)
def test_given_settings_are_kept(given: dict[str, Any], size: tuple[int, int]) -> None:
    config = FitConfig(**given)
    resolved = config.resolve(size)
    assert is_resolved(resolved)
    assert {name: getattr(resolved, name) for name in given} == given
    for name in set(dataclasses.asdict(config)) - set(AUTOMATIC):
        assert getattr(resolved, name) == getattr(config, name)


def test_the_others_follow_those_that_are_given() -> None:
    size = (64, 64)
    assert FitConfig(sequences=4).resolve(size).points == 768
    assert FitConfig(sequences=5000).resolve(size).points == 1
    assert FitConfig(steps=100).resolve((96, 96)).split_every == 40
    assert FitConfig(steps=1600).resolve((96, 96)).split_every == 80
    assert FitConfig(steps=1600).resolve((96, 95)).split_every == 0
    assert FitConfig(blend="add").resolve((96, 96)).split_every == 0
    assert FitConfig(blend="add", maps=40).resolve(size).offset_rate == 1
    assert FitConfig(blend="mean").resolve((32, 32)).initialization == "tiles"
    assert FitConfig(blend="mean").resolve((32, 32)).split_every == 0
    assert FitConfig(maps=40).resolve(size).offset_rate == 0.5
    assert FitConfig(maps=4).resolve(size).offset_rate == 1
    assert FitConfig(maps=257).resolve((8, 8)).sampling == "balanced"
    assert [FitConfig(maps=maps).resolve(size).sampling for maps in (127, 128)] == ["balanced", "independent"]
    assert FitConfig(points=2**17).resolve(size).batch_size == 2
    assert FitConfig(points=2**19, sequences=4).resolve(size).batch_size == 1


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (200, 300)])
def test_a_resolved_configuration_stays_as_it_is(size: tuple[int, int]) -> None:
    config = FitConfig(color=True, seed=4).resolve(size)
    assert config.resolve(size) == config.resolve((7, 900)) == config
    published = FitConfig.paper()
    assert is_resolved(published)
    assert published.resolve(size) is published
    assert published.channels is None


def test_auto_is_a_value_of_these_settings_alone() -> None:
    assert set(automatic_settings(FitConfig(), 1)) == set(AUTOMATIC) == set(FORMER)
    assert FitConfig(**dict.fromkeys(AUTOMATIC, "auto")) == FitConfig()
    for name in ("seed", "bandwidth", "detail", "color", "objective"):
        with pytest.raises((TypeError, ValueError), match=rf"^FitConfig: {name} must .+, got "):
            FitConfig(**{name: "auto"})
    for wrong in ("Auto", "", "automatic"):
        with pytest.raises(TypeError, match=r"^FitConfig: maps must be an int, got str$"):
            FitConfig(maps=wrong)  # type: ignore[arg-type]


def test_files_and_pickles_have_another_auto() -> None:
    """Files and pickles contain a string that is equal to "auto" but is another object."""
    config = FitConfig(points=9)
    assert parse_config(json.loads(json.dumps(dataclasses.asdict(config)))).resolve((64, 64)).maps == 16
    unpickled = pickle.loads(pickle.dumps(config))
    assert unpickled == config
    assert unpickled.maps is not config.maps
    assert unpickled.resolve((64, 64)) == config.resolve((64, 64))


def test_splits_come_in_the_first_part() -> None:
    config = FitConfig(blend="mean", steps=20, split_every=3)
    assert [step for step in range(20) if config.splits_at(step)] == [2, 5, 8, 11]
    assert not any(FitConfig(blend="mean", steps=20, split_every=0).splits_at(step) for step in range(20))
    with pytest.raises(ValueError, match=r"^FitConfig: split_every must be 0 for the blend add, got 3$"):
        FitConfig(blend="add", split_every=3)


# Learning with them

LITTLE: dict[str, Any] = {"maps": 4, "points": 60, "steps": 6, "evaluation_sequences": 2}


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("size", [20, 36])
def test_a_result_has_the_settings_of_its_size_in_its_file(size: int, color: bool, tmp_path: Path) -> None:
    target = disc(size, 6.0)
    config = FitConfig(**LITTLE, color=color, snapshots=2)
    result = fractalops.fit(target.expand(2, 3, -1, -1) if color else target.expand(2, -1, -1), config)
    assert result.config == config.resolve((size, size))
    assert result.system.blend == result.config.blend == ("add" if size == 20 else "mean")
    assert result.best_image.shape == (2, *([3] if color else []), size, size)
    result.save(tmp_path / "result.safetensors")
    loaded = FitResult.load(tmp_path / "result.safetensors")
    assert loaded.config == result.config
    assert_same_result(loaded, result)
    assert_same_result(loaded[1], result[1])
    index = result.system.sample(1, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.system((9, 8), index=index), result.system((9, 8), index=index))


def two_sizes(color: bool) -> Pictures:
    """Return images of 20 and of 36 pixels, in turn."""
    shape = (3,) if color else ()
    images = [torch.rand(*shape, size, size + 1, generator=torch.Generator().manual_seed(size)) for size in (20, 36)]
    return Pictures([images[0], images[1], 1 - images[0], 1 - images[1]])


@pytest.mark.usefixtures("one_thread", "one_step_a_call")
@pytest.mark.parametrize("color", [False, True])
def test_a_run_over_two_sizes_goes_on_with_the_same_bits(
    color: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FitConfig(**LITTLE, color=color)
    whole = run(tmp_path / "whole", two_sizes(color), config)
    for step in (3, 8):
        folder = tmp_path / str(step)
        interrupt(folder, monkeypatch, step, source=two_sizes(color), config=config)
        run(folder, two_sizes(color), config)
        assert contents(folder) == contents(tmp_path / "whole")
    for image, size in enumerate((20, 36, 20, 36)):
        assert whole[image].config == config.resolve((size, size + 1))
        assert whole[image].system.blend == ("mean" if size == 36 else "add")
    with pytest.raises(InputError, match=r"^cannot join the systems of .+: they have 4 maps of blend add, 4 maps of "):
        whole.system()
