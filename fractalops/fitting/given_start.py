"""Conversion of given systems (`IFS.from_maps`) to the parameters that `fit` starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.fitting.config import FitConfig
from fractalops.ifs import IFS
from fractalops.placement import fit_to_frame
from fractalops.sampling import determinant_probabilities, sample_attractor
from fractalops.systems import svd_parameters

# Initial colors are limited to [margin, 1 - margin]: near 0 and 1 the gradient of the sigmoid vanishes.
COLOR_MARGIN = 0.02

_LEAST_PROBABILITY = 1e-3  # smallest probability of a map of a learned system; its logarithm must be finite
_POINTS = 10_000  # number of points from which the bounding box of a system is computed
_ROUNDING = 1e-6  # bound of the rounding errors of norms in float32


@torch.no_grad()
def given_parameters(start: IFS, size: tuple[int, int], targets: int, config: FitConfig) -> dict[str, Tensor]:
    """Return the parameters that `config` learns, with the values of given systems.

    A system whose viewport is "fit" or "stretch" is moved and scaled, so that the fixed viewport of `config` shows it
    as its own viewport would. Values are limited to the range of the parameters: singular values of SVD parameters to
    [0.001, 0.999], learned probabilities to at least 0.001, and learned colors to [0.02, 0.98].

    Args:
        start: S systems, one for each target.
        size: (height, width) of the targets, in pixels.
        targets: Number of targets, S.
        config: Resolved settings.

    Returns:
        The state of an `IFS`, float64. It has no colors if the systems have none.

    Raises:
        ValueError: If the number of systems, maps or channels is wrong; if a map does not contract and `config` learns
            SVD parameters; if `config` does not learn probabilities and they are not proportional to `|det A|`.
    """
    count, maps = start.systems, start.maps_per_system
    if (count, maps) != (targets, config.maps):
        raise ValueError(
            f"fit: start must have one system of {config.maps} maps for each of {targets} targets, "
            f"got {count} systems of {maps} maps"
        )
    matrix, offset = _place(start, size, config)  # (S, N, 2, 2), (S, N, 2)
    state = {"offset": offset}
    if config.parametrization == "matrix":
        state["matrix"] = matrix
    else:
        _check_norms(matrix, config)
        state["svd"] = svd_parameters(matrix, config.singular_values)
    probabilities = start.probabilities()  # (S, N)
    if config.probabilities == "learned":
        state["logit"] = probabilities.clamp(min=_LEAST_PROBABILITY).log()
    else:
        expected = determinant_probabilities(matrix, _LEAST_PROBABILITY)  # (S, N)
        if not torch.allclose(probabilities, expected, rtol=0, atol=_LEAST_PROBABILITY):
            raise ValueError(
                "fit: start must have probabilities proportional to |det A| if config.probabilities is "
                f"'determinant', got {[round(value, 4) for value in probabilities.flatten()[:8].tolist()]}"
            )
    colors = start.colors()  # (S, N, C)
    if colors is not None:
        if start.channels != config.channels:
            wanted = f"colors of the {config.channels} channels that config learns"
            if config.channels is None:
                wanted = "no colors, because config learns none"
            raise ValueError(f"fit: start must have {wanted}, got {start.channels} channels")
        state["color"] = colors.double().logit(eps=COLOR_MARGIN)
    return state


def _check_norms(matrix: Tensor, config: FitConfig) -> None:
    """Raise `ValueError` unless SVD parameters can represent the matrices (S, N, 2, 2)."""
    norms = torch.linalg.matrix_norm(matrix, 2)  # (S, N)
    held = norms < 1 - _ROUNDING if config.singular_values == "sigmoid" else norms <= 1 + _ROUNDING  # (S, N)
    if not bool(held.all()):
        system, number = held.logical_not().nonzero()[0].tolist()
        limit = "below 1" if config.singular_values == "sigmoid" else "of at most 1"
        raise ValueError(
            f"fit: start must have maps with a norm {limit} if config.parametrization is 'svd', got "
            f"{float(norms[system, number]):.4g} for map {number} of system {system}; 'matrix' allows any norm"
        )


def _place(start: IFS, size: tuple[int, int], config: FitConfig) -> tuple[Tensor, Tensor]:
    """Return the maps, (S, N, 2, 2) and (S, N, 2), float64, as the viewport of `config` shows the systems."""
    matrix, offset = (part.detach().double() for part in start.maps())
    if not isinstance(start.viewport, str) or isinstance(config.viewport, str):
        return matrix, offset
    generator = torch.Generator(matrix.device).manual_seed(0)
    points = sample_attractor(matrix, offset, start.probabilities(), _POINTS, generator=generator).points.flatten(1, 2)
    placement = fit_to_frame(points, size, keep_proportions=start.viewport == "fit")  # (S, 1, 2)
    x_min, y_min, x_max, y_max = config.viewport
    low, high = matrix.new_tensor([x_min, y_min]), matrix.new_tensor([x_max, y_max])  # (2,)
    last = matrix.new_tensor([side - 1 for side in size])  # (2,), pixels
    pixel = torch.where(last > 0, (high - low) / last, 0.0)  # (2,), size of a pixel in the plane
    scale = placement.scale * pixel  # (S, 1, 2)
    scale = torch.where(scale > 0, scale, 1.0)  # for an axis along which the attractor has no extent
    target = torch.where(last > 0, low + placement.target * pixel, (low + high) / 2)  # (S, 1, 2)
    shift = target - placement.origin * scale  # (S, 1, 2)
    moved = matrix * (scale[..., :, None] / scale[..., None, :])  # (S, N, 2, 2)
    return moved, offset * scale + shift - (moved * shift[..., None, :]).sum(-1)
