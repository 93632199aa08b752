"""What `fit` gives back, and its file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fractalops.dispatch import installed_version
from fractalops.errors import InputError
from fractalops.files import atomic_path
from fractalops.ifs import IFS
from fractalops.inversion.config import FitConfig

_FORMAT = "fractalops.fit.1"
_MEASURES = ("losses", "minimum_mse", "mean_mse", "best_image")


@dataclass
class FitResult:
    """Learned systems, how they were learned and how good they are. S is the number of images."""

    system: IFS
    """The S learned systems."""
    config: FitConfig
    size: tuple[int, int]
    """(height, width) of the targets, in pixels."""
    losses: Tensor  # (steps, S)
    """The loss of each image at each step, before the step."""
    minimum_mse: Tensor  # (S,)
    """The least mean squared error over `config.evaluation_sequences` fresh sequences (paper section 5.2)."""
    mean_mse: Tensor  # (S,)
    """The mean over the same sequences."""
    best_image: Tensor  # (S, H, W)
    """The image of the sequence with the least error."""
    seconds: float
    """How long learning took, in all."""
    snapshot_steps: list[int] = field(default_factory=list)
    """The steps after which `snapshots` were taken."""
    snapshots: list[dict[str, Tensor]] = field(default_factory=list)
    """The systems' parameters along the way: what `system.load_state_dict` takes."""

    def select(self, image: int) -> FitResult:
        """The result of one image alone, as if it had been learned by itself. Raises `IndexError`."""
        if not 0 <= image < self.system.systems:
            raise IndexError(f"FitResult.select: image must lie in [0, {self.system.systems}), got {image}")
        pick = slice(image, image + 1)
        state = {name: tensor[pick].clone() for name, tensor in self.system.state_dict().items()}
        return FitResult(
            system=restore_system(state, self.config),
            config=self.config,
            size=self.size,
            losses=self.losses[:, pick].clone(),
            minimum_mse=self.minimum_mse[pick].clone(),
            mean_mse=self.mean_mse[pick].clone(),
            best_image=self.best_image[pick].clone(),
            seconds=self.seconds / self.system.systems,
            snapshot_steps=list(self.snapshot_steps),
            snapshots=[
                {name: tensor[pick].clone() for name, tensor in snapshot.items()} for snapshot in self.snapshots
            ],
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, the configuration in its metadata; an interruption leaves no broken file.

        Raises `FileNotFoundError` when the folder of `path` does not exist.
        """
        from safetensors.torch import save_file

        tensors = {f"system.{name}": tensor for name, tensor in self.system.state_dict().items()}
        tensors |= {name: getattr(self, name) for name in _MEASURES}
        for number, snapshot in enumerate(self.snapshots):
            tensors |= {f"snapshot.{number}.{name}": tensor for name, tensor in snapshot.items()}
        metadata = {
            "format": _FORMAT,
            "fractalops": installed_version(),
            "torch": str(torch.__version__),
            "config": json.dumps(dataclasses.asdict(self.config)),
            "size": json.dumps(self.size),
            "seconds": repr(self.seconds),
            "snapshot_steps": json.dumps(self.snapshot_steps),
        }
        with atomic_path(path) as temporary:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)

    @classmethod
    def load(cls, path: str | Path) -> FitResult:
        """Read what `save` wrote; no code is executed. Raises `InputError` for a missing, foreign or broken file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        if metadata.get("format") != _FORMAT:
            found = metadata.get("format", "a safetensors file without one")
            raise InputError(f"cannot read {path}: its format must be {_FORMAT}, got {found}")
        try:
            return cls._from_file(metadata, tensors)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())  # torch writes several lines
            raise InputError(f"cannot read {path}: it is damaged ({type(error).__name__}: {reason})") from error

    @classmethod
    def _from_file(cls, metadata: dict[str, str], tensors: dict[str, Tensor]) -> FitResult:
        settings = json.loads(metadata["config"])
        if not isinstance(settings, dict):
            raise TypeError(f"config is a {type(settings).__name__}")
        if isinstance(settings.get("viewport"), list):
            settings["viewport"] = tuple(settings["viewport"])
        config = FitConfig(**settings)
        height, width = json.loads(metadata["size"])
        steps = json.loads(metadata["snapshot_steps"])
        system = restore_system(_with_prefix(tensors, "system."), config)
        measures = {name: tensors[name] for name in _MEASURES}
        images = system.systems
        shapes = {
            "losses": (len(measures["losses"]), images),
            "minimum_mse": (images,),
            "mean_mse": (images,),
            "best_image": (images, height, width),
        }
        _check_shapes(measures, shapes)
        snapshots = [_with_prefix(tensors, f"snapshot.{number}.") for number in range(len(steps))]
        for snapshot in snapshots:
            _check_shapes(snapshot, {name: tuple(tensor.shape) for name, tensor in system.state_dict().items()})
        if sum(map(len, snapshots)) != len(_with_prefix(tensors, "snapshot.")):
            raise ValueError(f"snapshot_steps names {len(steps)} of more snapshots")
        return cls(
            system=system,
            config=config,
            size=(height, width),
            seconds=float(metadata["seconds"]),
            snapshot_steps=steps,
            snapshots=snapshots,
            **measures,
        )


def restore_system(state: dict[str, Tensor], config: FitConfig) -> IFS:
    """The module with these parameters; every number of systems and maps is read off them."""
    systems, maps = state["offset"].shape[:2]
    system = IFS(
        systems,
        maps,
        parametrization=config.parametrization,
        singular_values=config.singular_values,
        generator=torch.Generator(),  # its draws are overwritten; the global generator stays as it is
    ).to(state["offset"].device)
    system.load_state_dict(state)
    return system


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_shapes(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        raise ValueError(f"shapes are {found}, not {shapes}")
