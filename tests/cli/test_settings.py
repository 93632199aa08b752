"""Tests of `--set NAME=VALUE` for all settings, and of its errors."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest

from fractalops import FitConfig, FitResult, InputError, PointConfig, PointFitResult
from fractalops.cli.settings import configure, parse_changes
from fractalops.experiments import EXPERIMENTS
from fractalops.experiments.gan import GanSettings
from fractalops.experiments.inverse_encoder import InverseEncoderSettings
from fractalops.experiments.optimizers import OptimizersSettings
from fractalops.experiments.transformations import TransformationsSettings
from tests.support.command_line import QUICK, draw, run


@dataclasses.dataclass
class Everything:
    """Settings with one field of each type that settings may have."""

    whole: int = 1
    number: float | None = 0.5
    text: str = ""
    word: Literal["a", "b"] = "a"
    yes: bool = False
    counts: tuple[int, ...] = ()
    place: tuple[float, float] | Literal["fit"] = "fit"
    seed: int = 0


def changed(settings: Any, changes: list[str], seed: int | None = None) -> Any:
    """Return the settings with changes such as "maps=3" applied, as the commands do."""
    arguments = argparse.Namespace(set=changes, seed=seed)
    return configure(partial(dataclasses.replace, settings), type(settings), arguments, ["seed"])


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("whole=3", 3),
        ("number=2", 2.0),
        ("number=1e-3", 1e-3),
        ("number=none", None),
        ("text=none", "none"),
        ("text=a=b", "a=b"),
        ("word=b", "b"),
        ("yes=true", True),
        ("yes=False", False),
        ("counts=1,2,3", (1, 2, 3)),
        ("counts=", ()),
        ("place=-1,2.5", (-1.0, 2.5)),
        ("place=fit", "fit"),
    ],
)
def test_each_type_is_read(change: str, value: object) -> None:
    name = change.partition("=")[0]
    found = getattr(changed(Everything(), [change]), name)
    assert found == value
    assert type(found) is type(value)


def test_several_settings_and_options_are_taken_together() -> None:
    settings = changed(TransformationsSettings(), ["images=3", "counts=2,5", "data=mnist,kmnist"], seed=7)
    assert (settings.images, settings.counts, settings.data) == (3, (2, 5), ("mnist", "kmnist"))
    assert settings.seed == 7


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (Everything(), "whole", "--set must be NAME=VALUE, got 'whole'; write whole=VALUE"),
        (Everything(), "xyz=3", "--set must be NAME=VALUE, got 'xyz=3'; NAME must be one of: whole, number, "),
        (Everything(), "numbr=3", "--set must be NAME=VALUE, got 'numbr=3'; did you mean number?"),
        (Everything(), "whole=1.5", "--set whole must be of type int, got '1.5'"),
        (Everything(), "number=much", "--set number must be of type float or none, got 'much'"),
        (Everything(), "word=c", "--set word must be one of a, b, got 'c'"),
        (Everything(), "yes=1", "--set yes must be true or false, got '1'"),
        (Everything(), "counts=1,x", "--set counts must be values of type int, separated by commas, got '1,x'"),
        (
            Everything(),
            "place=1",
            "--set place must be 2 values of type float, separated by commas or one of fit, got '1'",
        ),
        (Everything(), "seed=3", "seed is given twice, by --seed and by --set"),
        (TransformationsSettings(), "images=0", "--set images must be at least 1, got 0"),
        (TransformationsSettings(), "data=", "--set data must be one or more of fractaldb, mnist, "),
        (TransformationsSettings(), "counts=5,2", "--set counts must be two ascending numbers or "),
        (GanSettings(), "repeats=1", "--set repeats must be at least 2, got 1"),
        # The attractor of a single map is one point.
        (InverseEncoderSettings(), "maps=1", "--set maps must be at least 2, got 1"),
        (FitConfig(), "schedule=none", "--set schedule must be one of cosine, halving, got 'none'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_settings_are_named(settings: Any, change: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(message)}"):
        changed(settings, [change], seed=1 if change.startswith("seed") else None)


@pytest.mark.parametrize("name", ["adam_rates", "sgd_rates"])
@pytest.mark.parametrize("rates", ["", "0.0,1", "1,0.5", "0.5,0.5", "1,inf", "nan", "0.1,nan"])
def test_rates_ascend(name: str, rates: str) -> None:
    message = rf"^--set {name} must be ascending finite numbers above 0, got "
    with pytest.raises(InputError, match=message):
        changed(OptimizersSettings(), [f"{name}={rates}"])


def test_a_setting_is_given_once() -> None:
    with pytest.raises(InputError, match=r"^whole is given twice by --set; leave out one of them$"):
        parse_changes(Everything, ["whole=1", "whole=2"])


@pytest.mark.parametrize(
    "settings",
    [FitConfig(), FitConfig.paper(), PointConfig(), *(one.PRESETS["paper"] for one in EXPERIMENTS.values())],
    ids=lambda settings: type(settings).__name__,
)
def test_every_setting_can_be_given(settings: Any) -> None:
    values = {name: getattr(settings, name) for name in (field.name for field in dataclasses.fields(settings))}
    changes = [f"{name}={as_text(value)}" for name, value in values.items()]
    assert parse_changes(type(settings), changes) == values


def as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def test_fit_and_fit_points_take_any_setting(tmp_path: Path) -> None:
    picture = draw(tmp_path / "disc.png")
    numpy.save(tmp_path / "ball.npy", numpy.random.default_rng(0).normal(size=(30, 3)))
    changes = ["--set", "bandwidth=2", "--set", "gradient_clip=none", "--set", "color=true", "--set", "snapshots=2"]
    assert run("fit", picture, "-o", tmp_path, "--quiet", "--preset", "paper", *QUICK, *changes) == 0
    config = FitResult.load(tmp_path / "disc" / "system.safetensors").config
    quick = {"maps": 3, "points": 20, "sequences": 2, "steps": 3}
    assert config == FitConfig.paper(**quick, bandwidth=2.0, gradient_clip=None, color=True, snapshots=2)
    few = ["--set", "maps=2", "--set", "steps=1", "--set", "points=8", "--set", "length=4"]
    assert run("fit-points", tmp_path / "ball.npy", "-o", tmp_path, "--quiet", "--no-animation", *few) == 0
    learned = PointFitResult.load(tmp_path / "ball" / "system.safetensors").config
    assert learned == PointConfig(maps=2, steps=1, points=8, length=4)
    assert json.loads((tmp_path / "ball" / "fit.json").read_text())["config"]["length"] == 4
