"""Random index sequences, points of attractors and masks, drawn with a `torch.Generator`, without gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from fractalops._checks import (
    can_read,
    check_floating,
    check_generator,
    check_integer,
    check_number,
    check_tensor,
    shape_error,
)
from fractalops.ops.affine_chain import run_affine_chain
from fractalops.ops.draw_balanced_index import run_draw_balanced_index
from fractalops.ops.draw_index import run_draw_index
from fractalops.ops.fixed_point import run_fixed_point
from fractalops.ops.rasterize_points import LARGEST_PATCH
from fractalops.reference.probabilities import raise_to_floor
from fractalops.reference.without_autocast import in_float32

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None

# Longer sequences are drawn independently even if they are to be balanced. Balancing bounds how often one map follows
# itself: the points behind long runs, as at the tip of a fern, are too few however long the sequence, whereas the holes
# that chance leaves shrink.
LONGEST_BALANCED = 2**16

# A map contracts whose spectral radius is below this: that of a rounded isometry is not.
_CONTRACTING = 1 - 1e-6


def random_patches(count: int, size: int = 3, generator: torch.Generator | None = None) -> Tensor:
    """Draw masks (count, size, size) for `rasterize_points`, each uniform among those that are not empty.

    With 3 x 3 pixels, 511 masks, these are the patches of fractal pre-training's data sets: one for every point
    (Kataoka et al. 2020, "Pre-training without Natural Images"), or one for an image (Anderson and Farrell 2022).
    Returns a bool tensor on the CPU, or on the generator's device. Raises `ValueError` for a `count` below 0, or a
    `size` that is even or outside [1, 15], and `TypeError` for other types.
    """
    count = check_integer("random_patches", "count", count, 0)
    size = check_integer("random_patches", "size", size, 1)
    check_generator("random_patches", generator)
    if size % 2 == 0 or size > LARGEST_PATCH:
        raise ValueError(f"random_patches: size must be odd and at most {LARGEST_PATCH}, got {size}")
    device = generator.device if generator is not None else torch.device("cpu")

    def draw(number: int) -> Tensor:
        return torch.rand(number, size, size, generator=generator, dtype=torch.float32, device=device) < 0.5

    patches = draw(count)
    while len(empty := (~patches.any(2).any(1)).nonzero()[:, 0]):
        patches[empty] = draw(len(empty))
    return patches


@in_float32
def sample_index(
    probabilities: Tensor, sequences: int, points: int, generator: Generators = None, *, balanced: bool = False
) -> Tensor:
    """Draw map indices (S, K, T) from `probabilities` (S, N), K = `sequences`, T = `points`.

    Maps are drawn independently (paper section 3), or, with `balanced`, such that the points of a sequence are spread
    more evenly than chance does: after each run of maps each map follows as often as its probability says, to within
    about one. Runs that a sequence of T points is too short for are left to chance, and all is where T < 2 N or T >
    65536; short sequences favor maps of small probability somewhat (`draw_balanced_index`). Many repetitions of one map
    are rarer than by chance: a map that hardly contracts gets fewer points at its far end. Sequences are independent of
    each other either way.

    uint8 when N <= 256, else int32; values are in [0, N). Rows of `probabilities` need not add up to 1. A map of
    probability 0 is never drawn. `generator` is one generator for all systems, which are then drawn one after
    another, or a sequence of S, one a system, so that a system's draws don't depend on its neighbors.

    Raises `ValueError` for wrong shapes and (on the CPU, where looking is free) for negative, non-finite or all-zero
    probabilities; `TypeError` for wrong types.
    """
    check_tensor("sample_index", probabilities=probabilities)
    check_floating("sample_index", probabilities=probabilities)
    if probabilities.dim() != 2 or 0 in probabilities.shape:
        raise shape_error("sample_index", "probabilities", "(S, N) with S, N >= 1", probabilities)
    if probabilities.device.type == "cpu":
        total = probabilities.detach().sum(1)  # (S,)
        if not bool(((total > 0) & (total < math.inf)).all() & (probabilities >= 0).all()):
            shown = probabilities.flatten()[:8].tolist()
            raise ValueError(f"sample_index: probabilities must be finite, non-negative and not all zero, got {shown}")
    return draw_sequences(probabilities, sequences, points, generator, balanced=balanced)


def draw_sequences(
    weight: Tensor, sequences: int, points: int, generator: Generators, floor: float = 0.0, balanced: bool = False
) -> Tensor:
    """Return `sample_index` for weights (S, N) that are known to be right, with a least probability for each map."""
    sequences = check_integer("sample_index", "sequences", sequences, 0)
    points = check_integer("sample_index", "points", points, 1)
    systems, maps = weight.shape
    each = one_each("sample_index", generator, systems, weight.device)
    shape = (systems, sequences, points)
    uniform = draw_uniform(shape, each, dtype=number_dtype(maps), device=weight.device)  # (S, K, T)
    if draws_evenly(balanced, points):
        return run_draw_balanced_index(weight, uniform, floor)
    return run_draw_index(weight, uniform.flatten(1), floor).view(uniform.shape)


def draws_evenly(balanced: bool, points: int) -> bool:
    """Return whether sequences of so many points are balanced where they are asked to be."""
    return balanced and points <= LONGEST_BALANCED


def number_dtype(maps: int) -> torch.dtype:
    """Return the dtype of the numbers that indices of `maps` maps are made from.

    With many maps a probability would be only some hundreds of float32's 2^24 steps.
    """
    return torch.float32 if maps <= 256 else torch.float64


def join_index(index: Tensor, maps: int) -> Tensor:
    """Return indices (S, K, T) in [0, N) as indices (S * K, T) into the maps of all systems (section 4.2).

    uint8 when S * N <= 256, else int32.
    """
    systems = len(index)
    index = index.to(torch.uint8 if systems * maps <= 256 else torch.int32)
    if systems > 1:
        shift = torch.arange(systems, dtype=index.dtype, device=index.device) * maps  # (S,)
        index = index + shift.view(systems, 1, 1)
    return index.flatten(0, 1)


class AttractorSample(NamedTuple):
    """Points of the attractors of S systems, in K sequences of L points each."""

    points: Tensor  # (S, K, L, D)
    maps: Tensor  # (S, K, L), the map that led to each point


@torch.no_grad()
@in_float32
def sample_attractor(
    matrix: Tensor,
    offset: Tensor,
    probabilities: Tensor,
    points: int,
    *,
    sequences: int = 1000,
    burn_in: int = 20,
    generator: Generators = None,
) -> AttractorSample:
    """Draw points of the attractors of iterated function systems (the chaos game, Barnsley 1988).

    Each sequence starts where `chain_start` says. Its first points are left out: all sequences of a system begin alike,
    and where no map contracts, beside the attractor.

    Args:
        matrix: (S, N, D, D), the maps' linear parts, D = 2 or 3; float32 or float64.
        offset: (S, N, D), their translations.
        probabilities: (S, N), how often each map is drawn, as in `sample_index`.
        points: of each system, at least 1; rounded up to a multiple of K.
        sequences: K, run side by side; as many as `points` at most. Many short chains are faster than a long one.
        burn_in: points of a sequence that are left out, at its beginning.
        generator: one for all systems, or a sequence of one a system.

    Returns:
        Points (S, K, L, D) and the maps (S, K, L) that led to them, with L = ceil(points / K).

    Raises:
        ValueError, TypeError: for arguments of a wrong shape, range or type.
    """
    points, sequences, burn_in = (
        check_integer("sample_attractor", name, value, least)
        for name, value, least in (("points", points, 1), ("sequences", sequences, 1), ("burn_in", burn_in, 0))
    )
    check_tensor("sample_attractor", matrix=matrix, offset=offset, probabilities=probabilities)
    check_floating("sample_attractor", matrix=matrix, offset=offset)
    if offset.dim() != 3 or offset.shape[2] not in (2, 3):
        raise shape_error("sample_attractor", "offset", "(S, N, 2) or (S, N, 3)", offset)
    systems, maps, dimensions = offset.shape
    if matrix.shape != (*offset.shape, dimensions):
        raise shape_error("sample_attractor", "matrix", f"{(*offset.shape, dimensions)}", matrix)
    if probabilities.shape != (systems, maps):
        raise shape_error("sample_attractor", "probabilities", f"({systems}, {maps})", probabilities)
    sequences = min(sequences, points)
    length = math.ceil(points / sequences) + burn_in
    index = sample_index(probabilities, sequences, length, generator)  # (S, K, T)
    start = chain_start(matrix, offset, probabilities)  # (S, D)
    start = start[:, None].expand(systems, sequences, dimensions).reshape(-1, dimensions)  # (S * K, D)
    chain = run_affine_chain(matrix.flatten(0, 1), offset.flatten(0, 1), join_index(index, maps), start)
    chain = chain.view(systems, sequences, length, dimensions)  # (S, K, T, D)
    return AttractorSample(chain[:, :, burn_in:], index[:, :, burn_in:])


def determinant_weights(matrix: Tensor) -> Tensor:
    """Return detached `|det A|` (..., N) of `matrix` (..., N, 2, 2)."""
    a00, a01, a10, a11 = matrix.detach().flatten(-2).unbind(-1)  # each (..., N)
    return (a00 * a11 - a01 * a10).abs()


@in_float32
def determinant_probabilities(matrix: Tensor, floor: float = 1e-3) -> Tensor:
    """Return detached probabilities (S, N) proportional to `|det A|` of `matrix` (S, N, 2, 2) (paper section 3).

    A map gets at least about `floor`, so that one that flattens the plane is still drawn; the rows are then scaled to
    sum 1. A system whose determinants are all zero, or not all finite, gets equal probabilities. Raises `ValueError`.
    """
    if matrix.dim() != 4 or matrix.shape[2:] != (2, 2):
        raise shape_error("determinant_probabilities", "matrix", "(S, N, 2, 2)", matrix)
    check_number("determinant_probabilities", "floor", floor, least=0, below=1)
    return raise_to_floor(determinant_weights(matrix), floor)


def one_each(
    owner: str, generator: Generators, systems: int, device: torch.device | None = None
) -> Sequence[torch.Generator | None]:
    """Return the generator of each system, on `device` where that is given; errors begin with `owner`."""
    if not isinstance(generator, Sequence) or isinstance(generator, str):
        check_generator(owner, generator, device)
        return [generator] * systems
    if len(generator) != systems:
        raise ValueError(f"{owner}: generator must hold one for each of {systems} systems, got {len(generator)}")
    for each in generator:
        check_generator(owner, each, device)
        if each is None:
            raise TypeError(f"{owner}: generator must hold a torch.Generator for each system, got None")
    return generator


def draw_uniform(
    shape: tuple[int, ...],
    generator: torch.Generator | Sequence[torch.Generator | None] | None,
    *,
    along: int = 0,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return uniform numbers in [0, 1): of one generator, or of one for each item along a dimension."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)
    one = (*shape[:along], 1, *shape[along + 1 :])
    drawn = [torch.rand(one, generator=each, dtype=dtype, device=device) for each in generator]
    return torch.cat(drawn, along) if len(drawn) > 1 else drawn[0]


@torch.no_grad()
def chain_start(matrix: Tensor, offset: Tensor, probabilities: Tensor) -> Tensor:
    """Return where chains of systems start (S, D): the fixed point of the first map that is drawn and contracts.

    It lies on the attractor. A map is drawn whose probability is above 0, and contracts if its spectral radius is below
    1. A system without such a map starts at its `mean_point`.

    Args:
        matrix: (S, N, D, D), D = 2 or 3.
        offset: (S, N, D).
        probabilities: (S, N), of any sums.

    Returns:
        A finite point of each system.
    """
    if can_read(matrix) and bool(_leads_to_attractor(matrix[:, 0], probabilities[:, 0]).all()):
        return _fixed_points(matrix[:, 0], offset[:, 0])
    leads = _leads_to_attractor(matrix, probabilities)  # (S, N)
    chosen = leads.int().argmax(1)  # (S,), the first
    system = torch.arange(len(matrix), device=matrix.device)  # (S,)
    start = _fixed_points(matrix[system, chosen], offset[system, chosen])  # (S, D)
    shares = (probabilities / probabilities.sum(1, keepdim=True)).to(matrix.dtype)  # (S, N)
    return torch.where(leads.any(1, keepdim=True), start, mean_point(matrix, offset, shares))


def spectral_radius(matrix: Tensor) -> Tensor:
    """Return the largest absolute values (...) of the eigenvalues of matrices (..., D, D), D = 2 or 3, in float64."""
    matrix = matrix.detach().double()
    if matrix.shape[-1] == 3:
        values: Tensor = torch.linalg.eigvals(matrix.nan_to_num(math.inf).clamp(-1e300, 1e300))  # (..., 3)
        return values.abs().amax(-1)
    a00, a01, a10, a11 = matrix.flatten(-2).unbind(-1)  # each (...)
    middle, half = (a00 + a11) / 2, (a00 - a11) / 2
    square = half * half + a01 * a10  # of half the distance of the eigenvalues, negative where they are complex
    return torch.where(square < 0, (middle * middle - square).sqrt(), middle.abs() + square.clamp(min=0).sqrt())


def _leads_to_attractor(matrix: Tensor, probabilities: Tensor) -> Tensor:
    """Return of maps (..., D, D) drawn with probabilities (...) whether they are drawn and contract (...)."""
    return (probabilities > 0) & (spectral_radius(matrix) < _CONTRACTING)


def _fixed_points(matrix: Tensor, offset: Tensor) -> Tensor:
    """Return the fixed points (..., D) of maps (..., D, D) and (..., D), finite in any case, see `fixed_point`."""
    if offset.shape[-1] == 2:
        return run_fixed_point(matrix, offset)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve_ex(identity - matrix, offset).result  # (..., 3)
    finite = solution.isfinite().all(-1, keepdim=True)  # (..., 1)
    return torch.where(finite, solution, offset.nan_to_num(0, 0, 0))


def mean_point(matrix: Tensor, offset: Tensor, probabilities: Tensor) -> Tensor:
    """Return the mean (..., D) of the points of attractors: the point that the maps leave where it is on average.

    Of maps (..., N, D, D) and (..., N, D), drawn by `probabilities` (..., N) of sum 1; finite in any case, see
    `fixed_point`.
    """
    mean_matrix = (probabilities[..., None, None] * matrix).sum(-3)  # (..., D, D)
    return _fixed_points(mean_matrix, (probabilities[..., None] * offset).sum(-2))
