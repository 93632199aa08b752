"""The folder that `fractalops fit` writes for an image."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fractalops.backends import versions
from fractalops.drawing.high_resolution import draw_high_resolution, proportional_size
from fractalops.drawing.plots import loss_curve, loss_table
from fractalops.errors import MissingExtra
from fractalops.fitting import FitResult
from fractalops.io.files import atomic_path
from fractalops.io.images import comparison, save_animation, save_image

SYSTEM_NAME = "system.safetensors"
OUTPUT_NAMES = (
    SYSTEM_NAME,
    "comparison.png",
    "fractal.png",
    "loss.csv",
    "loss.png",
    "learning.gif",
    "fit.json",
)

_DRAWING_SIDE = 1024  # pixels
_DRAWING_POINTS = 1_000_000
_ANIMATION_SIDE = 192  # pixels of each half of a frame


@dataclass(frozen=True)
class Summary:
    """What the command line tells of one learned image."""

    image: Path
    folder: Path
    height: int
    width: int
    steps: int
    minimum_mse: float
    mean_mse: float


def save_system(folder: Path, result: FitResult) -> None:
    """Write what was learned of one image to `folder`, which is made if need be; it takes milliseconds.

    What an earlier run wrote there beside its system goes with it, so that the folder never mixes two runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / SYSTEM_NAME) as temporary:
        result.save(temporary)
        for name in set(OUTPUT_NAMES) - {SYSTEM_NAME}:
            (folder / name).unlink(missing_ok=True)


def write_pictures(
    folder: Path,
    image: Path,
    target: Tensor,  # (H, W) or (3, H, W)
    result: FitResult,
    *,
    notices: Sequence[str] = (),
    animation: bool = True,
) -> Summary:
    """Draw and tell what was learned of one image, beside the system in `folder`. `result` holds one system."""
    losses = result.losses[:, 0]  # (steps,)
    save_image(comparison(target, result.best_image[0]), folder / "comparison.png")
    save_image(_high_resolution(result), folder / "fractal.png")
    loss_table(losses, folder / "loss.csv")
    with suppress(MissingExtra):  # the command has said so before the learning began
        loss_curve(losses, folder / "loss.png", title=image.name)
    if animation and result.snapshots:
        save_animation(_learning_frames(target, result), folder / "learning.gif")
    summary = Summary(
        image=image,
        folder=folder,
        height=target.shape[-2],
        width=target.shape[-1],
        steps=len(losses),
        minimum_mse=float(result.minimum_mse[0]),
        mean_mse=float(result.mean_mse[0]),
    )
    _write_report(folder / "fit.json", summary, result, notices)
    return summary


def _high_resolution(result: FitResult) -> Tensor:
    """The learned fractal at high resolution: (H, W) or (3, H, W) with a longest side of 1024."""
    size = proportional_size(result.size, _DRAWING_SIDE)
    return draw_high_resolution(
        result.system,
        size,
        points=_DRAWING_POINTS,
        viewport=result.config.viewport,
        generator=torch.Generator().manual_seed(result.config.seed),
        intensity=result.intensity,
    )[0]


def _learning_frames(target: Tensor, result: FitResult) -> list[Tensor]:
    """One frame a snapshot: the target beside what the system drew at that step."""
    system, config = copy.deepcopy(result.system), result.config
    frames = []
    with torch.no_grad():
        for snapshot in result.snapshots:
            system.load_state_dict(snapshot)
            drawn = system(
                result.size,
                points=config.points,
                # The same random numbers in each frame: what moves is the system, not the noise.
                generator=torch.Generator().manual_seed(config.seed),
                viewport=config.viewport,
                bandwidth=config.bandwidth,
                clamp=config.clamp,
                cutoff=config.cutoff,
            )  # (1, 1, ...)
            frames.append(comparison(target, drawn[0, 0], wanted=_ANIMATION_SIDE))
    return frames


def _write_report(path: Path, summary: Summary, result: FitResult, notices: Sequence[str]) -> None:
    report = {
        "image": str(summary.image),
        "height": summary.height,
        "width": summary.width,
        "minimum_mse": _number(summary.minimum_mse),
        "mean_mse": _number(summary.mean_mse),
        "steps": summary.steps,
        "interrupted": result.interrupted,
        "seconds": round(result.seconds, 3),
        "notices": list(notices),
        "config": asdict(result.config),
    }
    write_json(path, report)


def write_json(path: Path, report: dict[str, Any]) -> None:
    """A report, and the versions that made it."""
    with atomic_path(path) as temporary:
        text = json.dumps({**report, "versions": versions()}, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else None
