"""What learning starts from: random systems, or small maps that are spread over the target's own intensity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fractalops.fitting.config import LEARNING_VIEWPORT, FitConfig, make_system
from fractalops.ifs import IFS, Parametrization
from fractalops.ops.k_means import k_means
from fractalops.sampling import draw_uniform

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
    by_intensity = config.initialization == "intensity"
    # A start from the intensity is made of factors; the matrices are taken from them.
    kind: Parametrization = "svd" if by_intensity else config.parametrization
    system = make_system(config, len(targets), parametrization=kind, generator=generators)
    if by_intensity:
        intensity_start(system, targets, config, generators)
    state = system.state_dict()
    if by_intensity and config.parametrization == "matrix":
        state["matrix"] = system.maps()[0].detach()
        del state["svd"]
    if config.color:
        state["color"] = _first_colors(targets, config.maps)
    return state


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
def intensity_start(system: IFS, targets: Tensor, config: FitConfig, generators: Sequence[torch.Generator]) -> None:
    """Spread the maps of random systems over the intensity of their targets (S, H, W), or (S, C, H, W).

    Every map shrinks the picture to about 0.3, keeping its random rotation and reflection, and puts it on one of N
    centers of the intensity, by k-means (Lloyd 1982): the collage that a solution of the inverse problem is (Barnsley
    1988), with equal tiles. With small maps no gradient explodes, and no map starts outside the viewport.
    """
    intensity = (targets if targets.dim() == 3 else targets.amax(dim=1)).cpu()  # (S, H, W)
    places = _to_plane(_sample(intensity, generators), intensity.shape[1:], config)  # (S, M, 2)
    maps, dtype, device = system.maps_per_system, system.svd.dtype, system.svd.device
    uniform = draw_uniform(places.shape[:2], generators, dtype=torch.float32, device=device)  # (S, M)
    # k-means begins with any N of the samples, in turn where there are fewer.
    chosen = uniform.topk(min(maps, _SAMPLES), largest=False).indices.cpu()  # (S, min(N, M))
    chosen = chosen[:, torch.arange(maps) % _SAMPLES]  # (S, N)
    centers = places.take_along_dim(chosen[..., None], dim=1)  # (S, N, 2)
    if maps <= _MOST_CLUSTERS:
        centers = k_means(places, centers, _ROUNDS)
    middle = places.mean(dim=1)  # (S, 2)

    spread = torch.cat([torch.randn(1, maps, 2, generator=each, device=device, dtype=dtype) for each in generators])
    values = _SINGULAR_LOGIT + _SINGULAR_SPREAD * spread  # (S, N, 2)
    # In double, so that rounding doesn't depend on a system's place.
    system.svd[..., 2:4] = values if system.singular_values == "sigmoid" else values.double().sigmoid()
    matrix, offset = system.maps()  # (S, N, 2, 2), (S, N, 2)
    offset.copy_(centers.to(offset) - (matrix * middle.to(offset)[:, None, None]).sum(dim=-1))


def _sample(intensity: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Places (S, M, 2) in pixels, drawn evenly from the intensity (S, H, W) and within its pixels.

    Those of an intensity that is 0 lie anywhere.
    """
    systems, _, width = intensity.shape
    shape, device = (systems, 3, _SAMPLES), generators[0].device
    uniform = draw_uniform(shape, generators, dtype=torch.float64, device=device).cpu()  # (S, 3, M)
    weight = intensity.flatten(1).double()  # (S, H W)
    sums = torch.where(weight.any(dim=1, keepdim=True), weight, 1.0).cumsum(1)  # (S, H W)
    # Stratified, one sample in each of M equal parts of the intensity: fewer clusters by chance.
    expected = (torch.arange(_SAMPLES) + uniform[:, 0]) / _SAMPLES * sums[:, -1:]  # (S, M)
    pixel = torch.searchsorted(sums, expected, right=True).clamp(max=sums.shape[1] - 1)  # (S, M)
    corner = torch.stack((pixel // width, pixel % width), -1)  # (S, M, 2)
    return corner + uniform[:, 1:].mT - 0.5


def _to_plane(pixels: Tensor, size: Sequence[int], config: FitConfig) -> Tensor:
    """The places (S, M, 2) in the plane of those in pixels. A side of one pixel is where the viewport's middle is."""
    # A viewport that is fitted shows any part of the plane alike.
    x_min, y_min, x_max, y_max = LEARNING_VIEWPORT if isinstance(config.viewport, str) else config.viewport
    low, high = pixels.new_tensor([x_min, y_min]), pixels.new_tensor([x_max, y_max])
    last = pixels.new_tensor([side - 1 for side in size])  # (2,)
    fraction = torch.where(last > 0, pixels / last.clamp(min=1), 0.5)  # (S, M, 2)
    return low + fraction * (high - low)


def _first_colors(targets: Tensor, maps: int) -> Tensor:
    """Logits (S, N, 3) of each target's mean color, in which a pixel counts by its largest channel, for all maps."""
    intensity = targets.amax(dim=1, keepdim=True)  # (S, 1, H, W)
    total = intensity.sum(dim=(2, 3)).clamp(min=torch.finfo(intensity.dtype).tiny)  # (S, 1)
    mean = (targets * intensity).sum(dim=(2, 3)) / total  # (S, 3)
    return mean.logit(eps=_COLOR_MARGIN)[:, None].repeat(1, maps, 1)
