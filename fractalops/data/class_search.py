"""Search for random systems that are dense enough to be classes of FractalDB or PC-FractalDB."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fractalops._checks import check_integer, check_number, check_range
from fractalops.data.classes import parts, places_of
from fractalops.data.generators import generator_of
from fractalops.io.progress import progress_bar
from fractalops.ops.affine_chain import run_affine_chain
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.placement import Placement, bounding_box
from fractalops.sampling import draw_sequences, join_index
from fractalops.systems import System
from fractalops.systems.axes import from_right_and_up
from fractalops.systems.stacking import Stack

_PADDING = 6  # empty pixels on each side of a picture of 512 pixels
_TOGETHER = 64  # candidates per batch
_TRIES = 2000  # the search fails if, on average, more candidates are needed for one class
_LUCK = 3  # added to the number of classes found in this average, because the first may be found late
_COARSER = 4  # the first check divides the side of the picture by this, with as many points per pixel
_TOLERANCE = 0.95  # the first check multiplies the rate by this
_SPREAD_TOLERANCE = 0.7  # the first check in space multiplies the variance by this
_POINTS_AT_ONCE = 2**19  # points per batch, few enough for the cache

# A function of S candidates and their generators. Returns which candidates are accepted: (S,), bool.
Judge = Callable[[Stack, Sequence[torch.Generator]], Tensor]


def search_classes(
    count: int = 1000,
    *,
    rate: float = 0.2,
    maps: int | tuple[int, int] = (2, 7),
    size: int = 512,
    points: int = 100_000,
    seed: int = 0,
    progress: bool = False,
) -> list[System]:
    """Search for random systems of the plane whose points fill enough of a picture, as FractalDB's classes do.

    The search follows Kataoka et al. 2020, "Pre-training without Natural Images" (`ifs_search.py`). The number of maps
    N is uniform between the bounds `maps`. All entries of the matrices `A_n` and offsets `b_n` are uniform in [-1, 1],
    so many maps do not contract. The probabilities are `p_n = |det A_n| / sum_m |det A_m|`. A chain of `points` points
    starts at the origin. Its bounding box is stretched over the picture, with a margin of 6 pixels if the side is 512.
    The system is accepted if the points light at least the share `rate` of the pixels.

    With the default arguments, about one candidate in 50 is accepted. The random numbers differ from the published
    ones, so the classes do, too. A cheaper check with a quarter of the side rejects most candidates first. In a
    measurement, it rejected none of 55 candidates that were dense enough.

    Args:
        count: the number of systems to find, at least 1. Default: 1000.
        rate: the least share of pixels that the points light (FractalDB's filling rate), in [0, 1). Default: 0.2.
        maps: the number of maps of a system, or a pair of the least and the largest number. Default: (2, 7).
        size: the side of the picture in pixels, at least 1. Default: 512.
        points: the number of points of a picture, at least 1. Default: 100,000.
        seed: the seed of all random numbers, at least 0. With the same seed, a smaller `count` returns the first of the
            same systems. Default: 0.
        progress: show a progress bar. Default: False.

    Returns:
        A list of `count` systems in float64 on the CPU, named "00000", "00001" and so on. Each has `matrix` (N, 2, 2),
        `offset` (N, 2) and `probabilities` (N,) with sum 1.

    Raises:
        TypeError: if an argument has a wrong type.
        ValueError: if an argument is out of its range, if `points` points cannot light the share `rate` of the pixels,
            or if fewer than about one candidate in 2000 is accepted.

    Examples:
        >>> from fractalops.data.class_search import search_classes
        >>> systems = search_classes(2, rate=0.1, size=128, points=10_000)
        >>> [system.name for system in systems]
        ['00000', '00001']
        >>> systems[0].offset.shape[1]
        2
    """
    size = check_integer("search_classes", "size", size, 1)
    points = check_integer("search_classes", "points", points, 1)
    check_number("search_classes", "rate", rate, least=0, below=1)
    if rate * size**2 > points:
        raise ValueError(
            f"search_classes: rate must be at most {points / size**2:.3g}, the share of {size} x {size} pixels that "
            f"{points} points can light, got {rate}"
        )
    coarse, few = max(1, size // _COARSER), math.ceil(points / _COARSER**2)
    return search(
        "search_classes",
        lambda systems, generators: filling_rates(systems, few, coarse, generators) >= _TOLERANCE * rate,
        lambda systems, generators: filling_rates(systems, points, size, generators) >= rate,
        count,
        points=points,
        maps=maps,
        dimensions=2,
        seed=seed,
        progress=progress,
        wanted=f"rate must be reached by random systems, got {rate}",
    )


def search_space_classes(
    count: int = 1000,
    *,
    variance: float = 0.05,
    maps: int | tuple[int, int] = (2, 7),
    points: int = 10_000,
    seed: int = 0,
    progress: bool = False,
) -> list[System]:
    """Search for random systems in space whose points extend along each axis, as PC-FractalDB's classes do.

    The search follows Yamada et al. 2022, "Point Cloud Pre-training with Natural 3D Structures" (`category_search.py`).
    The parameters are drawn as in `search_classes`. A chain of `points` points starts at the origin and is scaled: all
    coordinates together span 2, and the mean along each axis is 0. The system is accepted if the variance of the
    scaled points is above `variance` along each axis. The random numbers differ from the published ones.

    Args:
        count: the number of systems to find, at least 1. Default: 1000.
        variance: the variance that each axis must exceed, in [0, 1). Default: 0.05.
        maps: the number of maps of a system, or a pair of the least and the largest number. Default: (2, 7).
        points: the number of points by which a system is judged, at least 1. Default: 10,000.
        seed: the seed of all random numbers, at least 0. With the same seed, a smaller `count` returns the first of the
            same systems. Default: 0.
        progress: show a progress bar. Default: False.

    Returns:
        A list of `count` systems in float64 on the CPU, named "00000", "00001" and so on. Each has `matrix` (N, 3, 3),
        `offset` (N, 3) and `probabilities` (N,) with sum 1.

    Raises:
        TypeError: if an argument has a wrong type.
        ValueError: if an argument is out of its range, or if fewer than about one candidate in 2000 is accepted.

    Examples:
        >>> from fractalops.data.class_search import search_space_classes
        >>> systems = search_space_classes(2, points=1000)
        >>> systems[0].offset.shape[1]
        3
    """
    points = check_integer("search_space_classes", "points", points, 1)
    check_number("search_space_classes", "variance", variance, least=0, below=1)

    def least_variances(systems: Stack, points: int, generators: Sequence[torch.Generator]) -> Tensor:
        return axis_variances(normalized(run_chains(systems, points, generators))).amin(1)  # (S,)

    few = math.ceil(points / _COARSER**2)
    return search(
        "search_space_classes",
        lambda systems, generators: least_variances(systems, few, generators) > _SPREAD_TOLERANCE * variance,
        lambda systems, generators: least_variances(systems, points, generators) > variance,
        count,
        points=points,
        maps=maps,
        dimensions=3,
        seed=seed,
        progress=progress,
        wanted=f"variance must be reached by random systems, got {variance}",
    )


def normalized(clouds: Tensor) -> Tensor:
    """Scale clouds (S, T, D) as PC-FractalDB does. Returns (S, T, D).

    All coordinates of a cloud together are scaled to a span of 2. Then the mean of each axis is subtracted. A cloud
    with a point that is not finite becomes NaN.
    """
    low, high = clouds.amin((1, 2), keepdim=True), clouds.amax((1, 2), keepdim=True)  # (S, 1, 1)
    scaled = (clouds - low) * torch.where(high > low, 2 / (high - low), 0)
    return scaled - scaled.mean(1, keepdim=True)


def axis_variances(clouds: Tensor) -> Tensor:
    """Return the variance (S, D) along each axis of clouds (S, T, D) with mean 0."""
    return clouds.square().mean(1)


def filling_rates(systems: Stack, points: int, size: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the share of pixels (S,), float64, that a chain of each system lights, as in FractalDB's search.

    Points that are NaN or infinite light no pixel.
    """
    chains = run_chains(systems, points, generators)  # (S, T, 2)
    low, high = bounding_box(chains)  # (S, 2), (S, 2)
    padding = size * _PADDING / 512
    placement = Placement(low, (size - 2 * padding) / (high - low), torch.full_like(low, padding))  # (S, 2)
    placement = Placement(*(part[:, None, None] for part in placement))  # (S, 1, 1, 2)
    pixels = placement.place_sequences(chains[:, None]).floor_()  # (S, T, 2)
    return rasterize_points(pixels, size).flatten(1).sum(1).double() / size**2


def run_chains(systems: Stack, points: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the points (S, T, D) of one chain of each system. The chain starts at the origin, which is left out."""
    count, maps, dimensions = systems.offset.shape
    index = draw_sequences(systems.probabilities, 1, points, generators)  # (S, 1, T)
    start = systems.offset.new_zeros(count, dimensions)
    return run_affine_chain(systems.matrix.flatten(0, 1), systems.offset.flatten(0, 1), join_index(index, maps), start)


def search(
    function: str,
    first_look: Judge,
    judge: Judge,
    count: int,
    *,
    points: int,
    maps: int | tuple[int, int],
    dimensions: int,
    seed: int,
    progress: bool,
    wanted: str,
) -> list[System]:
    """Draw systems with parameters that are uniform in [-1, 1], until `judge` has accepted `count` of them.

    The cheaper `first_look` rejects most candidates, and `judge` decides about the others with `points` points each.
    Raises `ValueError`, with the name of `function` and the property `wanted`, if fewer than about one candidate in
    2000 is accepted.
    """
    count = check_integer(function, "count", count, 1)
    seed = check_integer(function, "seed", seed, 0)
    bounds = check_range(function, "maps", maps)
    together = max(1, _POINTS_AT_ONCE // points)
    found: list[System] = []
    tried = 0
    with progress_bar(count, "class", "search", shown=progress) as bar:
        while len(found) < count:
            if tried >= _TRIES * (len(found) + _LUCK):
                raise ValueError(f"{function}: {wanted} ({len(found)} of {tried} reached it)")
            numbers = range(tried, tried + _TOGETHER)
            generators = [generator_of(seed, f"class in {dimensions} dimensions", number) for number in numbers]
            candidates = [_candidate(generator, bounds, dimensions) for generator in generators]
            near = places_of(first_look(Stack.of(candidates), generators))
            for part in parts(near, together):
                some, own = [candidates[number] for number in part], [generators[number] for number in part]
                found += [some[place] for place in places_of(judge(Stack.of(some), own))]
            tried += _TOGETHER
            bar.update(min(len(found), count) - bar.n)
    return [_named(system, f"{number:05}") for number, system in enumerate(found[:count])]


def _named(system: System, name: str) -> System:
    """Return a system, given in published axes, in the package's axes and with a name."""
    matrix, offset = from_right_and_up(system.matrix, system.offset)
    return dataclasses.replace(system, matrix=matrix, offset=offset, name=name)


def _candidate(generator: torch.Generator, maps: tuple[int, int], dimensions: int) -> System:
    """Draw a system with uniform parameters, in published axes. The probabilities follow from the determinants."""
    count = int(torch.randint(maps[0], maps[1] + 1, (), generator=generator, device="cpu"))
    shape = (count, dimensions, dimensions + 1)
    drawn = 2 * torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu") - 1  # (N, D, D + 1)
    matrix, offset = drawn[..., :-1], drawn[..., -1]
    weights = torch.linalg.det(matrix).abs()  # (N,)
    return System(matrix.contiguous(), offset.contiguous(), weights / weights.sum())
