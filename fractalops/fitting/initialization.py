"""What learning starts from: random systems, or small maps that are spread over the target's own intensity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fractalops.fitting.config import LEARNING_VIEWPORT, FitConfig, make_system
from fractalops.fitting.result import join
from fractalops.ifs import IFS, Parametrization

# First colors are brought into [margin, 1 - margin] before the inverse sigmoid, whose gradient dies towards 0 and 1.
_COLOR_MARGIN = 0.02

# Ten maps that tile a picture have singular values of 0.3; the logits are spread, so that no two maps learn alike.
_SINGULAR_LOGIT = -0.85
_SINGULAR_SPREAD = 0.5

_SAMPLES = 2048  # of the intensity
_ROUNDS = 10  # of k-means
_MOST_CLUSTERS = 256  # from there on the samples themselves are spread evenly enough


def first_parameters(targets: Tensor, config: FitConfig, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """The state of the `IFS` that learning starts from, of targets (S, ...) with a generator for each."""
    starts = []
    for target, generator in zip(targets, generators, strict=True):
        by_intensity = config.initialization == "intensity"
        # A start from the intensity is made of factors; the matrices are taken from them.
        kind: Parametrization = "svd" if by_intensity else config.parametrization
        system = make_system(config, 1, parametrization=kind, generator=generator)
        if by_intensity:
            intensity_start(system, target, config, generator)
        state = system.state_dict()
        if by_intensity and config.parametrization == "matrix":
            state["matrix"] = system.maps()[0].detach()
            del state["svd"]
        starts.append(state)
    joined = join(starts)
    if config.color:
        joined["color"] = _first_colors(targets, config.maps)
    return joined


def start_parameters(start: IFS, targets: Tensor, config: FitConfig) -> dict[str, Tensor]:
    """The state of a system that learning is to start from, for targets (S, ...): copies where those lie.

    Raises `TypeError` for anything but an `IFS`, `ValueError` for other parameters than the configuration learns.
    """
    if not isinstance(start, IFS):
        raise TypeError(f"fit: start must be an IFS, got {type(start).__name__}")
    expected = make_system(config, len(targets))
    shapes = [{name: tuple(t.shape) for name, t in system.state_dict().items()} for system in (expected, start)]
    if shapes[0] != shapes[1] or expected.singular_values != start.singular_values:
        kinds = [", ".join(f"{name} {shape}" for name, shape in each.items()) for each in shapes]
        raise ValueError(
            f"fit: start must have the parameters that config learns for these targets, {kinds[0]} with singular "
            f"values by {expected.singular_values}, got {kinds[1]} by {start.singular_values}"
        )
    return {
        name: tensor.detach().to(targets.device, torch.float32, copy=True)
        for name, tensor in start.state_dict().items()
    }


@torch.no_grad()
def intensity_start(system: IFS, target: Tensor, config: FitConfig, generator: torch.Generator) -> None:
    """Spread the maps of a random `system` over the intensity of its target (H, W), or (C, H, W).

    Every map shrinks the picture to about 0.3, keeping its random rotation and reflection, and puts it on one of N
    centers of the intensity, by k-means (Lloyd 1982): the collage that a solution of the inverse problem is (Barnsley
    1988), with equal tiles. With small maps no gradient explodes, and no map starts outside the viewport.
    """
    intensity = (target if target.dim() == 2 else target.amax(dim=0)).cpu()  # (H, W)
    places = _to_plane(_sample(intensity, generator), intensity.shape, config)  # (M, 2)
    # In any order: the first N samples are those with which k-means begins.
    order = torch.rand(len(places), generator=generator, device=generator.device).argsort().cpu()  # (M,)
    centers = _k_means(places[order], system.maps_per_system).to(system.offset)  # (N, 2)
    middle = places.mean(dim=0).to(system.offset)  # (2,)

    spread = torch.randn(
        system.svd[..., 2:4].shape, generator=generator, device=generator.device, dtype=system.svd.dtype
    )
    values = _SINGULAR_LOGIT + _SINGULAR_SPREAD * spread  # (1, N, 2)
    system.svd[..., 2:4] = values if system.singular_values == "sigmoid" else values.sigmoid()
    matrix, offset = system.maps()  # (1, N, 2, 2), (1, N, 2)
    offset.copy_(centers - (matrix * middle).sum(dim=-1))


def _sample(intensity: Tensor, generator: torch.Generator) -> Tensor:
    """Places (M, 2) in pixels, drawn evenly from the intensity (H, W) and within its pixels; anywhere if it is 0."""
    uniform = torch.rand(3, _SAMPLES, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    sums = (intensity if intensity.any() else torch.ones_like(intensity)).double().flatten().cumsum(0)  # (H W,)
    # Stratified, one sample in each of M equal parts of the intensity: fewer clusters by chance.
    expected = (torch.arange(_SAMPLES) + uniform[0]) / _SAMPLES * sums[-1]  # (M,)
    pixel = torch.searchsorted(sums, expected, right=True).clamp(max=len(sums) - 1)  # (M,)
    corner = torch.stack((pixel // intensity.shape[1], pixel % intensity.shape[1]), -1)  # (M, 2)
    return corner + uniform[1:].T - 0.5


def _to_plane(pixels: Tensor, size: Sequence[int], config: FitConfig) -> Tensor:
    """The places (M, 2) in the plane of those in pixels. A side of one pixel is where the viewport's middle is."""
    # A viewport that is fitted shows any part of the plane alike.
    x_min, y_min, x_max, y_max = LEARNING_VIEWPORT if isinstance(config.viewport, str) else config.viewport
    low, high = pixels.new_tensor([x_min, y_min]), pixels.new_tensor([x_max, y_max])
    last = pixels.new_tensor([side - 1 for side in size])  # (2,)
    fraction = torch.where(last > 0, pixels / last.clamp(min=1), 0.5)  # (M, 2)
    return low + fraction * (high - low)


def _k_means(places: Tensor, clusters: int) -> Tensor:
    """Centers (N, 2) of places (M, 2), which are in a random order."""
    centers = places[torch.arange(clusters) % len(places)].clone()  # (N, 2)
    if clusters > _MOST_CLUSTERS:
        return centers
    for _ in range(_ROUNDS):
        nearest = (places[:, None] - centers).square().sum(dim=-1).argmin(dim=1)  # (M,)
        count = torch.bincount(nearest, minlength=clusters)[:, None]  # (N, 1)
        sums = torch.zeros_like(centers).index_add_(0, nearest, places)  # (N, 2)
        centers = torch.where(count > 0, sums / count, centers)
    return centers


def _first_colors(targets: Tensor, maps: int) -> Tensor:
    """Logits (S, N, 3) of each target's mean color, in which a pixel counts by its largest channel, for all maps."""
    intensity = targets.amax(dim=1, keepdim=True)  # (S, 1, H, W)
    total = intensity.sum(dim=(2, 3)).clamp(min=torch.finfo(intensity.dtype).tiny)  # (S, 1)
    mean = (targets * intensity).sum(dim=(2, 3)) / total  # (S, 3)
    return mean.logit(eps=_COLOR_MARGIN)[:, None].repeat(1, maps, 1)
