"""The default settings of `fit` and variants of them against the published settings (docs/recipe.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fractalops._checks import AUTO, Count
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.inversions import (
    InversionSettings,
    Learned,
    beats,
    draw_reconstructions,
    learn_all,
    load_data,
)
from fractalops.experiments.outcome import Outcome, Row
from fractalops.fitting import FitConfig, FitResult
from fractalops.fitting.result import restore_system

NAME = "recipe"
SUMMARY = "the default settings of fit and variants of them against the published settings"
_PAPER, _DEFAULT, _LONG = "paper", "default", "20 maps, the paper's work"
_DENSE = "points by what is shown"
_DRAWN = 10  # sequences that are drawn in one call


@dataclass(frozen=True)
class RecipeSettings(InversionSettings):
    """Settings of the experiment. `steps` and `sequences` are for the published settings; the defaults do a fifth."""

    data: tuple[str, ...] = ("mnist", "fashion-mnist")
    images: Count = 50
    held_out: bool = False
    """Whether to compare a few settings on images on which the defaults were not chosen."""


PRESETS = {"small": RecipeSettings(images=12, steps=200, sequences=20), "paper": RecipeSettings()}


def variants(settings: RecipeSettings) -> dict[str, FitConfig]:
    """Return the configurations by name. Unless the name says otherwise, the work is a fifth of the published work."""
    sizes: dict[str, Any] = {name: getattr(settings, name) for name in ("points", "maps", "batch_size", "seed")}
    sizes |= {"sequences": max(1, settings.sequences // 10), "steps": 2 * settings.steps}
    long = {"steps": 10 * settings.steps}

    def default(**changes: Any) -> FitConfig:
        return FitConfig(**(sizes | changes))

    found = {
        _PAPER: settings.config(),
        "paper, viewport 2.5": settings.config(viewport=FitConfig().viewport),
        "paper, balanced sequences": settings.config(sampling="balanced"),
        "random start": default(initialization="random"),
        "probabilities by determinant": default(probabilities="determinant"),
        "independent sequences": default(sampling="independent"),
        "independent, the paper's work": default(sampling="independent", **long),
        "schedule by halving": default(schedule="halving"),
        "with noise": default(noise=0.1),
        "half the steps": default(steps=settings.steps),
        "the paper's work": default(**long),
        "20 maps": default(maps=20),
        _LONG: default(maps=20, **long),
        _DEFAULT: default(),
        _DENSE: default(points=AUTO, sequences=AUTO),
    }
    return {name: found[name] for name in (_PAPER, _LONG, _DEFAULT, _DENSE)} if settings.held_out else found


def run(
    settings: RecipeSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Learn the same targets with all configurations. Raise `InputError` if no data set is found."""
    both, notes = load_data(dataclasses.replace(settings, images=2 * settings.images), data)  # each (2 S, H, W)
    part = slice(settings.images, None) if settings.held_out else slice(settings.images)
    targets = {name: images[part] for name, images in both.items()}  # each (S, H, W)
    configs = variants(settings)
    learned = learn_all(configs, targets, output, device=device, progress=progress)
    shown = [name for name in (_PAPER, _LONG, _DEFAULT, _DENSE) if name in configs]
    draw_reconstructions(output, targets, learned, dict.fromkeys(targets, shown))
    rows = [row(one, targets[one.data], learned[_PAPER, one.data]) for one in learned.values()]
    findings = [
        beats(f"{name}: the default settings beat the published ones", learned[_DEFAULT, name], learned[_PAPER, name])
        for name in targets
    ]
    return Outcome(rows, findings, notes)


def row(one: Learned, targets: Tensor, paper: Learned) -> Row:
    """Return a row of the table: the common columns, the work, and the ratio to the published settings."""
    config = one.result.config
    return one.row() | {
        "sequences": config.steps * config.sequences,
        "mean over sequences": float(one.result.mean_mse.mean()),
        "mean, independent sequences": float(minimum_of_independent_sequences(one.result, targets).mean()),
        "to paper": one.mean / paper.mean,
    }


@torch.no_grad()
def minimum_of_independent_sequences(result: FitResult, targets: Tensor) -> Tensor:
    """Return the minimum MSE (S,) over independent sequences, as in the paper, for any learned systems.

    Args:
        result: S learned systems.
        targets: their targets (S, H, W).
    """
    config = result.config
    system = restore_system(result.system.state_dict(), dataclasses.replace(config, sampling="independent"))
    generator = torch.Generator().manual_seed(config.seed)
    errors = []
    for _ in range(max(1, config.evaluation_sequences // _DRAWN)):
        images = system(
            result.size, sequences=_DRAWN, points=config.points, generator=generator, viewport=config.viewport
        )  # (S, K, H, W)
        errors.append((images - targets[:, None]).square().mean((2, 3)))  # (S, K)
    return torch.cat(errors, 1).amin(1)
