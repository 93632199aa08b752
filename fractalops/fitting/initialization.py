"""Initial systems of `fit`: random systems, or small maps that follow the intensity or the details of the target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from fractalops.fitting.config import LEARNING_VIEWPORT, FitConfig, make_system
from fractalops.fitting.copies import covariance_power
from fractalops.fitting.given_start import COLOR_MARGIN, given_parameters
from fractalops.ifs import IFS
from fractalops.ops.k_means import k_means
from fractalops.ops.svd_matrix import run_svd_matrix
from fractalops.parameters import Parametrization
from fractalops.sampling import draw_uniform
from fractalops.systems import svd_parameters

# Ten maps that tile a picture have singular values of about 0.3. The logits vary, so that no two maps are alike.
_SINGULAR_LOGIT = -0.85
_SINGULAR_SPREAD = 0.5

_SAMPLES = 2048  # number of samples of the intensity
_ROUNDS = 10  # iterations of k-means
_SAMPLES_A_MAP = 32  # number of samples of the contrast for each tile
_EVEN = 0.3  # contrast that is added at covered pixels, as a fraction of the mean contrast
_ELSEWHERE = 0.05  # the same at other pixels, as a fraction of _EVEN
_SHOWN = 0.05  # a pixel is covered if it differs from the background by more than this
_OVERLAP = 1.15  # size of tiles along each axis, relative to tiles that just touch
_MOST_CLUSTERS = 256  # with more maps, the samples themselves are spread evenly enough


def first_parameters(targets: Tensor, config: FitConfig, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """Return the initial state of an `IFS` for targets (S, ...), with one generator for each target."""
    random = config.initialization == "random"
    # The other initializations compute SVD parameters. Matrices are computed from these.
    kind: Parametrization = config.parametrization if random else "svd"
    system = make_system(config, len(targets), parametrization=kind, generator=generators)
    if config.color:
        system.color = nn.Parameter(_first_colors(targets, config.maps))
    if config.initialization == "intensity":
        intensity_start(system, targets, config, generators)
    elif config.initialization == "tiles":
        tile_start(system, targets, config, generators)
    state = system.state_dict()
    if not random and config.parametrization == "matrix":
        state["matrix"] = system.maps()[0].detach()
        del state["svd"]
    return state


def start_parameters(start: IFS, targets: Tensor, config: FitConfig) -> dict[str, Tensor]:
    """Return the state of the systems that the caller passes as `start`, as copies on the device of the targets.

    Args:
        start: S systems with the parameters that `config` learns, or given systems (`IFS.from_maps`), which are
            converted by `given_parameters`.
        targets: (S, H, W) or (S, 3, H, W).
        config: Resolved settings.

    Raises:
        ValueError: If `start` has other parameters than `config` learns, or can't be converted.
    """
    if start.probability is not None:
        state = given_parameters(start, (targets.shape[-2], targets.shape[-1]), len(targets), config)
        if config.channels is not None and "color" not in state:
            color = (
                _first_colors(targets, config.maps) if config.color else targets.new_zeros(len(targets), config.maps, 1)
            )
            state["color"] = color
        return {name: tensor.to(targets.device, torch.float32) for name, tensor in state.items()}
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
    """Distribute the maps of random systems over the bright parts of their targets, in place.

    Each map shrinks the picture to about 0.3 of its size, keeps its random rotation and reflection, and moves the
    picture to one of N centers. The centers are the k-means of the intensity (Lloyd 1982). The result is a collage of
    equal tiles that approximates the target, as in the collage theorem (Barnsley 1988). Small maps prevent exploding
    gradients, and no map starts outside the viewport.

    Args:
        system: S random systems; modified.
        targets: (S, H, W) or (S, C, H, W).
        config: Resolved settings.
        generators: One generator for each system.
    """
    intensity = (targets if targets.dim() == 3 else targets.amax(dim=1)).cpu()  # (S, H, W)
    places = _to_plane(_sample(intensity, _SAMPLES, generators), intensity.shape[1:], config)  # (S, M, 2)
    maps, dtype, device = system.maps_per_system, system.svd.dtype, system.svd.device
    centers = _choose_centers(places, maps, generators)  # (S, N, 2)
    if maps <= _MOST_CLUSTERS:
        centers = k_means(places, centers, _ROUNDS)
    middle = places.mean(dim=1)  # (S, 2)

    spread = torch.cat([torch.randn(1, maps, 2, generator=each, device=device, dtype=dtype) for each in generators])
    values = _SINGULAR_LOGIT + _SINGULAR_SPREAD * spread  # (S, N, 2)
    # In float64, so that the rounding does not depend on the index of the system in the batch.
    system.svd[..., 2:4] = values if system.singular_values == "sigmoid" else values.double().sigmoid()
    matrix, offset = system.maps()  # (S, N, 2, 2), (S, N, 2)
    offset.copy_(centers.to(offset) - (matrix * middle.to(offset)[:, None, None]).sum(dim=-1))


@torch.no_grad()
def tile_start(system: IFS, targets: Tensor, config: FitConfig, generators: Sequence[torch.Generator]) -> None:
    """Tile the targets with the maps of systems, in place, with smaller tiles where a target has details.

    The centers of the tiles are the k-means of positions that are sampled in proportion to the local contrast of the
    target. Each pixel belongs to the tile of the nearest center. The image of the picture under a tile's map has the
    mean and the covariance of the tile's pixels: `A = P^(1/2) Q^(-1/2)`, where P is the covariance of the tile and Q
    that of the picture. Therefore the tiles cover the picture, as the collage of a solution does (Barnsley 1988). If
    the pixels that differ from the background are at most half of the picture, the tiles cover only these pixels.
    Learned probabilities start proportional to the areas of the tiles, and learned colors start at the mean colors of
    the tiles.

    Args:
        system: S random systems; modified.
        targets: (S, H, W) or (S, C, H, W).
        config: Resolved settings.
        generators: One generator for each system.
    """
    size = targets.shape[-2:]
    images = targets.reshape(len(targets), -1, *size).double().cpu()  # (S, C, H, W)
    covered = _covered(images, config.empty)  # (S, H, W)
    detail = _contrast(images) * covered + _EVEN * (covered + _ELSEWHERE)  # (S, H, W)
    maps = system.maps_per_system
    places = _sample(detail, max(_SAMPLES, _SAMPLES_A_MAP * maps), generators)  # (S, M, 2)
    centers = k_means(places, _choose_centers(places, maps, generators), _ROUNDS)  # (S, N, 2)
    rows, columns = (torch.arange(side, dtype=torch.float64, device="cpu") for side in size)
    grid = torch.cartesian_prod(rows, columns).view(*size, 2)  # (H, W, 2)
    corners = _to_plane(grid.new_tensor([[[0.0, 0.0], [1.0, 1.0]]]), size, config)[0]  # (2, 2), points one pixel apart
    scale = torch.where(corners[1] > corners[0], corners[1] - corners[0], 1.0)  # (2,)
    for number, (image, inside, own) in enumerate(zip(images, covered, centers, strict=True)):
        pixels = grid[inside > 0]  # (P, 2)
        nearest = _nearest(pixels, own)  # (P,)
        mean, spread = _moments(pixels, nearest, own)  # (N, 2), (N, 2, 2)
        middle, whole = _moments(pixels, torch.zeros_like(nearest), own[:1])  # (1, 2), (1, 2, 2)
        matrix = _OVERLAP * covariance_power(spread, 0.5) @ covariance_power(whole, -0.5)  # (N, 2, 2), in pixels
        matrix = matrix * (scale[:, None] / scale)
        factors = svd_parameters(matrix, system.singular_values).to(system.svd)  # (N, 6)
        # The parameters of the signs get random magnitudes, as in random systems.
        factors[:, 4:] *= system.svd[number, :, 4:].abs().clamp(min=0.1)
        system.svd[number] = factors
        matrix = run_svd_matrix(factors, system.singular_values).double().cpu()  # (N, 2, 2)
        ends = _to_plane(torch.stack((mean, middle.expand_as(mean))), size, config)  # (2, N, 2)
        system.offset[number] = (ends[0] - (matrix * ends[1][:, None]).sum(-1)).to(system.offset)
        if system.logit is not None:
            area = torch.linalg.det(matrix).abs().clamp(min=1e-6)  # (N,)
            system.logit[number] = area.log().to(system.logit)
        if system.color is not None:
            values = image[:, inside > 0].mT  # (P, C)
            color = _means(values, nearest, values.mean(0).expand(maps, -1))  # (N, C)
            system.color[number] = color.logit(eps=COLOR_MARGIN).to(system.color)


def _covered(images: Tensor, background: float) -> Tensor:
    """Return which pixels of images (S, C, H, W) the tiles cover: (S, H, W), 0 or 1."""
    shown = (images - background).abs().amax(1) > _SHOWN  # (S, H, W)
    share = shown.double().mean(dim=(1, 2), keepdim=True)  # (S, 1, 1)
    return torch.where((share == 0) | (share > 0.5), 1.0, shown.double())


def _contrast(images: Tensor) -> Tensor:
    """Return the contrast around each pixel of images (S, C, H, W): (S, H, W), scaled to a mean of 1."""
    squares = torch.zeros_like(images[:, 0])  # (S, H, W)
    for axis in (2, 3):
        change = images.diff(dim=axis).square().sum(1)  # (S, H - 1, W) or (S, H, W - 1)
        for begin in (0, 1):
            squares.narrow(axis - 1, begin, change.shape[axis - 1]).add_(change)
    around = avg_pool2d(squares[:, None], 5, 1, 2, count_include_pad=False)[:, 0].sqrt()  # (S, H, W)
    mean = around.mean(dim=(1, 2), keepdim=True)  # (S, 1, 1)
    return around / torch.where(mean > 0, mean, 1.0)


def _nearest(pixels: Tensor, centers: Tensor) -> Tensor:
    """Return the index of the center (N, 2) that is nearest to each pixel (P, 2): (P,).

    It works in blocks of pixels.
    """
    places = centers.float()
    half = places.square().sum(1) / 2  # (N,)
    # This is |p - c|^2 / 2 without |p|^2 / 2, which is the same for all centers. The blocks fit in the cache.
    parts = pixels.float().split(max(1, 2**20 // len(centers)))
    return torch.cat([torch.addmm(half, part, places.mT, alpha=-1).argmin(1) for part in parts])


def _means(values: Tensor, group: Tensor, otherwise: Tensor) -> Tensor:
    """Return the mean of the values of each group.

    Args:
        values: (P, ...).
        group: (P,), the group of each value, from 0 to N - 1.
        otherwise: (N, ...), the result for groups without values.

    Returns:
        The means, (N, ...).
    """
    count = torch.bincount(group, minlength=len(otherwise)).view(-1, *[1] * (values.dim() - 1))  # (N, 1, ...)
    sums = values.new_zeros(otherwise.shape).index_add_(0, group, values)  # (N, ...)
    return torch.where(count > 0, sums / count.clamp(min=1), otherwise)


def _moments(pixels: Tensor, group: Tensor, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means (N, 2), see `_means`, and the covariances (N, 2, 2) of the pixels (P, 2) of each group (P,)."""
    mean = _means(pixels, group, otherwise)
    shift = pixels - mean[group]  # (P, 2)
    none = shift.new_zeros(len(mean), 2, 2)
    # A pixel is a square, which has a variance of 1/12 along each axis.
    own = torch.eye(2, dtype=torch.float32, device="cpu") / 12
    return mean, _means(shift[:, :, None] * shift[:, None], group, none) + own


