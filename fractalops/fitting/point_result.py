"""The settings and the result of `fit_points`, and its file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from fractalops._checks import Bounds, Count, Natural, check_fields, check_generator, check_integer, check_item
from fractalops.backends import installed_version
from fractalops.fitting.config import complete
from fractalops.fitting.schedules import cosine_schedule
from fractalops.io.files import parsing
from fractalops.io.systems.tensors import systems_of_form
from fractalops.io.tensor_files import read_tensors, write_tensors
from fractalops.systems import System

PointLoss = Literal["kernel", "chamfer"]

_FORMAT = "fractalops.points.1"
BURN_IN = 100  # steps after which a sequence has forgotten where it began, as far as it can be seen


@dataclass(frozen=True)
class PointConfig:
    """The settings of `fit_points`.

    Raises `ValueError` or `TypeError` for a setting out of its range, named in the message.
    """

    maps: Count = 32
    """Affine maps (N)."""
    steps: Natural = 600
    """Optimization steps."""
    points: Count = 1024
    """Points that a step draws; of the target it takes as many."""
    length: Count = 16
    """Steps of a chain, which starts at a point of the target (T). In short chains maps near the identity pass for good
    ones.
    """
    loss: PointLoss = "chamfer"
    """"chamfer" (the distances of nearest neighbors) or "kernel" (the maximum mean discrepancy), see
    `fractalops.fitting.distances`. The first learns finer detail; the second also how dense the points lie."""
    learning_rate: Annotated[float, Bounds(above=0)] = 0.02
    """The learning rate of Adam at the first step; it falls to zero as a cosine."""
    evaluation_points: Count = 5000
    """Fresh points, at most, of the learned system and of the target, between which the distances are measured."""
    seed: Natural = 0
    """The seed of all random numbers."""

    def __post_init__(self) -> None:
        check_fields(self)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of `step`: half a cosine wave, from `learning_rate` towards 0."""
        return cosine_schedule(self.learning_rate, step, self.steps)


@dataclass(repr=False)
class PointFitResult:
    """A learned system, how it was learned and how near its points come to the target's.

    As a `FitResult` of one image, it has the length 1 and is its own first item.
    """

    matrix: Tensor  # (N, D, D)
    """The maps' linear parts, their largest singular values below 1; float64 for a target of float64, else float32."""
    offset: Tensor  # (N, D)
    """Their translations, in the target's units and of the dtype of `matrix`. In float64 they, and the points of
    `sample`, have the digits of projected coordinates (eastings, northings).
    """
    probabilities: Tensor  # (N,)
    """The probability of each map."""
    config: PointConfig
    losses: Tensor  # (steps,)
    """The loss of each step, before it; lengths are in units of the target's root mean square radius."""
    chamfer: float
    """The Chamfer distance of fresh points of the system to half of the target's, in units of the diameter."""
    start_chamfer: float
    """The same before the first step."""
    halves_chamfer: float
    """The same of the other half of the target, of as many points: about the best that a system can reach."""
    diameter: float
    """The diagonal of the target's bounding box."""
    seconds: float
    """The duration of learning in seconds."""
    interrupted: bool = False
    """Whether Ctrl-C ended the learning before it was done."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> PointFitResult:
        check_item("PointFitResult", index, 1)
        return self

    def __repr__(self) -> str:
        maps, dimensions = self.offset.shape
        learned = f"{maps} maps in {dimensions} dimensions, {len(self.losses)} steps"
        ending = ", interrupted" if self.interrupted else ""
        return f"PointFitResult({learned}, Chamfer distance {self.chamfer:.4f}{ending})"

    def sample(self, points: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `points` points (points, D) of the attractor. Raises `ValueError` for less than 1."""
        points = check_integer("PointFitResult.sample", "points", points, 1)
        check_generator("PointFitResult.sample", generator, self.offset.device)
        return self._system().points(points, burn_in=BURN_IN, generator=generator)

    def _system(self) -> System:
        """Return the learned system as plain tensors, which are shared."""
        return System(self.matrix, self.offset, self.probabilities)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, the configuration in its metadata; an interruption leaves no broken file.

        Raises `FileNotFoundError` when the folder of `path` does not exist, `OSError` when the file can't be written.
        """
        metadata = {
            "format": _FORMAT,
            "fractalops": installed_version(),
            "torch": str(torch.__version__),
            "config": json.dumps(dataclasses.asdict(self.config)),
            "measures": json.dumps({name: getattr(self, name) for name in _MEASURES}),
            "interrupted": json.dumps(self.interrupted),
        }
        write_tensors(path, {name: getattr(self, name) for name in _TENSORS}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> PointFitResult:
        """Read what `save` wrote; no code is executed. Raises `InputError` for a missing, foreign or broken file."""
        return cls.from_file(path, *read_tensors(path, _FORMAT))

    @classmethod
    def from_file(cls, path: str | Path, content: dict[str, Tensor], metadata: dict[str, str]) -> PointFitResult:
        """Return the result that a file holds, `path` by name. Raises `InputError` where they don't fit together."""
        tensors: dict[str, Any] = dict(content)
        with parsing(path):
            config = complete(PointConfig, json.loads(metadata["config"]))
            interrupted = bool(json.loads(metadata["interrupted"]))
            measures: dict[str, Any] = {name: float(json.loads(metadata["measures"])[name]) for name in _MEASURES}
            maps, dimensions = tensors["offset"].shape
            expected = {
                "matrix": (maps, dimensions, dimensions),
                "offset": (maps, dimensions),
                "probabilities": (maps,),
                "losses": (len(tensors["losses"]),),
            }
            actual = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            kinds = {name: tensor.dtype for name, tensor in tensors.items()}
            exact = dict.fromkeys(("matrix", "offset"), torch.float64)
            if actual != expected or kinds not in (single := dict.fromkeys(kinds, torch.float32), single | exact):
                raise ValueError(f"shapes are {actual}, not {expected} in float32, or float64 for the maps")
        return cls(config=config, interrupted=interrupted, **tensors, **measures)


@systems_of_form(_FORMAT)
def _read_systems(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[System]:
    return [PointFitResult.from_file(path, tensors, metadata)._system()]


_TENSORS = ("matrix", "offset", "probabilities", "losses")
_MEASURES = ("chamfer", "start_chamfer", "halves_chamfer", "diameter", "seconds")
