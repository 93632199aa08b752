"""The paper's Table 2: the error as a function of the number of affine maps (appendix B.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.inversions import InversionSettings, beats, draw_reconstructions, learn_all, load_data
from fractalops.experiments.outcome import Outcome

NAME = "transformations"
SUMMARY = "Table 2: the error as a function of the number of affine maps"


@dataclass(frozen=True)
class TransformationsSettings(InversionSettings):
    """Settings of the experiment."""

    data: tuple[str, ...] = ("fractaldb", "mnist")
    counts: tuple[int, ...] = (2, 4, 6, 8, 10, 15, 20)
    """Numbers of maps, in ascending order. `maps` is not used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.counts) < 2 or min(self.counts) < 1 or list(self.counts) != sorted(set(self.counts)):
            raise ValueError(
                f"TransformationsSettings: counts must be two ascending numbers or more, got {self.counts}"
            )


PRESETS = {
    "small": TransformationsSettings(images=16, steps=600, sequences=20, counts=(2, 4, 10, 20)),
    "paper": TransformationsSettings(),
}


def run(
    settings: TransformationsSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Learn all targets with each number of maps. Raise `InputError` if no data set is found."""
    targets, notes = load_data(settings, data)
    configs = {f"{count} maps": settings.config(maps=count) for count in settings.counts}
    learned = learn_all(configs, targets, output, device=device, progress=progress)
    draw_reconstructions(output, targets, learned, {name: list(configs) for name in targets})
    findings = [
        beats(f"{name}: {more} beat {fewer}", learned[more, name], learned[fewer, name])
        for name in targets
        for fewer, more in pairwise(configs)
    ]
    return Outcome([one.row() for one in learned.values()], findings, notes)
