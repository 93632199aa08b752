"""Random systems, drawn with a `torch.Generator` without gradients, and the SVD parameters of given matrices."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fractalops._checks import check_dtype, check_integer, check_number
from fractalops.ops.svd_matrix import SingularValues
from fractalops.sampling import Generators, draw_uniform, one_each

# Distance of the sum of singular values from its largest value for N maps, 3 N, at which all maps are isometries.
_SUM_MARGIN = 1e-3

# Singular values are clamped to [margin, 1 - margin] before the inverse sigmoid. Closer to 0 or 1, the gradient of the
# sigmoid vanishes.
SINGULAR_MARGIN = 1e-3


class RandomSystems(NamedTuple):
    """S systems of N maps with `matrix = R(theta) diag(singular_values) R(phi) diag(reflection)` (paper, eq. 10)."""

    theta: Tensor
    """(S, N): angles in [-pi, pi), in radians."""
    phi: Tensor
    """(S, N): angles in [-pi, pi), in radians."""
    singular_values: Tensor
    """(S, N, 2): 0 <= second <= first <= 1."""
    reflection: Tensor
    """(S, N, 2): signs, -1 or 1."""
    offset: Tensor
    """(S, N, 2): translations in [-1, 1)."""


def device_for(device: torch.device | str | None, generator: torch.Generator | None) -> torch.device:
    """Return the device of new parameters: `device` if given, else the generator's if given, else torch's default."""
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

    Rotation angles are uniform in [-pi, pi), signs are 1 or -1 with equal probability, and offsets are uniform in
    [-1, 1). The singular values s1 >= s2 of a system's maps satisfy `sum_n (s1_n + 2 s2_n) = sigma_factor`. Numbers are
    drawn in float64 and rounded to `dtype`, so that a seed gives the same systems in both dtypes.

    Args:
        systems: Number of systems S, at least 1.
        maps: Number of maps N of each system, at least 1.
        sigma_factor: Weighted sum of the singular values of a system, in [0, 3 N]. None draws it for each system,
            uniformly in [(5 + N) / 2, (6 + N) / 2], and limits it to 3 N - 0.001. The limit matters only for N = 1: the
            single map is then nearly an isometry.
        generator: Random number generator, or a sequence of S generators. With S generators a system doesn't depend on
            the other systems. None uses torch's global generator of the CPU.
        dtype: Dtype of the systems, float32 or float64. Default: float32.

    Returns:
        A named tuple of tensors, on the generator's device, or on the CPU: the rotation angles `theta` and `phi` in
        radians, shape (S, N); `singular_values`, shape (S, N, 2), the larger one first; the signs `reflection`, shape
        (S, N, 2); and `offset`, shape (S, N, 2). The linear part of a map is
        `R(theta) diag(singular_values) R(phi) diag(reflection)` (paper, equation 10).

    Raises:
        ValueError: If a number is out of range, or there are not S generators.
        TypeError: If an argument has a wrong type.

    Examples:
        >>> import torch
        >>> from fractalops.systems import random_systems
        >>> drawn = random_systems(2, 5, generator=torch.Generator().manual_seed(0))
        >>> drawn.singular_values.shape
        torch.Size([2, 5, 2])
    """
    systems = check_integer("random_systems", "systems", systems, 1)
    maps = check_integer("random_systems", "maps", maps, 1)
    check_dtype("random_systems", dtype)
    check_number("random_systems", "sigma_factor", sigma_factor, least=0, most=3 * maps, optional=True)

    first = one_each("random_systems", generator, systems)[0]
    device = torch.device("cpu") if first is None else first.device  # independent of torch's default device

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
    """Return singular values (S, N, 2) whose s1 + 2 s2 sum to `total` (S,), from `uniform` (N, 2, S) in [0, 1).

    The maps are drawn in order. Each value is uniform between bounds that keep the sum reachable for the remaining
    maps, whose s1 + 2 s2 is at most 3. The last map gets the rest of the sum (Anderson and Farrell 2022).
    """
    maps = len(uniform)
    rest = total  # (S,): the sum for this map and the remaining maps
    pairs = []
    for remaining, (draw_first, draw_second) in zip(range(maps - 1, 0, -1), uniform, strict=False):
        least = rest - 3 * remaining  # (S,): the smallest s1 + 2 s2 of this map
        first = _between(least / 3, rest, draw_first)
        second = _between((least - first) / 2, torch.minimum(first, (rest - first) / 2), draw_second)
        pairs.append(torch.stack((first, second), -1))
        rest = rest - first - 2 * second
    second = _between((rest - 1) / 2, rest / 3, uniform[-1, 1])
    pairs.append(torch.stack((rest - 2 * second, second), -1))
    return torch.stack(pairs, 1).clamp(0, 1)  # rounding can leave values slightly outside [0, 1]


def _between(low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
    """Return a value uniform in [max(low, 0), min(high, 1)]."""
    low, high = low.clamp(min=0), high.clamp(max=1)
    return low + (high - low) * uniform


def svd_parameters(matrix: Tensor, singular_values: SingularValues = "sigmoid") -> Tensor:
    """Return SVD parameters from which `svd_matrix` computes given matrices (paper, equation 10).

    Args:
        matrix: Matrices of shape (..., 2, 2), floating-point, with singular values of at most 1.
        singular_values: "sigmoid" (default) returns the logits of the singular values, clamped to [0.001, 0.999],
            because the gradient of the sigmoid vanishes near 0 and 1. "clamp" returns the singular values.

    Returns:
        Parameters theta, phi, s1, s2, d1, d2; shape (..., 6), dtype of `matrix`. The latent signs d1 and d2 are 1 or
        -1.
    """
    left, values, right = torch.linalg.svd(matrix.double())  # A = left diag(values) right
    # Both factors become rotations. A reflection of the left factor commutes with the diagonal and joins the right
    # factor. A reflection of the right factor becomes a sign.
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
