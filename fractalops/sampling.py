"""Random systems and random index sequences, drawn with a `torch.Generator`, without gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.draw_index import draw_index
from fractalops.ops.rasterize_points import LARGEST_PATCH
from fractalops.reference.probabilities import raise_to_floor

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None

# How far the sum of singular values stays from what N maps can reach at most (3 N, all of them isometries).
_SUM_MARGIN = 1e-3


class RandomSystems(NamedTuple):
    """The factors of `R(theta) diag(singular_values) R(phi) diag(reflection)` (paper eq. 10), and the
    offsets."""

    theta: Tensor  # (S, N) in [-pi, pi), radians
    phi: Tensor  # (S, N) in [-pi, pi), radians
    singular_values: Tensor  # (S, N, 2), 0 <= second <= first <= 1
    reflection: Tensor  # (S, N, 2), each -1 or 1
    offset: Tensor  # (S, N, 2) in [-1, 1)


def check_integer(function: str, argument: str, value: object, least: int) -> None:
    """Raise `TypeError` unless `value` is an `int`, `ValueError` unless it is at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{function}: {argument} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {value}")


def check_dtype(function: str, dtype: torch.dtype) -> None:
    """Raise `TypeError` unless `dtype` is float32 or float64."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{function}: dtype must be torch.float32 or torch.float64, got {dtype}")


def random_systems(
    systems: int,
    maps: int,
    *,
    sigma_factor: float | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> RandomSystems:
    """Draw random contractive systems by the SVD method of Anderson and Farrell 2022 ("Improving Fractal
    Pre-training").

    Rotations are uniform in [-pi, pi), reflections are fair signs, offsets are uniform in [-1, 1). The
    singular values of a system's `N` maps satisfy `sum of (s1 + 2 s2) = sigma_factor`; `None` draws that sum
    for each system, uniformly in [(5 + N) / 2, (6 + N) / 2]. It can't pass 3 N, so it is clipped to 3 N -
    0.001, which matters for N = 1 only: a single map is then nearly an isometry.

    Draws are made in float64 and rounded to `dtype`, so that one generator gives the same systems in both
    precisions. Returns CPU tensors, or tensors on the generator's device. Raises `ValueError` for counts
    below 1 and for a `sigma_factor` outside [0, 3 N], `TypeError` for other types.
    """
    check_integer("random_systems", "systems", systems, 1)
    check_integer("random_systems", "maps", maps, 1)
    check_dtype("random_systems", dtype)

    device = generator.device if generator is not None else torch.device("cpu")

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64, device=device)

    if sigma_factor is None:
        total = (0.5 * (5 + maps) + 0.5 * uniform(systems)).clamp(max=3 * maps - _SUM_MARGIN)  # (S,)
    elif not isinstance(sigma_factor, int | float) or isinstance(sigma_factor, bool):
        raise TypeError(f"random_systems: sigma_factor must be a float or None, got {type(sigma_factor).__name__}")
    elif not 0 <= sigma_factor <= 3 * maps:
        raise ValueError(f"random_systems: sigma_factor must be in [0, {3 * maps}], got {sigma_factor}")
    else:
        total = torch.full((systems,), float(sigma_factor), dtype=torch.float64, device=device)  # (S,)
    singular_values = _singular_values(total, uniform(maps, 2, systems))  # (S, N, 2)
    angles = (2 * uniform(2, systems, maps) - 1) * math.pi  # (2, S, N)
    reflection = torch.where(uniform(systems, maps, 2) < 0.5, -1.0, 1.0)  # (S, N, 2)
    offset = 2 * uniform(systems, maps, 2) - 1  # (S, N, 2)
    drawn = (angles[0], angles[1], singular_values, reflection, offset)
    return RandomSystems(*(tensor.to(dtype) for tensor in drawn))


def _singular_values(total: Tensor, uniform: Tensor) -> Tensor:
    """Singular values (S, N, 2) whose s1 + 2 s2 add up to `total` (S,), from `uniform` (N, 2, S) in [0, 1).

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
    """A value uniform in [max(low, 0), min(high, 1)]."""
    low, high = low.clamp(min=0), high.clamp(max=1)
    return low + (high - low) * uniform


def random_patches(count: int, size: int = 3, generator: torch.Generator | None = None) -> Tensor:
    """Draw masks (count, size, size) for `rasterize_points`, each uniform among those that are not empty.

    With 3 x 3 pixels, 511 masks, these are the patches of fractal pre-training's data sets (Kataoka et
    al. 2020, "Pre-training without Natural Images").
    Returns a bool tensor on the CPU, or on the generator's device. Raises `ValueError` for a `count` below 0, or a
    `size` that is even or outside [1, 15], and `TypeError` for other types.
    """
    check_integer("random_patches", "count", count, 0)
    check_integer("random_patches", "size", size, 1)
    if size % 2 == 0 or size > LARGEST_PATCH:
        raise ValueError(f"random_patches: size must be odd and at most {LARGEST_PATCH}, got {size}")
    device = generator.device if generator is not None else torch.device("cpu")

    def draw(number: int) -> Tensor:
        return torch.rand(number, size, size, generator=generator, device=device) < 0.5

    patches = draw(count)
    while len(empty := (~patches.any(2).any(1)).nonzero()[:, 0]):
        patches[empty] = draw(len(empty))
    return patches


def sample_index(
    probabilities: Tensor, sequences: int, points: int, generator: Generators = None, *, balanced: bool = False
) -> Tensor:
    """Draw map indices (S, K, T) from `probabilities` (S, N), K = `sequences`, T = `points`.

    Maps are drawn independently (paper section 3), or, with `balanced`, such that the points of a sequence are spread
    more evenly than chance does: after each run of maps each map follows as often as its probability says, to within
    about one. Runs that a sequence of T points is too short for are left to chance, and all is where T < 2 N; short
    sequences favor maps of small probability somewhat (`draw_balanced_index`). Sequences are independent of each
    other either way.

    uint8 when N <= 256, else int32; values are in [0, N). Rows of `probabilities` need not add up to 1. A map of
    probability 0 is never drawn. `generator` is one generator for all systems, which are then drawn one after
    another, or a sequence of S, one a system, so that a system's draws don't depend on its neighbors.

    Raises `ValueError` for wrong shapes and (on the CPU, where looking is free) for negative, non-finite or all-zero
    probabilities; `TypeError` for wrong types.
    """
    if not isinstance(probabilities, Tensor) or not probabilities.is_floating_point():
        raise TypeError(f"sample_index: probabilities must be a floating-point tensor, got {_kind(probabilities)}")
    if probabilities.dim() != 2 or 0 in probabilities.shape:
        shape = tuple(probabilities.shape)
        raise ValueError(f"sample_index: probabilities must have shape (S, N) with S, N >= 1, got {shape}")
    if probabilities.device.type == "cpu":
        total = probabilities.detach().sum(1)  # (S,)
        if not bool(((total > 0) & (total < math.inf)).all() & (probabilities >= 0).all()):
            shown = probabilities.flatten()[:8].tolist()
            raise ValueError(f"sample_index: probabilities must be finite, non-negative and not all zero, got {shown}")
    return draw_sequences(probabilities, sequences, points, generator, balanced=balanced)


def draw_sequences(
    weight: Tensor, sequences: int, points: int, generator: Generators, floor: float = 0.0, balanced: bool = False
) -> Tensor:
    """`sample_index` for weights (S, N) that are known to be right, with a least probability for each map."""
    check_integer("sample_index", "sequences", sequences, 0)
    check_integer("sample_index", "points", points, 1)
    systems, maps = weight.shape
    # With many maps a probability would be only some hundreds of float32's 2^24 steps.
    dtype = torch.float32 if maps <= 256 else torch.float64
    count = sequences * points
    drawn = [
        torch.rand(1, count, generator=each, device=weight.device, dtype=dtype)
        for each in _one_each(generator, systems)
    ]
    uniform = torch.cat(drawn) if systems > 1 else drawn[0]  # (S, K T)
    if balanced:
        return draw_balanced_index(weight, uniform.view(systems, sequences, points), floor)
    return draw_index(weight, uniform, floor).view(systems, sequences, points)


def join_index(index: Tensor, maps: int) -> Tensor:
    """Indices (S, K, T) in [0, N) as those (S * K, T) of all systems' maps, one system's after another's (section 4.2).

    uint8 when S * N <= 256, else int32.
    """
    systems = len(index)
    index = index.to(torch.uint8 if systems * maps <= 256 else torch.int32)
    if systems > 1:
        shift = torch.arange(systems, dtype=index.dtype, device=index.device) * maps  # (S,)
        index = index + shift.view(systems, 1, 1)
    return index.flatten(0, 1)


def determinant_weights(matrix: Tensor) -> Tensor:
    """Detached `|det A|` (..., N) of `matrix` (..., N, 2, 2)."""
    a00, a01, a10, a11 = matrix.detach().flatten(-2).unbind(-1)  # each (..., N)
    return (a00 * a11 - a01 * a10).abs()


def determinant_probabilities(matrix: Tensor, floor: float = 1e-3) -> Tensor:
    """Detached probabilities (S, N) proportional to `|det A|` of `matrix` (S, N, 2, 2) (paper section 3).

    A map gets at least about `floor`, so that one that flattens the plane is still drawn; the rows are then scaled to
    sum 1. A system whose determinants are all zero, or not all finite, gets equal probabilities. Raises `ValueError`.
    """
    if matrix.dim() != 4 or matrix.shape[2:] != (2, 2):
        raise ValueError(f"determinant_probabilities: matrix must have shape (S, N, 2, 2), got {tuple(matrix.shape)}")
    check_floor("determinant_probabilities", "floor", floor)
    return raise_to_floor(determinant_weights(matrix), floor)


def check_floor(function: str, argument: str, floor: float) -> None:
    """Raise `TypeError` unless `floor` is a float, `ValueError` unless it lies in [0, 1)."""
    if not isinstance(floor, int | float) or isinstance(floor, bool):
        raise TypeError(f"{function}: {argument} must be a float, got {type(floor).__name__}")
    if not 0 <= floor < 1:
        raise ValueError(f"{function}: {argument} must be in [0, 1), got {floor}")


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _one_each(generator: Generators, systems: int) -> Sequence[torch.Generator | None]:
    if generator is None or isinstance(generator, torch.Generator):
        return [generator] * systems
    if not isinstance(generator, Sequence) or not all(isinstance(each, torch.Generator) for each in generator):
        raise TypeError(
            f"sample_index: generator must be a torch.Generator or a sequence, got {type(generator).__name__}"
        )
    if len(generator) != systems:
        raise ValueError(f"sample_index: generator must hold one for each of {systems} systems, got {len(generator)}")
    return generator