def _choose_centers(places: Tensor, maps: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return initial centers (S, N, 2) for k-means: random positions out of (S, M, 2), repeated if N > M."""
    device, count = generators[0].device, places.shape[1]
    uniform = draw_uniform(places.shape[:2], generators, dtype=torch.float32, device=device)  # (S, M)
    chosen = uniform.topk(min(maps, count), largest=False).indices.cpu()  # (S, min(N, M))
    chosen = chosen[:, torch.arange(maps, device="cpu") % count]  # (S, N)
    return places.take_along_dim(chosen[..., None], dim=1)


def _sample(intensity: Tensor, samples: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return positions in pixels, sampled in proportion to the intensity.

    Args:
        intensity: (S, H, W). If it is 0 everywhere, all pixels have the same probability.
        samples: Number of positions, M.
        generators: One generator for each system.

    Returns:
        (row, column), (S, M, 2), float64.
    """
    systems, _, width = intensity.shape
    shape, device = (systems, 3, samples), generators[0].device
    uniform = draw_uniform(shape, generators, dtype=torch.float64, device=device).cpu()  # (S, 3, M)
    weight = intensity.flatten(1).double()  # (S, H W)
    sums = torch.where(weight.any(dim=1, keepdim=True), weight, 1.0).cumsum(1)  # (S, H W)
    # Stratified sampling, one sample in each of M equal parts of the intensity, gives fewer random clusters.
    expected = (torch.arange(samples, device="cpu") + uniform[:, 0]) / samples * sums[:, -1:]  # (S, M)
    pixel = torch.searchsorted(sums, expected, right=True).clamp(max=sums.shape[1] - 1)  # (S, M)
    corner = torch.stack((pixel // width, pixel % width), -1)  # (S, M, 2)
    return corner + uniform[:, 1:].mT - 0.5


def _to_plane(pixels: Tensor, size: Sequence[int], config: FitConfig) -> Tensor:
    """Return positions in pixels (S, M, 2) as points of the plane.

    A side of one pixel maps to the viewport's center.
    """
    # "stretch" and "fit" show every part of the plane in the same way, so that any viewport can be used.
    x_min, y_min, x_max, y_max = LEARNING_VIEWPORT if isinstance(config.viewport, str) else config.viewport
    low, high = pixels.new_tensor([x_min, y_min]), pixels.new_tensor([x_max, y_max])
    last = pixels.new_tensor([side - 1 for side in size])  # (2,)
    fraction = torch.where(last > 0, pixels / last.clamp(min=1), 0.5)  # (S, M, 2)
    return low + fraction * (high - low)


def _first_colors(targets: Tensor, maps: int) -> Tensor:
    """Return the logits (S, N, 3) of each target's mean color, weighted by the largest channel of each pixel."""
    intensity = targets.amax(dim=1, keepdim=True)  # (S, 1, H, W)
    total = intensity.sum(dim=(2, 3)).clamp(min=torch.finfo(intensity.dtype).tiny)  # (S, 1)
    mean = (targets * intensity).sum(dim=(2, 3)) / total  # (S, 3)
    return mean.logit(eps=COLOR_MARGIN)[:, None].repeat(1, maps, 1)
