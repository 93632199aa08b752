"""The paper's Table 3: stochastic gradient descent with momentum against Adam (appendix B.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.inversions import (
    InversionSettings,
    beats,
    draw_losses,
    draw_reconstructions,
    learn_all,
    load_data,
)
from fractalops.experiments.outcome import Finding, Outcome

NAME = "optimizers"
SUMMARY = "Table 3: SGD with momentum against Adam"


@dataclass(frozen=True)
class OptimizersSettings(InversionSettings):
    """Settings of the experiment."""

    data: tuple[str, ...] = ("fractaldb", "mnist")
    adam_rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    """First learning rates of Adam. The published one is 0.05."""
    sgd_rates: tuple[float, ...] = (0.05, 0.2, 1.0, 5.0, 20.0)
    """First learning rates of SGD. The paper's rate is not known here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("adam_rates", "sgd_rates"):
            rates = getattr(self, name)
            if not rates or list(rates) != sorted(set(rates)) or not all(0 < rate < math.inf for rate in rates):
                raise ValueError(f"OptimizersSettings: {name} must be ascending finite numbers above 0, got {rates}")


PRESETS = {"small": OptimizersSettings(images=16, steps=600, sequences=20), "paper": OptimizersSettings()}


def run(
    settings: OptimizersSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Learn all targets with both optimizers at each of their rates. Raise `InputError` if no data set is found."""
    targets, notes = load_data(settings, data)
    rates = {"Adam": settings.adam_rates, "SGD": settings.sgd_rates}
    configs = {
        _variant(optimizer, rate): settings.config(optimizer=optimizer.lower(), learning_rate=rate)
        for optimizer, tried in rates.items()
        for rate in tried
    }
    learned = learn_all(configs, targets, output, device=device, progress=progress)
    best: dict[str, list[str]] = {}  # by data set: the best variants of Adam and of SGD
    findings: list[Finding] = []
    for name in targets:
        mean = {variant: learned[variant, name].mean for variant in configs}
        best[name] = []
        for optimizer, tried in rates.items():
            variants = [_variant(optimizer, rate) for rate in tried]
            best[name].append(min(variants, key=mean.__getitem__))
            if len(tried) > 1 and best[name][-1] in (variants[0], variants[-1]):
                notes.append(f"{name}: {best[name][-1]} is the best; it is the first or the last of the rates")
        adam, sgd = best[name]
        claim = f"{name}: {adam} beats {sgd}, the best of each"
        findings.append(beats(claim, learned[adam, name], learned[sgd, name]))
    notes += draw_losses(output, learned, best)
    draw_reconstructions(output, targets, learned, best)
    return Outcome([one.row() for one in learned.values()], findings, notes)


def _variant(optimizer: str, rate: float) -> str:
    return f"{optimizer} at {rate}"
