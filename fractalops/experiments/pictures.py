"""Shapes, glyphs and photographs at their own size, also as free bumps (docs/pictures.md)."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fractalops._checks import AUTO, Count, Natural, Several, check_choices, check_fields
from fractalops.drawing.sheets import SEPARATOR, contact_sheet
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.free_bumps import bumps_for, learn_bumps
from fractalops.experiments.inversions import Learned, learn_variant
from fractalops.experiments.outcome import Finding, Outcome, Row, more, reaches
from fractalops.experiments.picture_measures import has_ssim, intersection_over_union, psnr, ssim
from fractalops.experiments.picture_targets import (
    GLYPHS,
    PHOTOGRAPHS,
    SHAPES,
    draw_glyphs,
    draw_shape,
    read_photograph,
)
from fractalops.fitting import FitConfig, FitResult
from fractalops.ifs import Sampling
from fractalops.io.images import save_image

NAME = "pictures"
SUMMARY = "shapes, glyphs and photographs at their own size, with both blends and against free Gaussian bumps"

_GLYPHS = "glyphs"
_MANY = 8  # PSNR and SSIM are measured with this many times the learned number of points
_TILE = 128  # the side of a picture on the sheet, in pixels
_COLUMNS = 9  # three pictures for each of three targets

# Goals: the largest mean squared error and the smallest intersection over union of each shape.
_SHAPE_GOALS = {"leaf": (0.004, 0.95)} | {name: (0.006, 0.93) for name in SHAPES if name != "leaf"}
_GLYPH_GOALS = (0.006, 0.02)  # the largest mean and the largest maximum of the mean squared errors
_PHOTOGRAPH_GOALS = {  # the smallest PSNR in decibels, by target and number of maps
    ("camera", 64): 25.0, ("camera", 256): 29.0, ("astronaut", 256): 24.0, ("astronaut", 1024): 27.0,
}  # fmt: skip


@dataclass(frozen=True)
class PicturesSettings:
    """Settings of the experiment."""

    shapes: tuple[str, ...] = SHAPES
    glyphs: Natural = 20
    """The number of glyphs to learn."""
    photographs: tuple[str, ...] = tuple(PHOTOGRAPHS)
    maps: tuple[int, ...] = ()
    """Numbers of maps to learn each photograph with; if empty, those of `PHOTOGRAPHS`."""
    comparisons: bool = True
    """Whether to learn shapes and the first photograph with both blends, and shapes and photographs as free bumps."""
    size: Several = 256
    """The side of shapes and glyphs, in pixels. Photographs have their own sizes, up to this."""
    large: Several = 1024
    """The longest side of a drawing, in pixels."""
    points: Count = 4_000_000
    """The number of points of a drawing."""
    steps: Natural = AUTO
    """Optimization steps."""
    sampling: Sampling = AUTO
    """How sequences are drawn."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        if not (self.shapes or self.glyphs or self.photographs):
            raise ValueError("PicturesSettings: there must be shapes, glyphs or photographs, got none")
        for name, choices in (("shapes", SHAPES), ("photographs", tuple(PHOTOGRAPHS))):
            if values := getattr(self, name):
                check_choices("PicturesSettings", name, values, choices)
        check_fields(self)
        if self.glyphs > len(GLYPHS):
            raise ValueError(f"PicturesSettings: glyphs must be at most {len(GLYPHS)}, got {self.glyphs}")
        if any(maps < 1 for maps in self.maps):
            raise ValueError(f"PicturesSettings: maps must be 1 or more, got {self.maps}")

    def config(self, **changes: Any) -> FitConfig:
        """Return the settings of `fit`, with changes."""
        common: dict[str, Any] = {"blend": "mean", "seed": self.seed}
        common |= {"steps": self.steps, "sampling": self.sampling}
        return FitConfig(**(common | changes))


PRESETS = {
    "small": PicturesSettings(shapes=("leaf",), glyphs=1, photographs=("camera",), maps=(64,), steps=400),
    "paper": PicturesSettings(),
}


@dataclass(frozen=True)
class Target:
    """A picture to learn, or several pictures that are learned together."""

    name: str
    images: Tensor  # (S, H, W) or (S, 3, H, W)
    config: FitConfig
    """The settings of `fit`, resolved for the size of the pictures."""
    large: Tensor | None = None  # (H', W'), the same shape drawn large

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]


