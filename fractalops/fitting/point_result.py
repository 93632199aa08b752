"""The settings and the result of `fit_points`, and the file format of the result."""

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
BURN_IN = 100  # points to drop at the start of a sequence; after them its start has no visible effect


@dataclass(frozen=True)
class PointConfig:
    """Settings of `fit_points`.

    Args:
        maps (int): Number of affine maps, N. Default: 32.
        steps (int): Number of optimization steps, at least 0. Default: 600.
        points (int): Number of points that each step draws from the system, and from the target. Default: 1024.
        length (int): Number of steps of a chain, T. A chain starts at a point of the target. If chains are short, maps
            near the identity get a small loss. Default: 16.
        loss (str): "chamfer", the distances of nearest neighbors, or "kernel", the maximum mean discrepancy; see
            `fractalops.fitting.distances`. "chamfer" learns finer details; "kernel" also learns the density of the
            points. Default: "chamfer".
        learning_rate (float): Learning rate of Adam at the first step, above 0. It decreases to 0 along half a period
            of a cosine. Default: 0.02.
        evaluation_points (int): Largest number of points of the learned system, and of the target, from which the
            errors are computed. Default: 5000.
        seed (int): Seed of all random numbers, at least 0. Default: 0.

    Raises:
        ValueError: If a setting is out of its range.
        TypeError: If a setting has the wrong type.

    Examples:
        >>> import fractalops
        >>> config = fractalops.PointConfig(maps=16, steps=200)
    """

    maps: Count = 32
    steps: Natural = 600
    points: Count = 1024
    length: Count = 16
    loss: PointLoss = "chamfer"
    learning_rate: Annotated[float, Bounds(above=0)] = 0.02
    evaluation_points: Count = 5000
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return cosine_schedule(self.learning_rate, step, self.steps)


@dataclass(repr=False)
class PointFitResult:
    """A system that `fit_points` has learned, with its losses and errors.

    Like a `FitResult` of one image, it has the length 1, and `result[0]` is the result itself. N is the number of maps,
    and D the number of dimensions, 2 or 3.

    Attributes:
        matrix (Tensor): Linear parts of the maps, with singular values below 1; shape (N, D, D), dtype float64 if the
            target is float64, else float32.
        offset (Tensor): Translations of the maps, in the units of the target; shape (N, D), dtype of `matrix`. In
            float64, they and the points of `sample` are precise enough for projected coordinates (eastings and
            northings).
        probabilities (Tensor): Probabilities of the maps; shape (N,), dtype float32.
        config (PointConfig): The settings.
        losses (Tensor): Loss at each step, before the update; shape (steps,), dtype float32. The unit of length is the
            root mean square radius of the target.
        chamfer (float): Chamfer distance between new points of the system and equally many points of the target
            (at most half of them), as a fraction of `diameter`.
        start_chamfer (float): The same distance before the first step.
        halves_chamfer (float): The same distance between these points and equally many other points of the target. It
            is about the smallest distance that a system can reach.
        diameter (float): Diagonal of the target's bounding box, in the units of the target.
        seconds (float): Duration of the learning.
        interrupted (bool): Whether Ctrl-C ended the learning early.
    """

    matrix: Tensor  # (N, D, D)
    offset: Tensor  # (N, D)
    probabilities: Tensor  # (N,)
    config: PointConfig
    losses: Tensor  # (steps,)
    chamfer: float
    start_chamfer: float
    halves_chamfer: float
    diameter: float
    seconds: float
    interrupted: bool = False

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
        """Draw points of the attractor.

        Args:
            points: Number of points P, at least 1.
            generator: Random number generator. None (default) uses torch's global generator.

        Returns:
            Points of shape (P, D), dtype of `matrix`.

        Raises:
            ValueError: If `points` is below 1, or the generator is on another device.
            TypeError: If an argument has the wrong type.
        """
        points = check_integer("PointFitResult.sample", "points", points, 1)
        check_generator("PointFitResult.sample", generator, self.offset.device)
        return self._system().points(points, burn_in=BURN_IN, generator=generator)

    def _system(self) -> System:
        """Return the learned system as plain tensors, without copying them."""
        return System(self.matrix, self.offset, self.probabilities)

    def save(self, path: str | Path) -> None:
        """Write the result to a safetensors file, with the settings in its metadata.

        An interruption leaves no incomplete file.

        Args:
            path: The file to write.

        Raises:
            FileNotFoundError: If the folder of `path` does not exist.
            OSError: If the file can't be written.
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
        """Read a file that `save` has written. It executes no code from the file.

        Args:
            path: The file to read.

        Returns:
            The result, on the CPU.

        Raises:
            InputError: If the file is missing, damaged, or of another format.
        """
        return cls.from_file(path, *read_tensors(path, _FORMAT))

    @classmethod
    def from_file(cls, path: str | Path, content: dict[str, Tensor], metadata: dict[str, str]) -> PointFitResult:
        """Return the result with the tensors and the metadata of a file.

        Args:
            path: The name of the file, for error messages.
            content: The tensors.
            metadata: The metadata.

        Raises:
            InputError: If the tensors do not match the metadata.
        """
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
                raise ValueError(f"shapes must be {expected}, in float32 or for the maps in float64, got {actual}")
        return cls(config=config, interrupted=interrupted, **tensors, **measures)


@systems_of_form(_FORMAT)
def _read_systems(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[System]:
    return [PointFitResult.from_file(path, tensors, metadata)._system()]


_TENSORS = ("matrix", "offset", "probabilities", "losses")
_MEASURES = ("chamfer", "start_chamfer", "halves_chamfer", "diameter", "seconds")
