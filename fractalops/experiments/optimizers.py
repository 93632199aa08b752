"""The paper's Table 3: stochastic gradient descent with momentum against Adam (appendix B.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fractalops.experiments.inversions import (
    InversionSettings,
    draw_losses,
    draw_reconstructions,
    learn_all,
    load_data,
    usable_data,
)
from fractalops.experiments.outcome import Outcome, less
from fractalops.experiments.record import Record

NAME = "optimizers"
SUMMARY = "Table 3: SGD with momentum against Adam"


@dataclass(frozen=True)
class OptimizersSettings(InversionSettings):
    """The study's size."""

    data: tuple[str, ...] = ("fractaldb", "mnist")
    sgd_rates: tuple[float, ...] = (0.05, 0.2, 1.0, 5.0)
    """First learning rates of SGD, of which the best is compared with Adam: the paper's own is not known here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sgd_rates or min(self.sgd_rates) <= 0:
            raise ValueError(f"OptimizersSettings: sgd_rates must be above 0, got {self.sgd_rates}")


PRESETS = {
    "small": OptimizersSettings(images=16, steps=600, sequences=20),
    "paper": OptimizersSettings(),
}


def run(settings: OptimizersSettings, record: Record, *, data: Path | None, device: str, progress: bool) -> Outcome:
    """Learn all targets by Adam, and by SGD at each rate. Raises `InputError` where no data set can be had."""
    names, notes = usable_data(settings, data)
    targets = load_data(settings, names, data)
    slow = {f"SGD, rate {rate:g}": settings.config(optimizer="sgd", learning_rate=rate) for rate in settings.sgd_rates}
    learned = learn_all({"Adam": settings.config()} | slow, targets, record, device=device, progress=progress)
    best = {name: min(slow, key=lambda variant: learned[variant, name].mean) for name in names}
    shown = {name: ["Adam", best[name]] for name in names}
    notes += draw_losses(record, learned, shown)
    draw_reconstructions(record.path("reconstructions.png"), targets, learned, shown)
    findings = [
        less(f"{name}: Adam beats {best[name]}", learned["Adam", name].mean, learned[best[name], name].mean)
        for name in names
    ]
    return Outcome([one.row() for one in learned.values()], findings, notes)
