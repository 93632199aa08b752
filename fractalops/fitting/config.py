"""What a run of `fit` is: everything that its result depends on, except for the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch

from fractalops._checks import Bounds, Count, Natural, check_fields, check_viewport
from fractalops.fitting.schedules import cosine_schedule, halving_schedule
from fractalops.ifs import IFS, Parametrization, Probabilities, Sampling
from fractalops.ops.svd_matrix import SingularValues
from fractalops.rendering import DEFAULT_BANDWIDTH, DEFAULT_CUTOFF, DEFAULT_VIEWPORT, Viewport

LEARNING_VIEWPORT = (-2.5, -2.5, 2.5, 2.5)  # better to learn in than the published one

Objective = Literal["expectation", "fixed"]
OptimizerName = Literal["adam", "sgd"]
Initialization = Literal["intensity", "random"]
Schedule = Literal["cosine", "halving"]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


@dataclass(frozen=True)
class FitConfig:
    """The settings of `fit`. The defaults learn better than the published ones, which `paper` has, with less work: see
    docs/recipe.md for the study that they come from.

    Raises `ValueError` or `TypeError` for a setting out of its range, named in the message.
    """

    maps: Count = 10
    """Affine maps of a system (N)."""
    points: Count = 300
    """Points of a sequence (T)."""
    sequences: Count = 5
    """Sequences of a system that a step draws (the paper's batch size)."""
    steps: Natural = 2000
    """Optimization steps."""
    bandwidth: Annotated[float, Bounds(above=0)] = DEFAULT_BANDWIDTH
    """Of the Gaussian bumps, in square pixels (tau)."""
    cutoff: Annotated[float, Bounds(above=0, below=1)] | None = DEFAULT_CUTOFF
    """A point is left out of the pixels to which it adds less; None leaves out none."""
    clamp: bool = True
    """Whether the image is limited to [0, 1] while learning (paper section 4.3); it always is in the evaluation."""
    viewport: Viewport = LEARNING_VIEWPORT
    """What the image shows of the plane: (x_min, y_min, x_max, y_max), "stretch" or "fit", see `render`."""
    objective: Objective = "expectation"
    """"expectation": new sequences at every step; "fixed": those of the first parameters throughout (paper, equation
    9).
    """
    optimizer: OptimizerName = "adam"
    """"adam" or "sgd"."""
    learning_rate: Annotated[float, Bounds(above=0)] = 0.1
    """Of the first step; `schedule` lowers it."""
    schedule: Schedule = "cosine"
    """How the learning rate falls: "cosine", half a period down to 0, or "halving" every quarter of the steps (the
    published code)."""
    momentum: Annotated[float, Bounds(least=0, most=1)] = 0.9
    """Of "sgd"."""
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
    """How singular values are kept in (0, 1): "sigmoid" (the published code) or "clamp" (the paper's text)."""
    initialization: Initialization = "intensity"
    """"intensity": small maps, spread over the target's intensity, see `intensity_start`; "random": random systems,
    whatever the target is (the published code)."""
    probabilities: Probabilities | None = None
    """"learned", from equal ones on, see `IFS`; "determinant": proportional to `|det A|` (paper section 3). None is
    "learned" for the objective "expectation" and "determinant" for "fixed", whose sequences are drawn once and have
    nothing to learn them from."""
    sampling: Sampling = "balanced"
    """How sequences are drawn, in learning and in the evaluation: "balanced", with fewer holes, or "independent" (paper
    section 3); see `IFS`."""
    evaluation_sequences: Count = 100
    """Fresh sequences over which the learned system's minimum and mean MSE are taken."""
    color: bool = False
    """Whether the targets have three channels and every map learns a color, from the target's mean color on."""
    snapshots: Natural = 0
    """How many times the parameters are kept along the way, evenly spread, the first and the last step included."""
    batch_size: Count = 16
    """Images that are learned in one call of the ops: it bounds the memory. Native steps give the same bits for any
    number; tensor operations sum gradients in another order, which can show in their last bits."""
    seed: Natural = 0
    """Image number s of a call draws with a generator of its own, seeded with seed + s."""

    def __post_init__(self) -> None:
        if self.probabilities is None:
            object.__setattr__(self, "probabilities", "determinant" if self.objective == "fixed" else "learned")
        check_fields(self)
        check_viewport("FitConfig", self.viewport)
        if self.objective == "fixed" and self.probabilities == "learned":
            raise ValueError("FitConfig: probabilities must be determinant for the objective fixed, got 'learned'")

    @classmethod
    def paper(cls, **changes: Any) -> FitConfig:
        """The settings of the published code; `changes` override some."""
        published: dict[str, Any] = {
            "sequences": 50,
            "steps": 1000,
            "viewport": DEFAULT_VIEWPORT,
            "learning_rate": 0.05,
            "schedule": "halving",
            "noise": 0.1,
            "initialization": "random",
            "probabilities": "determinant",
            "sampling": "independent",
        }
        return cls(**(published | changes))

    @property
    def channels(self) -> int | None:
        """Of a target and a map: 3 (red, green, blue) in color; None in gray."""
        return 3 if self.color else None

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of `step`, by the schedule."""
        schedule = cosine_schedule if self.schedule == "cosine" else halving_schedule
        return schedule(self.learning_rate, step, self.steps)

    def adds_noise_at(self, step: int) -> bool:
        """Whether noise is added after `step`."""
        return self.noise > 0 and step % self.noise_every == 0 and step < self.noise_until * self.steps

    def snapshot_steps(self) -> list[int]:
        """The numbers of steps after which the parameters are kept, ascending."""
        count = min(self.snapshots, self.steps + 1)
        if count < 2:
            return [self.steps] * count
        return [round(self.steps * i / (count - 1)) for i in range(count)]


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

    `maps` and `parametrization` are those of `config` unless told otherwise. Without generators, one a system, the
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
        generator=generator,
        device="meta" if generator is None else None,
    )
