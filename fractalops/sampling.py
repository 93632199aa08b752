"""Functions that draw random index sequences, points of attractors and masks, without gradients."""

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

# Longer sequences are never balanced. Balanced sequences have too few long runs of one map.
# So the parts of an attractor that need such runs, such as the tip of a fern, get too few points, however long the
# sequence. The holes that independent draws leave shrink with the length.
LONGEST_BALANCED = 2**16

# A map contracts if its spectral radius is below this, which excludes isometries with rounded coefficients.
_CONTRACTING = 1 - 1e-6


def random_patches(count: int, size: int = 3, generator: torch.Generator | None = None) -> Tensor:
    """Draw random masks for `rasterize_points`, uniformly from all masks that are not empty.

    Data sets for fractal pre-training draw points with 3 x 3 patches, of which there are 511: a different one for each
    point (Kataoka et al. 2020, "Pre-training without Natural Images") or one for each image (Anderson and Farrell
    2022, "Improving Fractal Pre-training").

    Args:
        count: Number of masks, at least 0.
        size: Side of the masks in pixels, an odd number in [1, 15]. Default: 3.
        generator: Random number generator. None uses torch's global generator of the CPU.

    Returns:
        Masks of shape (count, size, size), dtype bool, on the device of `generator`, or on the CPU.

    Raises:
        ValueError: If `count` or `size` is out of range.
        TypeError: If an argument has a wrong type.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> patches = fractalops.random_patches(4)
        >>> points = torch.rand(4, 1000, 2) * 64
        >>> fractalops.rasterize_points(points, 64, patch=patches).shape
        torch.Size([4, 64, 64])
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
    """Draw random sequences of map indices.

    The indices of a sequence are independent (paper section 3), or balanced. In a balanced sequence, the number of
    times that a map follows a short run of maps differs from its expected value by only about one. So the points of
    the sequence cover the attractor more evenly. Longer runs, which T points can't balance, are random. All indices are
    independent if T < 2 N or T > 65536. Balanced sequences have two errors: maps of small probability are slightly too
    frequent in short sequences, and long repetitions of one map are too rare (see `draw_balanced_index`).

    Args:
        probabilities: Probabilities of the maps; shape (S, N), floating-point. Each row is scaled to sum 1. A map of
            probability 0 is never drawn.
        sequences: Number of sequences K of each system, at least 0.
        points: Number of indices T of each sequence, at least 1.
        generator: Random number generator, or a sequence of S generators. With S generators the draws of a system don't
            depend on the other systems. None uses torch's global generator.
        balanced: If True, draw balanced sequences. Default: False.

    Returns:
        Indices in [0, N); shape (S, K, T), dtype uint8 if N <= 256, else int32. The sequences are independent of each
        other.

    Raises:
        ValueError: If a shape or number is wrong, or if the generators don't match the systems or the device. On the
            CPU, also if probabilities are negative, not finite, or all zero.
        TypeError: If an argument has a wrong type.

    Examples:
        >>> import torch
        >>> from fractalops.sampling import sample_index
        >>> index = sample_index(torch.tensor([[0.5, 0.3, 0.2]]), sequences=4, points=100)
        >>> index.shape, index.dtype
        (torch.Size([1, 4, 100]), torch.uint8)
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
    """Do what `sample_index` does, for checked weights (S, N) and with a smallest probability `floor` of each map."""
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
    """Return whether sequences of this many points are balanced, given the option `balanced`."""
    return balanced and points <= LONGEST_BALANCED


def number_dtype(maps: int) -> torch.dtype:
    """Return the dtype of the uniform random numbers from which indices of `maps` maps are drawn.

    With many maps float32 is too coarse: its 2^24 steps leave only a few hundred for each map.
    """
    return torch.float32 if maps <= 256 else torch.float64


