"""Random systems, drawn with a `torch.Generator`, without gradients."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fractalops._checks import check_dtype, check_integer, check_number
from fractalops.ops.svd_matrix import SingularValues
from fractalops.sampling import Generators, draw_uniform, one_each

# How far the sum of singular values stays from what N maps can reach at most (3 N, all of them isometries).
_SUM_MARGIN = 1e-3

# Singular values are brought into [margin, 1 - margin] before the inverse sigmoid, whose gradient dies towards 0 and 1.
SINGULAR_MARGIN = 1e-3


class RandomSystems(NamedTuple):
    """The factors of `R(theta) diag(singular_values) R(phi) diag(reflection)` (paper eq. 10), and the offsets."""

    theta: Tensor  # (S, N) in [-pi, pi), radians
    phi: Tensor  # (S, N) in [-pi, pi), radians
    singular_values: Tensor  # (S, N, 2), 0 <= second <= first <= 1
    reflection: Tensor  # (S, N, 2), each -1 or 1
    offset: Tensor  # (S, N, 2) in [-1, 1)


def device_for(device: torch.device | str | None, generator: torch.Generator | None) -> torch.device:
    """Return the device of new parameters: `device`, else the generator's, else torch's default device."""
    if device is not None:
        return torch.device(device)
    return torch.get_default_device() if generator is None else generator.device


def random_systems(
    systems: int,
    maps: int,
    *,
    sigma_factor: float | None = None,
    generator: Generators = None,
    dtype: torch.dtype = torch.float32,
) -> RandomSystems:
    """Draw random contractive systems by the SVD method of Anderson and Farrell 2022 (Improving Fractal Pre-training).

    Rotations are uniform in [-pi, pi), reflections are fair signs, offsets are uniform in [-1, 1). The
    singular values of a system's `N` maps satisfy `sum of (s1 + 2 s2) = sigma_factor`; `None` draws that sum
    for each system, uniformly in [(5 + N) / 2, (6 + N) / 2]. It can't pass 3 N, so it is clipped to 3 N -
    0.001, which matters for N = 1 only: a single map is then nearly an isometry.

    Draws are made in float64 and rounded to `dtype`, so that one generator gives the same systems in both
    precisions. `generator` is one for all systems, or a sequence of S, one a system, so that a system doesn't
    depend on its neighbors. Returns CPU tensors, or tensors on the generator's device. Raises `ValueError` for
    counts below 1, another number of generators and a `sigma_factor` outside [0, 3 N], `TypeError` for other
    types.
    """
    systems = check_integer("random_systems", "systems", systems, 1)
    maps = check_integer("random_systems", "maps", maps, 1)
    check_dtype("random_systems", dtype)
    check_number("random_systems", "sigma_factor", sigma_factor, least=0, most=3 * maps, optional=True)

    first = one_each("random_systems", generator, systems)[0]
    device = torch.device("cpu") if first is None else first.device  # whatever torch's default device

    def uniform(*shape: int, along: int = 0) -> Tensor:
        return draw_uniform(shape, generator, along=along, dtype=torch.float64, device=device)

    if sigma_factor is None:
        total = (0.5 * (5 + maps) + 0.5 * uniform(systems)).clamp(max=3 * maps - _SUM_MARGIN)  # (S,)
    else:
        total = torch.full((systems,), float(sigma_factor), dtype=torch.float64, device=device)  # (S,)
    singular_values = _singular_values(total, uniform(maps, 2, systems, along=2))  # (S, N, 2)
    angles = (2 * uniform(2, systems, maps, along=1) - 1) * math.pi  # (2, S, N)
    reflection = torch.where(uniform(systems, maps, 2) < 0.5, -1.0, 1.0)  # (S, N, 2)
    offset = 2 * uniform(systems, maps, 2) - 1  # (S, N, 2)
    drawn = (angles[0], angles[1], singular_values, reflection, offset)
    return RandomSystems(*(tensor.to(dtype) for tensor in drawn))


def _singular_values(total: Tensor, uniform: Tensor) -> Tensor:
    """Return singular values (S, N, 2) whose s1 + 2 s2 add up to `total` (S,), from `uniform` (N, 2, S) in [0, 1).

    Map by map, each value is uniform between the bounds that leave the maps after it a sum they can reach: at
    most 3 a map. The last map takes the rest (Anderson and Farrell 2022).
    """
    maps = len(uniform)
    rest = total  # (S,): what this map and those after it must add up to
    pairs = []
    for remaining, (draw_first, draw_second) in zip(range(maps - 1, 0, -1), uniform, strict=False):
        least = rest - 3 * remaining  # (S,): what this map must take at least
        first = _between(least / 3, rest, draw_first)
        second = _between((least - first) / 2, torch.minimum(first, (rest - first) / 2), draw_second)
        pairs.append(torch.stack((first, second), -1))
        rest = rest - first - 2 * second
    second = _between((rest - 1) / 2, rest / 3, uniform[-1, 1])
    pairs.append(torch.stack((rest - 2 * second, second), -1))
    return torch.stack(pairs, 1).clamp(0, 1)  # the clamp takes off what rounding left outside


def _between(low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
    """Return a value uniform in [max(low, 0), min(high, 1)]."""
    low, high = low.clamp(min=0), high.clamp(max=1)
    return low + (high - low) * uniform


def svd_parameters(matrix: Tensor, singular_values: SingularValues = "sigmoid") -> Tensor:
    """Return SVD parameters (..., 6) of which `svd_matrix` makes `matrix` (..., 2, 2) (paper, equation 10).

    Latent signs are 1 or -1. Singular values are brought into [0.001, 0.999] before the inverse sigmoid, whose gradient
    dies towards 0 and 1.
    """
    left, values, right = torch.linalg.svd(matrix.double())  # A = left diag(values) right
    # Both become rotations: a reflection of the left one goes through the diagonal to the right, where it is a sign.
    mirrored = torch.where(torch.linalg.det(left) < 0, -1.0, 1.0)  # (...)
    signs = torch.stack((torch.ones_like(mirrored), mirrored), -1)  # (..., 2)
    left, right = left * signs[..., None, :], right * signs[..., :, None]
    mirrored = torch.where(torch.linalg.det(right) < 0, -1.0, 1.0)  # (...)
    reflection = torch.stack((torch.ones_like(mirrored), mirrored), -1)  # (..., 2)
    right = right * reflection[..., None, :]
    angles = [torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0]) for rotation in (left, right)]
    if singular_values == "sigmoid":
        values = values.clamp(SINGULAR_MARGIN, 1 - SINGULAR_MARGIN).logit()
    return torch.cat((torch.stack(angles, -1), values, reflection), -1).to(matrix.dtype)
