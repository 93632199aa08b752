"""Pictures as means of free Gaussian bumps. Fractals are compared with them, with as many parameters."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fractalops.errors import InputError
from fractalops.fitting import FitConfig
from fractalops.fitting.initialization import first_parameters
from fractalops.fitting.learning import clip_gradients
from fractalops.fitting.optimizers import make_optimizer
from fractalops.fitting.result import restore_system
from fractalops.io.progress import progress_bar
from fractalops.io.run_folder import OTHER_FOLDER
from fractalops.io.tensor_files import checksum, read_tensors, write_tensors
from fractalops.placement import Viewport

_FORM = "fractalops.bumps.1"
_PAIRS = 2**20  # pairs of a pixel and a bump in a step; of a large picture, each step uses a random part of the pixels
_LEAST_VARIANCE = 1e-6  # added to the variance of a bump at the start, in units of the plane


@dataclass
class FreeBumps:
    """K bumps `exp(-|L (v - c)|^2)` with a position c, a shape L and a color, in the plane of `FitConfig.viewport`.

    Their picture is that of the blend "mean": the mean of the bumps' colors and the background. The weight of a color
    is its bump. The weight of the background is `background_weight` times the mean density of all bumps.
    """

    center: Tensor  # (1, K, 2)
    shape: Tensor  # (1, K, 3): p, q, t, with L = ((e^p, 0), (e^q t, e^q))
    color: Tensor  # (1, K, C): logits
    config: FitConfig
    seconds: float = math.nan
    """The CPU time of learning, in seconds."""

    @property
    def parameters(self) -> list[Tensor]:
        """The tensors to learn."""
        return [self.center, self.shape, self.color]

    @property
    def count(self) -> int:
        """The number of parameters of the bumps."""
        return sum(parameter.numel() for parameter in self.parameters)

    def colors_at(self, places: Tensor) -> Tensor:
        """Return the picture's colors (P, C) at the positions (P, 2) in the plane."""
        (x, y), (p, q, t) = self.center[0].unbind(-1), self.shape[0].unbind(-1)  # (K,) each
        # |L d|^2 is a polynomial of the position, so one matrix product computes it for all positions and bumps.
        square = (2 * p).exp(), (2 * q).exp()  # (K,), (K,)
        along = y + t * x  # (K,)
        terms = torch.stack(
            (
                square[0] + square[1] * t**2,
                2 * square[1] * t,
                square[1],
                -2 * (square[0] * x + square[1] * t * along),
                -2 * square[1] * along,
                square[0] * x**2 + square[1] * along**2,
            )
        )  # (6, K)
        u, v = places.unbind(-1)  # (P,) each
        powers = torch.stack((u * u, u * v, v * v, u, v, torch.ones_like(u)), -1)  # (P, 6)
        bumps = (-(powers @ terms).clamp(min=0)).exp()  # (P, K)
        colors = torch.cat((self.color[0].sigmoid(), torch.ones_like(self.color[0, :, :1])), -1)  # (K, C + 1)
        sums = bumps @ colors  # (P, C + 1)
        x_min, y_min, x_max, y_max = _corners(self.config.viewport)
        # A bump has the area pi / det L.
        density = math.pi * (-p - q).exp().sum() / ((x_max - x_min) * (y_max - y_min))  # ()
        weight = self.config.background_weight * density
        image: Tensor = (sums[:, :-1] + weight * self.config.background) / (sums[:, -1:] + weight)
        return image

    @torch.no_grad()
    def draw(self, size: tuple[int, int]) -> Tensor:
        """Draw the picture: (C, H, W)."""
        parts = pixel_places(size, self.config.viewport).split(max(1, _PAIRS // self.center.shape[1]))
        image: Tensor = torch.cat([self.colors_at(part) for part in parts]).mT.reshape(-1, *size)
        return image


def bumps_for(maps: int, channels: int) -> int:
    """Return the number of bumps with as many degrees of freedom as the maps.

    A map has a matrix, an offset, a probability and a color, 7 + C numbers; a bump has 5 + C.
    """
    return round(maps * (7 + channels) / (5 + channels))


def learn_bumps(target: Tensor, config: FitConfig, path: Path, *, progress: bool = False) -> FreeBumps:
    """Learn bumps for a target, or read them from the file `path` if it exists.

    The bumps start as the tiles from which a fractal starts. They are learned with the same optimizer, learning rates
    and schedule.

    Args:
        target: (H, W) or (3, H, W), values in [0, 1].
        config: the settings, resolved for the target's size; `maps` is the number of bumps.
        path: the file of the bumps.
        progress: show a progress bar with the loss.

    Raises:
        InputError: if the file is of another target or configuration.
    """
    key = f"{checksum({'target': target})} {config!r}"
    if path.exists():
        tensors, metadata = read_tensors(path, _FORM)
        if metadata.get("learned_from") != key:
            raise InputError(f"cannot resume: {path} is of another target or other settings; {OTHER_FOLDER}")
        return FreeBumps(tensors["center"], tensors["shape"], tensors["color"], config, float(metadata["seconds"]))
    began = time.process_time()
    generator = torch.Generator().manual_seed(config.seed)
    bumps = _first_bumps(target, config, generator)
    size = (target.shape[-2], target.shape[-1])
    places = pixel_places(size, config.viewport)  # (P, 2)
    colors = target.reshape(-1, len(places)).mT  # (P, C)
    optimizer = make_optimizer(bumps.parameters, config, [config.offset_rate, 1.0, 1.0])
    most = max(1, _PAIRS // config.maps)  # pixels in a step
    with torch.enable_grad(), progress_bar(config.steps, "step", f"learn {config.maps} bumps", shown=progress) as bar:
        for step in range(config.steps):
            own = slice(None) if most >= len(places) else torch.randint(len(places), (most,), generator=generator)
            loss = (bumps.colors_at(places[own]) - colors[own]).square().mean()
            for parameter in bumps.parameters:
                parameter.grad = None
            loss.backward()
            if config.gradient_clip is not None:
                clip_gradients(
                    [each for each in bumps.parameters if isinstance(each, nn.Parameter)], config.gradient_clip
                )
            optimizer(config.learning_rate_at(step))
            bar.update()
    tensors = {name: getattr(bumps, name).detach() for name in ("center", "shape", "color")}
    seconds = time.process_time() - began
    write_tensors(path, tensors, {"format": _FORM, "learned_from": key, "seconds": repr(seconds)})
    return FreeBumps(tensors["center"], tensors["shape"], tensors["color"], config, seconds)


@torch.no_grad()
def _first_bumps(target: Tensor, config: FitConfig, generator: torch.Generator) -> FreeBumps:
    """Return bumps with the means, covariances and colors of the tiles from which a fractal starts."""
    system = restore_system(first_parameters(target[None], config, [generator]), config)
    points = system.points(system.sample(1, config.points, generator=[generator])).reshape(-1, 2)  # (T, 2)
    matrix, offset = (tensor[0] for tensor in system.maps())  # (K, 2, 2), (K, 2)
    center = (matrix @ points.mean(0)) + offset  # (K, 2)
    spread = matrix @ points.mT.cov() @ matrix.mT + _LEAST_VARIANCE * torch.eye(2)  # (K, 2, 2)
    precision = torch.linalg.inv(spread) / 2  # (K, 2, 2), L^T L
    t = precision[:, 0, 1] / precision[:, 1, 1]  # (K,)
    p = (precision[:, 0, 0] - precision[:, 1, 1] * t**2).clamp(min=1e-6).log() / 2  # (K,)
    shape = torch.stack((p, precision[:, 1, 1].log() / 2, t), -1)  # (K, 3)
    assert system.color is not None
    return FreeBumps(nn.Parameter(center[None]), nn.Parameter(shape[None]), nn.Parameter(system.color.detach()), config)


def pixel_places(size: tuple[int, int], viewport: Viewport) -> Tensor:
    """Return the positions of the pixel centers of a picture in the plane, row by row: (H * W, 2)."""
    x_min, y_min, x_max, y_max = _corners(viewport)
    return torch.cartesian_prod(torch.linspace(x_min, x_max, size[0]), torch.linspace(y_min, y_max, size[1]))


def _corners(viewport: Viewport) -> tuple[float, float, float, float]:
    if isinstance(viewport, str):
        raise ValueError(f"FreeBumps: viewport must be a rectangle, got {viewport!r}")
    return viewport