def join_index(index: Tensor, maps: int) -> Tensor:
    """Convert indices (S, K, T) in [0, N) to indices (S * K, T) into the S * N maps of all systems (section 4.2).

    The dtype is uint8 if S * N <= 256, else int32.
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
    maps: Tensor  # (S, K, L), index of the map that was applied last


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

    Each sequence starts at the fixed point of a map that contracts. If no map contracts, it starts at the mean of the
    attractor's points, which need not be on the attractor. The first points are left out, because all sequences of a
    system start at the same point.

    Args:
        matrix: Linear parts of the maps; shape (S, N, D, D) with D = 2 or 3, dtype float32 or float64.
        offset: Translations of the maps; shape (S, N, D), dtype of `matrix`.
        probabilities: Probabilities of the maps; shape (S, N), as in `sample_index`.
        points: Number of points of each system, at least 1. It is rounded up to a multiple of K.
        sequences: Number of parallel sequences of each system; K is the smaller of this and `points`. Many short
            sequences are faster than one long sequence. Default: 1000.
        burn_in: Number of points that are left out at the start of each sequence, at least 0. Default: 20.
        generator: Random number generator, or a sequence of S generators, one for each system.

    Returns:
        A named tuple of `points`, shape (S, K, L, D) with L = ceil(points / K), and `maps`, the index of the map that
        was applied last for each point, shape (S, K, L), dtype uint8 if N <= 256, else int32.

    Raises:
        ValueError: If a shape, device or number is wrong.
        TypeError: If a dtype or type is wrong.

    Examples:
        >>> from fractalops.sampling import sample_attractor
        >>> from fractalops.systems import classic
        >>> fern = classic("fern")
        >>> points, maps = sample_attractor(fern.matrix[None], fern.offset[None], fern.probabilities[None], 10_000)
        >>> points.shape, maps.shape
        (torch.Size([1, 1000, 10, 2]), torch.Size([1, 1000, 10]))
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
    """Return `|det A|` (..., N) for `matrix` (..., N, 2, 2), detached."""
    a00, a01, a10, a11 = matrix.detach().flatten(-2).unbind(-1)  # each (..., N)
    return (a00 * a11 - a01 * a10).abs()


@in_float32
def determinant_probabilities(matrix: Tensor, floor: float = 1e-3) -> Tensor:
    """Return probabilities proportional to `|det A|` (paper section 3), without gradients.

    Args:
        matrix: Linear parts of the maps; shape (S, N, 2, 2).
        floor: Smallest probability before scaling to sum 1, in [0, 1). If it is 0, a map of determinant 0 is not drawn.

    Returns:
        Probabilities of shape (S, N); each row has sum 1. They are equal for a system whose determinants are all zero,
        or not all finite.

    Raises:
        ValueError: If the shape or `floor` is wrong.
    """
    if matrix.dim() != 4 or matrix.shape[2:] != (2, 2):
        raise shape_error("determinant_probabilities", "matrix", "(S, N, 2, 2)", matrix)
    check_number("determinant_probabilities", "floor", floor, least=0, below=1)
    return raise_to_floor(determinant_weights(matrix), floor)


def one_each(
    owner: str, generator: Generators, systems: int, device: torch.device | None = None
) -> Sequence[torch.Generator | None]:
    """Return the generator of each system; raise unless they are valid, and on the type of `device` if it is given.

    Error messages start with `owner`.
    """
    if not isinstance(generator, Sequence) or isinstance(generator, str):
        check_generator(owner, generator, device)
        return [generator] * systems
    if len(generator) != systems:
        raise ValueError(f"{owner}: generator must have length {systems}, one for each system, got {len(generator)}")
    for each in generator:
        check_generator(owner, each, device)
        if each is None:
            raise TypeError(f"{owner}: generator must have a torch.Generator for each system, got None")
    return generator


def draw_uniform(
    shape: tuple[int, ...],
    generator: torch.Generator | Sequence[torch.Generator | None] | None,
    *,
    along: int = 0,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return a tensor of uniform random numbers in [0, 1).

    `generator` is one generator for all numbers, or a sequence with one generator for each index of dimension `along`.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)
    one = (*shape[:along], 1, *shape[along + 1 :])
    drawn = [torch.rand(one, generator=each, dtype=dtype, device=device) for each in generator]
    return torch.cat(drawn, along) if len(drawn) > 1 else drawn[0]


@torch.no_grad()
def chain_start(matrix: Tensor, offset: Tensor, probabilities: Tensor) -> Tensor:
    """Return a point of each system's attractor, where its chains start.

    It is the fixed point of the first map whose probability is above 0 and whose spectral radius is below 1. A system
    without such a map starts at its `mean_point`, which need not be on the attractor.

    Args:
        matrix: linear parts of the maps; shape (S, N, D, D) with D = 2 or 3.
        offset: translations of the maps; shape (S, N, D).
        probabilities: probabilities of the maps; shape (S, N), any sums.

    Returns:
        Finite points of shape (S, D).
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
    """Return the largest absolute eigenvalue (...) of matrices (..., D, D) with D = 2 or 3, in float64."""
    matrix = matrix.detach().double()
    if matrix.shape[-1] == 3:
        values: Tensor = torch.linalg.eigvals(matrix.nan_to_num(math.inf).clamp(-1e300, 1e300))  # (..., 3)
        return values.abs().amax(-1)
    a00, a01, a10, a11 = matrix.flatten(-2).unbind(-1)  # each (...)
    middle, half = (a00 + a11) / 2, (a00 - a11) / 2
    square = half * half + a01 * a10  # the squared half distance of the eigenvalues; negative if they are complex
    return torch.where(square < 0, (middle * middle - square).sqrt(), middle.abs() + square.clamp(min=0).sqrt())


def _leads_to_attractor(matrix: Tensor, probabilities: Tensor) -> Tensor:
    """Return whether maps (..., D, D) have probabilities (...) above 0 and contract: shape (...)."""
    return (probabilities > 0) & (spectral_radius(matrix) < _CONTRACTING)


def _fixed_points(matrix: Tensor, offset: Tensor) -> Tensor:
    """Return the fixed points (..., D) of maps (..., D, D) and (..., D). They are always finite, see `fixed_point`."""
    if offset.shape[-1] == 2:
        return run_fixed_point(matrix, offset)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve_ex(identity - matrix, offset).result  # (..., 3)
    finite = solution.isfinite().all(-1, keepdim=True)  # (..., 1)
    return torch.where(finite, solution, offset.nan_to_num(0, 0, 0))


def mean_point(matrix: Tensor, offset: Tensor, probabilities: Tensor) -> Tensor:
    """Return the mean of each attractor's points, which is the fixed point of the mean map.

    Args:
        matrix: linear parts of the maps; shape (..., N, D, D).
        offset: translations of the maps; shape (..., N, D).
        probabilities: probabilities of the maps; shape (..., N), sum 1.

    Returns:
        Points of shape (..., D). They are always finite, see `fixed_point`.
    """
    mean_matrix = (probabilities[..., None, None] * matrix).sum(-3)  # (..., D, D)
    return _fixed_points(mean_matrix, (probabilities[..., None] * offset).sum(-2))