def targets(settings: PicturesSettings) -> list[Target]:
    """Return all targets. Raise `MissingExtra` if a source of targets is not installed."""
    found = []
    standard = settings.config().resolve((settings.size, settings.size))
    for name in settings.shapes:
        image, large = (draw_shape(name, size) for size in (settings.size, settings.large))
        found.append(Target(name, image[None], standard, large))
    for name in settings.photographs:
        image = read_photograph(name, settings.size)  # (H, W) or (3, H, W)
        for maps in settings.maps or PHOTOGRAPHS[name][-1]:
            config = settings.config(detail="fine", maps=maps, color=image.dim() == 3)
            found.append(Target(name, image[None], config.resolve((image.shape[-2], image.shape[-1]))))
    if settings.glyphs:
        found.append(Target(_GLYPHS, draw_glyphs(settings.glyphs, settings.size), standard))
    return found


def run(
    settings: PicturesSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Learn all targets and draw them large. Raise `MissingExtra` if a source of targets is not installed."""
    study = _Study(settings, output, device, progress)
    for target in targets(settings):
        study.learn(target)
    study.compare()
    save_image(contact_sheet(torch.stack(study.tiles), columns=_COLUMNS), output.file("pictures.png"))
    notes = [] if has_ssim() else ["SSIM is left out: scikit-image is not installed"]
    return Outcome(study.rows, study.findings, notes)


class _Study:
    """The rows, findings and tiles of the targets so far."""

    def __init__(self, settings: PicturesSettings, output: ExperimentFolder, device: str, progress: bool) -> None:
        self._settings, self._output, self._device, self._progress = settings, output, device, progress
        self.rows: list[Row] = []
        self.findings: list[Finding] = []
        self.tiles: list[Tensor] = []  # each (3, 128, 128)
        # By kind and claim, then by target: pairs of the row that is claimed to be better and the row to compare with.
        self._pairs: dict[tuple[str, str], dict[str, list[tuple[Row, Row]]]] = {}
        self._blended = False  # whether a photograph was learned with both blends

    def learn(self, target: Target) -> None:
        """Learn a target in all ways, each with a row."""
        learned = self._fit(target, target.config)
        row = self._row(target, learned)
        self._draw(target, learned.result)
        self._judge(target, row)
        if not self._settings.comparisons or target.name == _GLYPHS:
            return
        if target.large is not None or not self._blended:
            self._blended = self._blended or target.large is None
            config = replace(target.config, blend="add", split_every=0)
            added = self._row(target, self._fit(target, config))
            self._pair("the blend mean beats add", target, row, added)
        self._pair("maps beat free bumps with as many parameters", target, row, self._bumps(target))

    def compare(self) -> None:
        """Add the findings of the comparisons. The rows of one target count as one pair, by their mean.

        PSNR is compared, because the MSE includes the noise of points, which free bumps do not have.
        """
        for (kind, claim), targets in self._pairs.items():
            better, worse = (
                [statistics.fmean(float(pair[side]["PSNR"]) for pair in pairs) for pairs in targets.values()]
                for side in (0, 1)
            )
            self.findings.append(more(f"{kind} ({len(targets)} in all): {claim} by mean PSNR in dB", better, worse))

    def _pair(self, claim: str, target: Target, row: Row, other: Row) -> None:
        kind = "shapes" if target.large is not None else "photographs"
        self._pairs.setdefault((kind, claim), {}).setdefault(target.name, []).append((row, other))

    def _fit(self, target: Target, config: FitConfig) -> Learned:
        variant = f"{config.maps} maps, {config.blend}"
        return learn_variant(
            variant, target.name, target.images, config, self._output, device=self._device, progress=self._progress
        )

    def _row(self, target: Target, learned: Learned) -> Row:
        """Measure the result of `fit`, and add its row."""
        result = learned.result
        config = result.config
        images = _drawn_again(result).reshape(target.images.shape)  # (S, ...)
        overlap = math.nan
        if target.large is not None:
            size = (target.large.shape[0], target.large.shape[1])
            drawing = result.draw(size, points=self._settings.points)[0].cpu()  # (H', W')
            overlap = intersection_over_union(drawing, target.large)
        return self._keep(
            target,
            f"fractal, {config.blend}",
            config.maps,
            config.maps * (7 + (config.channels or 0)),
            {
                "MSE": float(result.mean_mse.mean()),
                "worst MSE": float(result.mean_mse.max()) if target.name == _GLYPHS else math.nan,
                "IoU": overlap,
                "PSNR": sum(map(psnr, images, target.images)) / len(images),
                "SSIM": sum(map(ssim, images, target.images)) / len(images),
                "CPU seconds": learned.cpu_seconds / len(images),
            },
        )

    def _bumps(self, target: Target) -> Row:
        """Learn a picture as free bumps, and add its row."""
        config = replace(target.config, maps=bumps_for(target.config.maps, target.config.channels or 0))
        path = self._output.learned(target.name, f"{config.maps}-bumps")
        bumps = learn_bumps(target.images[0], config, path, progress=self._progress)
        goal = target.images[0]  # (H, W) or (3, H, W)
        image = bumps.draw(target.size).reshape(goal.shape)
        overlap = math.nan
        if target.large is not None:
            drawing = bumps.draw((target.large.shape[0], target.large.shape[1]))[0]  # (H', W')
            overlap = intersection_over_union(drawing, target.large)
        return self._keep(
            target,
            "free bumps",
            config.maps,
            bumps.count,
            {
                "MSE": float((image - goal).square().mean()),
                "worst MSE": math.nan,
                "IoU": overlap,
                "PSNR": psnr(image, goal),
                "SSIM": ssim(image, goal),
                "CPU seconds": bumps.seconds,
            },
        )

    def _keep(self, target: Target, way: str, maps: int, parameters: int, scores: dict[str, float]) -> Row:
        row: Row = {
            "target": target.name,
            "pixels": "{} x {}".format(*target.size),
            "learned as": way,
            "maps": maps,
            "parameters": parameters,
            **scores,
        }
        self.rows.append(row)
        found = {name: score for name, score in scores.items() if not math.isnan(score)}
        self._output.log(len(self.rows), **{f"{target.name}/{way}/{name}": score for name, score in found.items()})
        self._output.write_scalars()
        if self._progress:
            print(
                f"{target.name}, {way}: {', '.join(f'{name} {score:.4g}' for name, score in found.items())}", flush=True
            )
        return row

    def _draw(self, target: Target, result: FitResult) -> None:
        """Add the target, the learned image and the drawing of each picture to the sheet, and save the drawings."""
        drawings = result.draw(self._settings.large, points=self._settings.points).cpu()  # (S, ...)
        images = _drawn_again(result).reshape(target.images.shape)
        for number, trio in enumerate(zip(target.images, images, drawings, strict=True)):
            self.tiles += [_tile(each) for each in trio]
            which = number + 1 if len(images) > 1 else result.config.maps
            save_image(trio[-1], self._output.file(f"drawing-{target.name}-{which}.png"))

    def _judge(self, target: Target, row: Row) -> None:
        """Add the findings that compare a row with the goals of its target."""
        if target.name == _GLYPHS:
            for column, most in zip(("MSE", "worst MSE"), _GLYPH_GOALS, strict=True):
                self.findings.append(
                    reaches(f"{target.name}: {column} of at most {most}", float(row[column]), most=most)
                )
        elif target.name in _SHAPE_GOALS:
            most, least = _SHAPE_GOALS[target.name]
            self.findings += [
                reaches(f"{target.name}: MSE of at most {most}", float(row["MSE"]), most=most),
                reaches(f"{target.name}: IoU of at least {least}", float(row["IoU"]), least=least),
            ]
        elif decibels := _PHOTOGRAPH_GOALS.get((target.name, target.config.maps)):
            claim = f"{target.name}, {target.config.maps} maps: PSNR of at least {decibels:g} dB"
            self.findings.append(reaches(claim, float(row["PSNR"]), least=decibels))


@torch.no_grad()
def _drawn_again(result: FitResult) -> Tensor:
    """Return images (S, C, H, W) of the systems at the learned size, with eight times the learned points."""
    config = result.config
    generators = [torch.Generator(result.system.offset.device).manual_seed(config.seed + 1) for _ in range(len(result))]
    points = _MANY * config.points
    images: Tensor
    if config.blend == "add":  # the mean of eight images, which is as bright as one of them
        images = result.system(result.size, sequences=_MANY, points=config.points, generator=generators).mean(1)
    else:
        images = result.system(result.size, points=points, generator=generators)[:, 0]
    return images.reshape(len(result), -1, *result.size).clamp(0, 1).cpu()


def _tile(image: Tensor) -> Tensor:
    """Return a picture (H, W) or (3, H, W) as a tile (3, 128, 128) for the sheet."""
    longest = max(image.shape[-2:])
    size = [max(1, round(side * _TILE / longest)) for side in image.shape[-2:]]
    scaled = interpolate(image.reshape(1, -1, *image.shape[-2:]), size, mode="area")[0].expand(3, -1, -1)  # (3, h, w)
    rows, columns = _TILE - size[0], _TILE - size[1]
    tile: Tensor = pad(scaled, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=SEPARATOR)
    return tile
