"""Given systems, of `IFS.from_maps`, as the parameters that learning starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.fitting.config import FitConfig
from fractalops.ifs import IFS
from fractalops.placement import fit_to_frame
from fractalops.sampling import determinant_probabilities, sample_attractor
from fractalops.systems import svd_parameters

# First colors are brought into [margin, 1 - margin] before the inverse sigmoid, whose gradient dies towards 0 and 1.
COLOR_MARGIN = 0.02

_LEAST_PROBABILITY = 1e-3  # with which learned systems draw every map; its logarithm must be finite
_POINTS = 10_000  # by which a system is placed in the viewport
_ROUNDING = 1e-6  # of float32


@torch.no_grad()
def given_parameters(start: IFS, size: tuple[int, int], targets: int, config: FitConfig) -> dict[str, Tensor]:
    """Return the parameters that `config` learns, with the values of given systems, for targets of a size.

    A system whose viewport is its own bounding box ("fit" or "stretch") is moved and scaled such that the fixed
    viewport of `config` shows it as the box would. Parameters hold what they can: SVD parameters have singular values
    in [0.001, 0.999], learned probabilities are at least 0.001, and learned colors lie in [0.02, 0.98].

    Args:
        start: S systems, one for each of the `targets`.
        size: (height, width) of the targets, in pixels.
        targets: S.
        config: resolved settings.

    Returns:
        The state of an `IFS`, float64; without colors where the systems have none.

    Raises:
        ValueError: for another number of systems, maps or channels, for maps that don't contract where SVD parameters
            are learned, and for other probabilities than `|det A|` where those are not learned.
    """
    count, maps = start.systems, start.maps_per_system
    if (count, maps) != (targets, config.maps):
        raise ValueError(
            f"fit: start must have a system of {config.maps} maps for each of {targets} targets, got {count} of {maps}"
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
                "fit: start must have probabilities proportional to |det A| where config.probabilities is "
                f"'determinant', got {[round(value, 4) for value in probabilities.flatten()[:8].tolist()]}"
            )
    colors = start.colors()  # (S, N, C)
    if colors is not None:
        if start.channels != config.channels:
            wanted = f"colors of the {config.channels} channels that config learns"
            if config.channels is None:
                wanted = "no colors, as config learns none"
            raise ValueError(f"fit: start must have {wanted}, got {start.channels} channels")
        state["color"] = colors.double().logit(eps=COLOR_MARGIN)
    return state


def _check_norms(matrix: Tensor, config: FitConfig) -> None:
    """Raise `ValueError` unless SVD parameters can hold matrices (S, N, 2, 2)."""
    norms = torch.linalg.matrix_norm(matrix, 2)  # (S, N)
    held = norms < 1 - _ROUNDING if config.singular_values == "sigmoid" else norms <= 1 + _ROUNDING  # (S, N)
    if not bool(held.all()):
        system, number = held.logical_not().nonzero()[0].tolist()
        limit = "below 1" if config.singular_values == "sigmoid" else "of at most 1"
        raise ValueError(
            f"fit: start must have maps of a norm {limit} where config.parametrization is 'svd', got "
            f"{float(norms[system, number]):.4g} for map {number} of system {system}; 'matrix' takes any"
        )


def _place(start: IFS, size: tuple[int, int], config: FitConfig) -> tuple[Tensor, Tensor]:
    """Return maps (S, N, 2, 2) and (S, N, 2), float64, of the systems as they lie in the viewport of `config`."""
    matrix, offset = (part.detach().double() for part in start.maps())
    if not isinstance(start.viewport, str) or isinstance(config.viewport, str):
        return matrix, offset
    generator = torch.Generator(matrix.device).manual_seed(0)
    points = sample_attractor(matrix, offset, start.probabilities(), _POINTS, generator=generator).points.flatten(1, 2)
    placement = fit_to_frame(points, size, keep_proportions=start.viewport == "fit")  # (S, 1, 2)
    x_min, y_min, x_max, y_max = config.viewport
    low, high = matrix.new_tensor([x_min, y_min]), matrix.new_tensor([x_max, y_max])  # (2,)
    last = matrix.new_tensor([side - 1 for side in size])  # (2,), pixels
    pixel = torch.where(last > 0, (high - low) / last, 0.0)  # (2,), its size in the plane
    scale = placement.scale * pixel  # (S, 1, 2)
    scale = torch.where(scale > 0, scale, 1.0)  # an axis along which the attractor has no extent
    target = torch.where(last > 0, low + placement.target * pixel, (low + high) / 2)  # (S, 1, 2)
    shift = target - placement.origin * scale  # (S, 1, 2)
    moved = matrix * (scale[..., :, None] / scale[..., None, :])  # (S, N, 2, 2)
    return moved, offset * scale + shift - (moved * shift[..., None, :]).sum(-1)
