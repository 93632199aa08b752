"""The ablation study of the paper's Table 1, with its Figures 3 and 4."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from pathlib import Path

import torch

from fractalops.data.generators import generator_of
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.inversions import (
    InversionSettings,
    Learned,
    beats,
    draw_losses,
    draw_reconstructions,
    explodes,
    learn_all,
    load_data,
)
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.fitting import FitConfig
from fractalops.ifs import IFS

NAME = "reconstruct"
SUMMARY = "Table 1: objective, clamp, noise and SVD parametrization; Figures 3 and 4"
_BEST = "expectation, clamp, noise"
_RAW = ("raw matrices, noise", "raw matrices, no noise")
_UNIFORM = ("raw matrices from [-1, 1], noise", "raw matrices from [-1, 1], no noise")


@dataclass(frozen=True)
class ReconstructSettings(InversionSettings):
    """Settings of the experiment."""


PRESETS = {"small": ReconstructSettings(images=12, steps=600, sequences=20), "paper": ReconstructSettings()}


def variants(settings: ReconstructSettings) -> dict[str, FitConfig]:
    """Return the variants by name.

    They are all combinations of objective, clamp and noise with the SVD parametrization, and the best objective and
    clamp with raw matrices. The raw matrices are learned with noise, as in the paper's row, and without noise.
    """
    found = {}
    for objective, clamp, noise in product(("fixed", "expectation"), (False, True), (False, True)):
        name = ", ".join([objective, "clamp" if clamp else "no clamp", "noise" if noise else "no noise"])
        found[name] = settings.config(objective=objective, clamp=clamp, noise=0.1 if noise else 0.0)
    for with_noise, without in (_RAW, _UNIFORM):
        found[with_noise] = settings.config(parametrization="matrix")
        found[without] = settings.config(parametrization="matrix", noise=0.0)
    return found


def uniform_start(settings: ReconstructSettings) -> IFS:
    """Return systems with parameters that are uniform in [-1, 1], as in FractalDB (Kataoka et al. 2020).

    Their matrices need not be contractions. Those of the other variants are contractions at the start.
    """
    generator = generator_of(settings.seed, "uniform start", 0)
    system = IFS(settings.images, settings.maps, parametrization="matrix", generator=generator)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return system


def run(
    settings: ReconstructSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Learn all variants on all data sets. Raise `InputError` if no data set is found."""
    targets, notes = load_data(settings, data)
    configs = variants(settings)
    starts = dict.fromkeys(_UNIFORM, uniform_start(settings).to(device))
    learned = learn_all(configs, targets, output, starts=starts, device=device, progress=progress)
    draw_reconstructions(output, targets, learned, {name: [_BEST] for name in targets})
    with_and_without = [_BEST, _BEST.replace("noise", "no noise")]
    notes += draw_losses(output, learned, dict.fromkeys(targets, with_and_without))
    rows = [one.row() for one in learned.values()]
    findings = [finding for name in targets for finding in _findings(name, learned)]
    return Outcome(rows, findings, notes)


def _findings(data: str, learned: dict[tuple[str, str], Learned]) -> list[Finding]:
    best = learned[_BEST, data]
    raw, uniform = ([learned[variant, data] for variant in variants] for variants in (_RAW, _UNIFORM))
    mean = attrgetter("mean")
    return [
        beats(f"{data}: Expectation beats Fixed", best, learned["fixed, clamp, noise", data]),
        beats(f"{data}: clamping helps", best, learned["expectation, no clamp, noise", data]),
        beats(f"{data}: noise helps", best, learned["expectation, clamp, no noise", data]),
        # The paper's row has noise.
        explodes(
            f"{data}: raw matrices from [-1, 1] explode more often than the SVD parametrization", uniform[0], best
        ),
        explodes(
            f"{data}: raw matrices that start as contractions explode more often than the SVD parametrization",
            raw[0],
            best,
        ),
        # The better of the two rows is the control, so that the noise is no disadvantage for it.
        beats(f"{data}: the SVD parametrization beats raw matrices from [-1, 1]", best, min(uniform, key=mean)),
        beats(
            f"{data}: the SVD parametrization beats raw matrices that start as contractions", best, min(raw, key=mean)
        ),
    ]
