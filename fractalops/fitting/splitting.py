"""Splitting of maps during learning: maps of little use become halves of the maps with the largest error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fractalops.fitting.config import LEARNING_VIEWPORT
from fractalops.fitting.optimizers import Optimizer
from fractalops.ifs import IFS
from fractalops.placement import place
from fractalops.sampling import Generators
from fractalops.systems import svd_parameters

_SHARE = 0.05  # largest fraction of the maps that is split at a time
_MARGIN = 0.5  # fraction of its error that a map is expected to lose when it is split
_AROUND = 9  # side, in pixels, of the square over which the color around a point is averaged


@torch.no_grad()
def split_maps(
    system: IFS, targets: Tensor, points: int, generators: Sequence[torch.Generator], optimizer: Optimizer
) -> int:
    """Replace the least useful maps by halves of the maps with the largest error, in place.

    The squared error of a pixel is divided equally among the points on it; the error of a map is the sum over its
    points. The use of a map is computed in the same way from the squared difference between its color and the mean
    color around its points. It estimates how much the error would grow without the map.

    If half of the error of one map exceeds the use of another map, the image of the first map is cut in two across its
    longer side, and the second map gets one of the halves. The number of maps does not change, and more maps are placed
    where the target has details. The state of the optimizer is reset for both maps.

    Args:
        system: S systems with the blend "mean"; modified.
        targets: (S, H, W) or (S, C, H, W).
        points: Number of points to draw for each system, T.
        generators: One generator for each system.
        optimizer: The optimizer of the parameters of `system`; modified.

    Returns:
        The number of maps that were split.
    """
    chosen = [
        _choose(*measured) for measured in zip(*_measure(system, targets, points, generators), strict=True)
    ]  # for each system: maps to split, maps to give up
    for number, (split, given_up) in enumerate(chosen):
        if len(split):
            _halve(system, number, split, given_up)
            optimizer.forget(number, torch.cat((split, given_up)))
    return sum(len(split) for split, _ in chosen)


def _measure(system: IFS, targets: Tensor, points: int, generators: Generators) -> tuple[Tensor, Tensor]:
    """Return the error and the use of each map, both (S, N)."""
    size = (targets.shape[-2], targets.shape[-1])
    maps, channels = system.maps_per_system, system.channels or 1
    index = system.sample(1, points, generator=generators)  # (S, 1, T)
    images = system(size, index=index)[:, 0].reshape(len(targets), channels, *size)  # (S, C, H, W)
    errors = (images - targets.reshape(images.shape)).square().sum(1).flatten(1)  # (S, H W)
    around = avg_pool2d(images, _AROUND, 1, _AROUND // 2, count_include_pad=False).flatten(2)  # (S, C, H W)
    points_in_plane = system.points(index)[:, 0]  # (S, T, 2)
    pixels = place(system.viewport, points_in_plane, size)(points_in_plane)  # (S, T, 2)
    rows, columns = pixels.round().nan_to_num(-1.0, -1.0, -1.0).clamp(-1.0, max(size)).long().unbind(-1)  # (S, T) each
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])  # (S, T)
    pixel = torch.where(inside, rows * size[1] + columns, 0)  # (S, T)
    number = index[:, 0].long()  # (S, T)
    ones = inside.to(errors.dtype)  # (S, T)
    counts = errors.new_zeros(errors.shape).scatter_add_(1, pixel, ones)  # (S, H W): number of points on a pixel
    share = ones / counts.gather(1, pixel).clamp(min=1)  # (S, T)
    colors = system.colors()  # (S, N, C)
    own = torch.ones_like(system.offset[..., :1]) if colors is None else colors  # (S, N, C)
    difference = errors.new_zeros(pixel.shape)  # (S, T)
    for channel in range(channels):
        color = own[..., channel].gather(1, number)  # (S, T)
        difference += (color - around[:, channel].gather(1, pixel)).square()
    zeros = errors.new_zeros(len(errors), maps)  # (S, N)
    error = zeros.scatter_add(1, number, errors.gather(1, pixel) * share)
    return error, zeros.scatter_add(1, number, difference * share)


def _choose(error: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps to split and the maps to give up, both (M,), from errors and uses (N,)."""
    most = min(max(1, int(_SHARE * len(error))), len(error) // 2)
    split = error.topk(most).indices  # (M,)
    use = use.clone()
    use[split] = math.inf
    given_up = use.topk(most, largest=False).indices  # (M,), ascending by use
    pays = _MARGIN * error[split] > use[given_up]  # (M,): False for all maps after the first False
    return split[pays], given_up[pays]


def _halve(system: IFS, number: int, split: Tensor, given_up: Tensor) -> None:
    """Cut the images of the maps `split` (M,) in two. The maps `given_up` (M,) become the second halves."""
    matrices, offsets = (tensor[number, split].double() for tensor in system.maps())  # (M, 2, 2), (M, 2)
    x_min, y_min, x_max, y_max = LEARNING_VIEWPORT if isinstance(system.viewport, str) else system.viewport
    sides = matrices.new_tensor([x_max - x_min, y_max - y_min])  # (2,): sides of the box whose image is cut
    lengths = torch.linalg.vector_norm(matrices, dim=1) * sides  # (M, 2): sides of the image
    across = torch.nn.functional.one_hot(lengths.argmax(-1), 2).double()  # (M, 2)
    halves = matrices * (1 - across / 2)[:, None]  # (M, 2, 2)
    step = (matrices * (across * sides / 4)[:, None]).sum(-1)  # (M, 2): from the center of the image to that of a half
    # A half keeps the image of the box's center at its own center. This image is not the offset, unless the box is
    # centered at 0.
    middle = matrices.new_tensor([(x_min + x_max) / 2, (y_min + y_max) / 2])  # (2,)
    centers = offsets + ((matrices - halves) * middle).sum(-1)  # (M, 2)
    if system.parametrization == "svd":
        name, new = "svd", svd_parameters(halves, system.singular_values)  # (M, 6)
    else:
        name, new = "matrix", halves
    for maps, sign in ((split, 1), (given_up, -1)):
        getattr(system, name)[number, maps] = new.to(system.offset.dtype)
        system.offset[number, maps] = (centers + sign * step).to(system.offset.dtype)
    if system.color is not None:
        system.color[number, given_up] = system.color[number, split]
    if system.logit is not None:
        halved = system.logit[number, split] - math.log(2)
        system.logit[number, split] = halved
        system.logit[number, given_up] = halved
