"""The ablation of the paper's Table 1, with its Figures 3 and 4: what each part of the published recipe brings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fractalops.experiments.inversions import (
    InversionSettings,
    Learned,
    draw_curves,
    draw_reconstructions,
    learn_all,
    load_data,
    usable_data,
)
from fractalops.experiments.outcome import Finding, Outcome, less
from fractalops.experiments.record import Record
from fractalops.inversion import FitConfig

NAME = "reconstruct"
SUMMARY = "Table 1: objective, clamp, noise and SVD parametrisation; Figures 3 and 4"
_BEST = "expectation, clamp, noise"
_RAW = "raw matrices"


@dataclass(frozen=True)
class ReconstructSettings(InversionSettings):
    """The study's size."""


PRESETS = {
    "small": ReconstructSettings(images=12, steps=600, sequences=20),
    "paper": ReconstructSettings(),
}


def variants(settings: ReconstructSettings) -> dict[str, FitConfig]:
    """By name: objective x clamp x noise with the SVD parametrisation, and raw matrices with the best of them."""
    found = {}
    for objective, clamp, noise in product(("fixed", "expectation"), (False, True), (False, True)):
        name = ", ".join([objective, "clamp" if clamp else "no clamp", "noise" if noise else "no noise"])
        found[name] = settings.config(objective=objective, clamp=clamp, noise=0.1 if noise else 0.0)
    found[_RAW] = settings.config(parametrization="matrix", gradient_clip=None)
    found[f"{_RAW}, clipped gradients"] = settings.config(parametrization="matrix")
    return found


def run(settings: ReconstructSettings, record: Record, *, data: Path | None, device: str, progress: bool) -> Outcome:
    """Learn all variants on all data sets. Raises `InputError` where no data set can be had."""
    names, notes = usable_data(settings, data)
    targets = load_data(settings, names, data)
    configs = variants(settings)
    learned = learn_all(configs, targets, record, device=device, progress=progress)
    draw_reconstructions(record.path("reconstructions.png"), targets, learned, [_BEST])
    for name in names:
        curves = {v: learned[v, name].result.losses.mean(dim=1) for v in (_BEST, _BEST.replace("noise", "no noise"))}
        if not draw_curves(record.path(f"loss-{name}.png"), curves, f"{name}: with and without noise"):
            notes.append("no loss curves: they need matplotlib (pip install 'fractalops[plot]')")
            break
    rows = [one.row() for one in learned.values()]
    findings = [finding for name in names for finding in _findings(name, learned)]
    return Outcome(rows, findings, notes)


def _findings(data: str, learned: dict[tuple[str, str], Learned]) -> list[Finding]:
    best = learned[_BEST, data]
    raw = [one for (variant, name), one in learned.items() if name == data and variant.startswith(_RAW)]
    return [
        less(f"{data}: Expectation beats Fixed", best.mean, learned["fixed, clamp, noise", data].mean),
        less(f"{data}: clamping helps", best.mean, learned["expectation, no clamp, noise", data].mean),
        less(f"{data}: noise helps", best.mean, learned["expectation, clamp, no noise", data].mean),
        Finding(
            f"{data}: the SVD parametrisation trains where raw matrices explode",
            best.exploded == 0 and best.mean < min(one.mean for one in raw),
            f"{best.mean:.4g} against "
            + "; ".join(
                f"{one.variant} {float(one.result.minimum_mse.mean()):.4g}, {one.exploded} exploded" for one in raw
            ),
        ),
    ]
