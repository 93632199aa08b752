"""The result of `fit`, and its file format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fractalops._checks import check_integer, check_item, check_size
from fractalops.backends import installed_version
from fractalops.drawing.canvas import check_zoom
from fractalops.drawing.high_resolution import draw_high_resolution, proportional_size
from fractalops.drawing.page import write_page
from fractalops.fitting.config import FitConfig, complete, make_system
from fractalops.ifs import IFS
from fractalops.io.files import parsing
from fractalops.io.systems.tensors import systems_of_form
from fractalops.io.tensor_files import read_tensors, write_tensors
from fractalops.systems import System

FORM = "fractalops.fit.1"
_MEASURES = ("losses", "minimum_mse", "mean_mse", "best_image")


@dataclass(repr=False)
class FitResult:
    """Systems that `fit` has learned, with their losses and errors.

    S is the number of images, `len(result)`. `result[i]` is the result of image i, see `select`. All tensors are
    float32. They are on the device of the targets or, after `load`, on the CPU.

    Attributes:
        system (IFS): The S learned systems.
        config (FitConfig): The resolved settings.
        size (tuple): (height, width) of the targets, in pixels.
        steps (list of int): Number of steps for each image: `config.steps`, or fewer after an interruption.
        losses (Tensor): Loss of each image at each step, before the update; shape (steps, S). It is NaN for steps that
            an image did not reach because of an interruption.
        minimum_mse (Tensor): Smallest mean squared error over `config.evaluation_sequences` new sequences (paper
            section 5.2); shape (S,).
        mean_mse (Tensor): Average of the mean squared error over the same sequences; shape (S,).
        best_image (Tensor): Image of the sequence with the smallest error, with values in [0, 1]; shape (S, H, W), or
            (S, 3, H, W) in color.
        seconds (float): Duration of the learning. NaN in results of `fit_dataset`, which stores durations separately.
        snapshot_steps (list of int): Numbers of the steps after which the snapshots were taken; 0 is the start.
        snapshots (list of dict): Copies of the parameters during the learning, for `system.load_state_dict`. They are
            NaN for images that did not reach the step because of an interruption.
        interrupted (bool): Whether Ctrl-C ended the learning early.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> result = fractalops.fit(torch.rand(2, 16, 16), fractalops.FitConfig(steps=50))
        >>> len(result), result.losses.shape
        (2, torch.Size([50, 2]))
        >>> result[1].save("second.safetensors")
        >>> fractalops.FitResult.load("second.safetensors").draw(256).shape
        torch.Size([1, 256, 256])
    """

    system: IFS
    config: FitConfig
    size: tuple[int, int]
    steps: list[int]
    losses: Tensor  # (steps, S)
    minimum_mse: Tensor  # (S,)
    mean_mse: Tensor  # (S,)
    best_image: Tensor  # (S, H, W), or (S, 3, H, W) in color
    seconds: float
    snapshot_steps: list[int] = field(default_factory=list)
    snapshots: list[dict[str, Tensor]] = field(default_factory=list)
    interrupted: bool = False

    def __len__(self) -> int:
        return self.system.systems

    def __getitem__(self, index: int) -> FitResult:
        return self.select(index)

    def __repr__(self) -> str:
        height, width = self.size
        images = f"{len(self)} image{'s' if len(self) > 1 else ''} of {height} x {width}"
        error = f"minimum MSE {float(self.minimum_mse.mean()):.4f}"
        return f"FitResult({images}, {max(self.steps)} steps, {error}{', interrupted' if self.interrupted else ''})"

    @property
    def intensity(self) -> float:
        """Mean value of a pixel under the bumps of one sequence, divided by pi; see `draw_high_resolution`."""
        return self.config.points * self.config.bandwidth / (self.size[0] * self.size[1])

    def draw(
        self,
        size: int | tuple[int, int],
        *,
        points: int | None = None,
        seed: int | None = None,
        zoom: tuple[float, float, float] | None = None,
    ) -> Tensor:
        """Draw the systems at high resolution, in the viewport in which they were learned.

        Args:
            size: (height, width) in pixels, or the longer side of a picture with the aspect ratio of the targets.
            points: Number of points of each picture, at least 1. None (default) uses one for each pixel (four for the
                blend "mean"), and at least a million.
            seed: Seed of the points, at least 0. None (default) uses `config.seed`.
            zoom: (x, y, factor) shows the part around column x and row y, both in [0, 1], `factor` times larger, with
                `factor` in [1, 10^11]. With `config.blend="mean"`, gaps between the images of the maps are filled up to
                factor 4. At factors from 4 to 32 the filling fades, and from 32 on the gaps show the background. None
                (default) shows the whole picture.

        Returns:
            Images with values in [0, 1]; shape (S, H, W), or (S, 3, H, W) in color. See `draw_high_resolution`.

        Raises:
            ValueError: If an argument is out of its range.
            TypeError: If an argument has the wrong type.
            InputError: If a zoom shows no point, or if a map of a zoomed system does not contract.
        """
        height, width = check_size("FitResult.draw", size)
        if points is not None:
            points = check_integer("FitResult.draw", "points", points, 1)
        if zoom is not None:
            zoom = check_zoom("FitResult.draw", zoom)
        seed = check_integer("FitResult.draw", "seed", self.config.seed if seed is None else seed, 0)
        generator = torch.Generator(self.system.offset.device).manual_seed(seed % 2**63)
        images = draw_high_resolution(
            self.system,
            (height, width) if isinstance(size, (tuple, list)) else proportional_size(self.size, height),
            points=points,
            zoom=zoom,
            generator=generator,
            intensity=self.intensity,
            learned=self.size,
        )
        return images if self.config.color or images.dim() == 3 else images[:, 0]

    def save_page(self, path: str | Path) -> None:
        """Write an interactive HTML page that draws the system of one image; see `write_page`.

        Args:
            path: The file to write.

        Raises:
            ValueError: If the result has more than one image; use `result[i].save_page`.
            InputError: If a parameter is NaN or infinite.
            OSError: If the file can't be written.
        """
        if len(self) != 1:
            raise ValueError(f"FitResult.save_page: the result must have one image, got {len(self)}")
        write_page(self.system, path, size=self.size, intensity=self.intensity)

    def select(self, index: int) -> FitResult:
        """Return the result of one image, with the losses and snapshots of the steps that were run for it.

        Args:
            index: Index of the image. A negative index counts from the end.

        Returns:
            A `FitResult` of length 1, with copies of the tensors.

        Raises:
            IndexError: If there is no such image.
            TypeError: If the index is not an integer.
        """
        index = check_item("FitResult.select", index, len(self))
        pick = slice(index, index + 1)
        steps = self.steps[index]
        kept = sum(step <= steps for step in self.snapshot_steps)
        state = {name: tensor[pick].clone() for name, tensor in self.system.state_dict().items()}
        return dataclasses.replace(
            self,
            system=restore_system(state, self.config),
            steps=[steps],
            losses=self.losses[:steps, pick].clone(),
            minimum_mse=self.minimum_mse[pick].clone(),
            mean_mse=self.mean_mse[pick].clone(),
            best_image=self.best_image[pick].clone(),
            seconds=self.seconds / self.system.systems,
            snapshot_steps=self.snapshot_steps[:kept],
            snapshots=[
                {name: tensor[pick].clone() for name, tensor in snapshot.items()} for snapshot in self.snapshots[:kept]
            ],
            interrupted=self.interrupted and steps < self.config.steps,
        )

    def save(self, path: str | Path) -> None:
        """Write the result to a safetensors file, with the settings in its metadata.

        An interruption leaves no incomplete file.

        Args:
            path: The file to write.

        Raises:
            FileNotFoundError: If the folder of `path` does not exist.
            OSError: If the file can't be written.
        """
        write_tensors(path, self.tensors(), self.metadata())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the file, by name."""
        tensors = {name: getattr(self, name) for name in _MEASURES}
        return tensors | add_prefix("system.", self.system.state_dict()) | number_snapshots(self.snapshots)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the file, by name."""
        return {
            "format": FORM,
            "fractalops": installed_version(),
            "torch": str(torch.__version__),
            "config": json.dumps(dataclasses.asdict(self.config)),
            "size": json.dumps(self.size),
            "seconds": repr(self.seconds),
            "steps": json.dumps(self.steps),
            "snapshot_steps": json.dumps(self.snapshot_steps),
            "interrupted": json.dumps(self.interrupted),
        }

    @classmethod
    def load(cls, path: str | Path) -> FitResult:
        """Read a file that `save` has written. It executes no code from the file.

        Args:
            path: The file to read.

        Returns:
            The result, on the CPU.

        Raises:
            InputError: If the file is missing, damaged, or of another format.
        """
        return cls.from_file(path, *read_tensors(path, FORM))

    @classmethod
    def from_file(cls, path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> FitResult:
        """Return the result with the tensors and the metadata of a file.

        Args:
            path: The name of the file, for error messages.
            tensors: The tensors, see `tensors`.
            metadata: The metadata, see `metadata`.

        Raises:
            InputError: If the tensors do not match the metadata.
        """
        with parsing(path):
            return cls._parse(metadata, tensors)

    @classmethod
    def _parse(cls, metadata: dict[str, str], tensors: dict[str, Tensor]) -> FitResult:
        config = parse_config(json.loads(metadata["config"]))
        height, width = _whole_numbers(metadata, "size")
        if min(height, width) < 1:
            raise ValueError(f"size must be positive, got {[height, width]}")
        steps = _whole_numbers(metadata, "steps")
        snapshot_steps = _whole_numbers(metadata, "snapshot_steps")
        parameters = with_prefix(tensors, "system.")
        system = restore_system(parameters, config)
        expected = {name: (shape, torch.float32) for name, (shape, _) in _forms(system.state_dict()).items()}
        _check_forms(parameters, expected)
        interrupted = json.loads(metadata["interrupted"])
        if not isinstance(interrupted, bool):
            raise TypeError(f"interrupted must be true or false, got {interrupted!r}")
        images = system.systems
        if len(steps) != images:
            raise ValueError(f"steps must have one entry for each of {images} images, got {len(steps)}")
        measures = {name: tensors[name] for name in _MEASURES}
        shapes = {
            "losses": (max(steps), images),
            "minimum_mse": (images,),
            "mean_mse": (images,),
            "best_image": (images, *([3] if config.color else []), height, width),
        }
        _check_forms(measures, {name: (shape, torch.float32) for name, shape in shapes.items()})
        snapshots = [with_prefix(tensors, f"snapshot.{number}.") for number in range(len(snapshot_steps))]
        for snapshot in snapshots:
            _check_forms(snapshot, expected)
        if sum(map(len, snapshots)) != len(with_prefix(tensors, "snapshot.")):
            raise ValueError(f"snapshot_steps must have one entry for each snapshot, got {len(snapshot_steps)}")
        return cls(
            system=system,
            config=config,
            size=(height, width),
            steps=steps,
            seconds=float(metadata["seconds"]),
            snapshot_steps=snapshot_steps,
            snapshots=snapshots,
            interrupted=interrupted,
            **measures,
        )


@systems_of_form(FORM)
def _read_systems(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[System]:
    return FitResult.from_file(path, tensors, metadata).system.each_system()


def parse_config(settings: object) -> FitConfig:
    """Return the configuration from settings that `dataclasses.asdict` and JSON have encoded.

    Raises:
        TypeError, ValueError: If a setting is invalid, unknown or missing.
    """
    if not isinstance(settings, dict):
        raise TypeError(f"config must be a dict, got {type(settings).__name__}")
    if isinstance(settings.get("viewport"), list):
        settings["viewport"] = tuple(settings["viewport"])
    return complete(FitConfig, settings)


def restore_system(state: dict[str, Tensor], config: FitConfig) -> IFS:
    """Return an `IFS` with these tensors as its parameters."""
    systems, maps = state["offset"].shape[:2]
    system = make_system(config, systems, maps)
    system.load_state_dict(state, assign=True)
    return system


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without the prefix in their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def add_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix` added to their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def number_snapshots(snapshots: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all snapshots, with the numbers of the snapshots in their names."""
    return {f"snapshot.{i}.{name}": tensor for i, snapshot in enumerate(snapshots) for name, tensor in snapshot.items()}


def join(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the states of several modules as the state of one module with all their systems."""
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


def _whole_numbers(metadata: dict[str, str], name: str) -> list[int]:
    values = json.loads(metadata[name])
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise TypeError(f"{name} must be a list of non-negative integers, got {values!r}")
    return values


Forms = dict[str, tuple[tuple[int, ...], torch.dtype]]


def _forms(tensors: dict[str, Tensor]) -> Forms:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _check_forms(tensors: dict[str, Tensor], expected: Forms) -> None:
    if (actual := _forms(tensors)) != expected:
        raise ValueError(f"shapes and dtypes must be {expected}, got {actual}")
