"""The settings of `fit`: everything that its result depends on, except for the targets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch

from fractalops._checks import AUTO, Bounds, Count, Natural, check_fields, check_viewport, is_auto
from fractalops.fitting.schedules import cosine_schedule, halving_schedule
from fractalops.ifs import IFS, Sampling
from fractalops.ops.svd_matrix import SingularValues
from fractalops.parameters import Parametrization, Probabilities
from fractalops.placement import DEFAULT_VIEWPORT, Viewport
from fractalops.rendering import DEFAULT_BACKGROUND_WEIGHT, DEFAULT_BANDWIDTH, DEFAULT_CUTOFF, Blend

LEARNING_VIEWPORT = (-2.5, -2.5, 2.5, 2.5)  # better to learn in than the published one

Objective = Literal["expectation", "fixed"]
OptimizerName = Literal["adam", "sgd"]
Initialization = Literal["intensity", "tiles", "random"]
Detail = Literal["standard", "fine"]
Schedule = Literal["cosine", "halving"]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


@dataclass(frozen=True)
class FitConfig:
    """The settings of `fit`.

    Those that are "auto" follow the size of the targets and what they show: `resolve` replaces them by the values of
    `automatic_settings`. For targets of up to 32 x 32 pixels they learn better than the published ones, which `paper`
    has, with less work: see docs/recipe.md for the study that they come from.

    Raises `ValueError` or `TypeError` for a setting out of its range, named in the message.
    """

    maps: Count = AUTO
    """Affine maps of a system (N)."""
    points: Count = AUTO
    """Points of a sequence (T)."""
    sequences: Count = AUTO
    """Sequences of a system that a step draws (the paper's batch size)."""
    steps: Natural = AUTO
    """Optimization steps."""
    detail: Detail = "standard"
    """The work of settings that are "auto", above 32 x 32 pixels: "standard", about 10 seconds for 256
    x 256 pixels on two cores, or "fine", with four times the maps, minutes for 512 x 512."""
    blend: Blend = AUTO
    """Blending of points, see `render`: "add", or "mean", for which every map learns a color, also in gray."""
    background: Annotated[float, Bounds(least=0, most=1)] = 0.0
    """The value of a pixel without points, for the blend "mean"."""
    background_weight: Annotated[float, Bounds(above=0)] = DEFAULT_BACKGROUND_WEIGHT
    """The weight of the background for the blend "mean", see `render`."""
    bandwidth: Annotated[float, Bounds(least=2.0**-126, most=2.0**126)] = DEFAULT_BANDWIDTH  # of float32
    """The bandwidth of the Gaussian bumps, in square pixels (tau)."""
    cutoff: Annotated[float, Bounds(above=0, below=1)] | None = DEFAULT_CUTOFF
    """A point is left out of the pixels to which it adds less; None leaves out none."""
    clamp: bool = True
    """Whether the image is limited to [0, 1] while learning (paper section 4.3); it always is in the evaluation."""
    viewport: Viewport = LEARNING_VIEWPORT
    """The part of the plane that the image shows: (x_min, y_min, x_max, y_max), "stretch" or "fit", see `render`."""
    objective: Objective = "expectation"
    """"expectation": new sequences at every step; "fixed": those of the first parameters throughout (paper, equation
    9).
    """
    optimizer: OptimizerName = "adam"
    """"adam" or "sgd"."""
    learning_rate: Annotated[float, Bounds(above=0)] = AUTO
    """The learning rate of the first step; `schedule` lowers it."""
    offset_rate: Annotated[float, Bounds(above=0)] = AUTO
    """The learning rate of the offsets, as a multiple of that of the other parameters."""
    split_every: Natural = AUTO
    """Steps from one time that maps of little use become halves of those with the largest error to the next, see
    `split_maps`; 0 never does. For the blend "mean"."""
    schedule: Schedule = "cosine"
    """Schedule of the learning rate: "cosine", half a period down to 0, or "halving" every quarter of the steps (the
    published code)."""
    momentum: Annotated[float, Bounds(least=0, most=1)] = 0.9
    """The momentum of "sgd"."""
    gradient_clip: Annotated[float, Bounds(above=0)] | None = 1.0
    """The largest norm of a system's gradient; None doesn't limit it."""
    noise: Annotated[float, Bounds(least=0)] = 0.0
    """Standard deviation of the Gaussian noise that is added to the SVD parameters (paper section 4.4); 0 adds none."""
    noise_every: Count = 10
    """Steps from one addition of noise to the next."""
    noise_until: Annotated[float, Bounds(least=0, most=1)] = 0.6
    """The fraction of the steps after which no noise is added."""
    parametrization: Parametrization = "svd"
    """"svd" (paper, equation 10) or "matrix", the raw entries, for comparison."""
    singular_values: SingularValues = "sigmoid"
    """The map that keeps singular values in (0, 1): "sigmoid" (the published code) or "clamp" (the paper's text)."""
    initialization: Initialization = AUTO
    """"intensity": small maps, spread over the target's intensity, see `intensity_start`; "tiles": maps that tile the
    target, smaller where it has details, see `tile_start`; "random": random systems, whatever the target is (the
    published code)."""
    probabilities: Probabilities | None = None
    """"learned", from equal ones on, see `IFS`; "determinant": proportional to `|det A|` (paper section 3). None is
    "learned" for the objective "expectation" and "determinant" for "fixed", whose sequences are drawn once and have
    nothing to learn them from."""
    sampling: Sampling = AUTO
    """Sampling of sequences, in learning and in the evaluation: "balanced", with fewer holes, or "independent" (paper
    section 3); see `IFS`."""
    evaluation_sequences: Count = AUTO
    """Fresh sequences over which the learned system's minimum and mean MSE are taken."""
    color: bool = False
    """Whether the targets have three channels and every map learns a color: from the target's mean color on, or from
    that of its tile."""
    snapshots: Natural = 0
    """The number of snapshots of the parameters, evenly spread, including the first and the last step."""
    batch_size: Count = AUTO
    """Images that are learned in one call of the ops: it bounds the memory. Native steps give the same bits for any
    number; tensor operations sum gradients in another order, which can show in their last bits, and in which maps are
    split."""
    seed: Natural = 0
    """Image number s of a call draws with a generator of its own, seeded with seed + s."""

    def __post_init__(self) -> None:
        if self.probabilities is None:
            object.__setattr__(self, "probabilities", "determinant" if self.objective == "fixed" else "learned")
        check_fields(self)
        object.__setattr__(self, "viewport", check_viewport("FitConfig", self.viewport))
        if self.objective == "fixed" and self.probabilities == "learned":
            raise ValueError("FitConfig: probabilities must be determinant for the objective fixed, got 'learned'")
        if self.blend == "add" and not is_auto(self.split_every) and self.split_every > 0:
            raise ValueError(f"FitConfig: split_every must be 0 for the blend add, got {self.split_every}")

    @classmethod
    def paper(cls, **changes: Any) -> FitConfig:
        """Return the settings of the published code; `changes` override some."""
        published: dict[str, Any] = {
            "maps": 10,
            "points": 300,
            "sequences": 50,
            "steps": 1000,
            "blend": "add",
            "viewport": DEFAULT_VIEWPORT,
            "learning_rate": 0.05,
            "offset_rate": 1.0,
            "split_every": 0,
            "evaluation_sequences": 100,
            "batch_size": 16,
            "schedule": "halving",
            "noise": 0.1,
            "initialization": "random",
            "probabilities": "determinant",
            "sampling": "independent",
        }
        return cls(**(published | changes))

    @property
    def channels(self) -> int | None:
        """Channels of a map's color: 3 (red, green, blue) in color; in gray 1 for the blend "mean", None for "add"."""
        return 3 if self.color else 1 if self.blend == "mean" else None

    @property
    def empty(self) -> float:
        """The value of a pixel without points: `background` for the blend "mean", 0 for "add"."""
        return self.background if self.blend == "mean" else 0.0

    def resolve(self, size: Sequence[int], shown: int = 0) -> FitConfig:
        """Return the same settings, with values for those that are "auto", for targets of (height, width) pixels.

        `shown` is how many of them differ from the background.
        """
        chosen = automatic_settings(self, size[0] * size[1], shown)
        changes = {name: value for name, value in chosen.items() if is_auto(getattr(self, name))}
        return dataclasses.replace(self, **changes) if changes else self

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of `step`, by the schedule, of resolved settings."""
        schedule = cosine_schedule if self.schedule == "cosine" else halving_schedule
        return schedule(self.learning_rate, step, self.steps)

    def splits_at(self, step: int) -> bool:
        """Return whether maps are split after `step`."""
        return bool(self.split_every) and (step + 1) % self.split_every == 0 and step < _SPLIT_UNTIL * self.steps

    def adds_noise_at(self, step: int) -> bool:
        """Return whether noise is added after `step`."""
        return self.noise > 0 and step % self.noise_every == 0 and step < self.noise_until * self.steps

    def snapshot_steps(self) -> list[int]:
        """Return the numbers of steps after which the parameters are kept, ascending."""
        count = min(self.snapshots, self.steps + 1)
        if count < 2:
            return [self.steps] * count
        return [round(self.steps * i / (count - 1)) for i in range(count)]


_SMALL = 32 * 32  # pixels: up to here the defaults are those of docs/recipe.md
_SEQUENCES = (5, 3, 2)  # of 300, 600 and 900 points: at most a fifth more points in all
_SPLIT_UNTIL = 0.6  # the fraction of the steps after which no map is split


def automatic_settings(config: FitConfig, pixels: int, shown: int = 0) -> dict[str, Any]:
    """Return the settings that "auto" stands for, for targets of so many pixels, of which `shown` are not background.

    Those that depend on others follow what `config` has for them. Up to 32 x 32 pixels: 10 maps, 2000 steps of 5
    sequences of 300 points, or of 3 of 600 where more than 300 pixels are shown, or of 2 of 900 where more than 600
    are, blended by "add", or by "mean" where `split_every` is given. Above: one map for 16 x 16 pixels (fine: 8 x 8),
    one sequence with 0.75 (1.5) points for each pixel, 800 (2000) steps, blended by "mean" from a start of tiles.
    """
    small, fine = pixels <= _SMALL, config.detail == "fine"

    def chosen(name: str, value: Any) -> Any:
        given = getattr(config, name)
        return value if is_auto(given) else given

    splits = not is_auto(config.split_every) and config.split_every > 0
    blend = chosen("blend", "add" if small and not splits else "mean")
    # Sums of fewer than one point for a shown pixel leave holes; docs/recipe-verified.md has what more of them gain.
    dense = 1
    if small and blend == "add" and is_auto(config.points):
        dense = min(max(1, math.ceil(shown / 300)), len(_SEQUENCES))
    maps = chosen("maps", 10 if small else max(10, round(pixels / (8 * 8 if fine else 16 * 16))))
    sequences = chosen("sequences", _SEQUENCES[dense - 1] if small else 1)
    points = chosen("points", 300 * dense if small else math.ceil(pixels * (1.5 if fine else 0.75) / sequences))
    steps = chosen("steps", 2000 if small or fine else 800)
    return {
        "maps": maps,
        "sequences": sequences,
        "points": points,
        "steps": steps,
        "blend": blend,
        "initialization": "intensity" if small and blend == "add" else "tiles",
        # Balancing takes a time that grows with the maps: docs/pictures.md has what it gains.
        "sampling": "balanced" if small or maps < 128 else "independent",
        "learning_rate": 0.1 if small else 0.05,
        # Steps as long as those of ten maps, relative to the tiles.
        "offset_rate": 1.0 if small or blend == "add" else min(1.0, math.sqrt(10 / maps)),
        # More often, or with few pixels, it has not been seen to help.
        "split_every": max(40, steps // 20) if blend == "mean" and pixels >= 96 * 96 else 0,
        "evaluation_sequences": 100 if small else 10,
        # It bounds the points that are in memory.
        "batch_size": 16 if small else max(1, min(16, 2**18 // (sequences * points))),
    }


def complete(kind: type[C], settings: dict[str, Any]) -> C:
    """Return the dataclass `kind` of settings by name. Raises `ValueError` unless each of its fields is there."""
    if missing := [field.name for field in fields(kind) if field.name not in settings]:
        raise ValueError(f"config lacks {', '.join(missing)}")
    return kind(**settings)


def make_system(
    config: FitConfig,
    systems: int,
    maps: int | None = None,
    *,
    parametrization: Parametrization | None = None,
    generator: Sequence[torch.Generator] | None = None,
) -> IFS:
    """Return random systems of the kind that `config` learns, which draw as it does, on the generators' device.

    `maps` and `parametrization` are those of `config` unless given. Without generators, one a system, the
    parameters have no values: they are on the device "meta", for `load_state_dict(..., assign=True)`.
    """
    return IFS(
        systems,
        config.maps if maps is None else maps,
        parametrization=parametrization or config.parametrization,
        singular_values=config.singular_values,
        probabilities=config.probabilities or "determinant",
        sampling=config.sampling,
        channels=config.channels,
        viewport=config.viewport,
        bandwidth=config.bandwidth,
        cutoff=config.cutoff,
        blend=config.blend,
        background=config.background,
        background_weight=config.background_weight,
        generator=generator,
        device="meta" if generator is None else None,
    )
