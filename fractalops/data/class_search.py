"""Classes as the published data sets of fractals find them: random maps that fill their picture, or space."""

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

_PADDING = 6  # pixels beside the picture's attractor, of 512
_TOGETHER = 64  # candidates that are drawn together
_TRIES = 2000  # candidates for one that is taken, on average
_LUCK = 3  # such classes by which the average may lag behind: the first may be long in coming
_COARSER = 4  # a first look has that part of the side, and as many points a pixel as the picture
_TOLERANCE = 0.95  # of the rate, in the first look
_SPREAD_TOLERANCE = 0.7  # of the variance, in the first look in space
_POINTS_AT_ONCE = 2**19  # so that they stay in the cache

# What says which of some candidates are taken (S,), from their systems and generators.
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
    """Search for random systems of the plane that fill their picture, the classes of FractalDB.

    As in the published search (Kataoka et al. 2020, "Pre-training without Natural Images", `ifs_search.py`): the number
    of maps and all parameters are uniform, those in [-1, 1], the probabilities go by `|det A|`, and a system is taken
    whose `points`, from the origin on, light the share `rate` of all pixels, each axis stretched over the picture but
    for a margin of 6 pixels in 512. Many of its maps don't contract; about one system in 50 is taken. The random
    numbers are not the published ones. A look at a picture of a quarter of the side leaves most candidates out
    beforehand: of 55 that were dense enough, it lost none.

    Args:
        count: how many systems to find.
        rate: FractalDB's filling rate, in [0, 1).
        maps: of a system, a number or the least and the largest.
        size: of the picture, its side in pixels.
        points: of the picture.
        seed: of everything that is drawn; the first of many systems are those of fewer.
        progress: show a progress bar.

    Returns:
        Systems of float64, named "00000" and so on, with probabilities of sum 1.

    Raises:
        ValueError, TypeError: for an argument out of its range or of another type, for a rate that so many points can't
            reach at that size, and where hardly any system does.
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
    """Search for random systems in space that extend along each axis, the classes of PC-FractalDB.

    As in the published search (Yamada et al. 2022, "Point Cloud Pre-training with Natural 3D Structures",
    `category_search.py`): parameters as in `search_classes`, and a system is taken whose points, `normalized`, have a
    variance above `variance` along each axis. The random numbers are not the published ones.

    Args:
        count: how many systems to find.
        variance: above which that of each axis must lie, in [0, 1).
        maps: of a system, a number or the least and the largest.
        points: of a system, from the origin on.
        seed: of everything that is drawn; the first of many systems are those of fewer.
        progress: show a progress bar.

    Returns:
        Systems of float64, named "00000" and so on, with probabilities of sum 1.

    Raises:
        ValueError, TypeError: for an argument out of its range or of another type, and where hardly any system does.
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
    """Scale clouds (S, T, D) as PC-FractalDB does.

    All coordinates together are scaled to a span of 2; then the mean of each axis is taken off. A cloud with a point
    that is not finite becomes NaN.
    """
    low, high = clouds.amin((1, 2), keepdim=True), clouds.amax((1, 2), keepdim=True)  # (S, 1, 1)
    scaled = (clouds - low) * torch.where(high > low, 2 / (high - low), 0)
    return scaled - scaled.mean(1, keepdim=True)


def axis_variances(clouds: Tensor) -> Tensor:
    """Return the variance (S, D) of clouds (S, T, D) of mean 0 along each axis."""
    return clouds.square().mean(1)


def filling_rates(systems: Stack, points: int, size: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the share of pixels (S,), float64, that chains from the origin light, as in FractalDB's search.

    Points that are NaN or infinite light nothing.
    """
    chains = run_chains(systems, points, generators)  # (S, T, 2)
    low, high = bounding_box(chains)  # (S, 2), (S, 2)
    padding = size * _PADDING / 512
    placement = Placement(low, (size - 2 * padding) / (high - low), torch.full_like(low, padding))  # (S, 2)
    placement = Placement(*(part[:, None, None] for part in placement))  # (S, 1, 1, 2)
    pixels = placement.place_sequences(chains[:, None]).floor_()  # (S, T, 2)
    return rasterize_points(pixels, size).flatten(1).sum(1).double() / size**2


def run_chains(systems: Stack, points: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the points (S, T, D) of one chain of each system, the first map's image of the origin first."""
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
    """Draw systems of uniform parameters in [-1, 1] until `judge`, which draws `points`, has taken `count` of them.

    It sees those that a cheaper first look has not left out. Raises `ValueError`, on behalf of `function`, with what is
    `wanted` where less than one in 2000 is taken, or hardly more.
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
                raise ValueError(f"{function}: {wanted}, which {len(found)} of {tried} do")
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
    """Return a system of the published axes in the package's own, with a name."""
    matrix, offset = from_right_and_up(system.matrix, system.offset)
    return dataclasses.replace(system, matrix=matrix, offset=offset, name=name)


def _candidate(generator: torch.Generator, maps: tuple[int, int], dimensions: int) -> System:
    """Draw a system of uniform parameters, in published axes, its probabilities by the determinants."""
    count = int(torch.randint(maps[0], maps[1] + 1, (), generator=generator, device="cpu"))
    shape = (count, dimensions, dimensions + 1)
    drawn = 2 * torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu") - 1  # (N, D, D + 1)
    matrix, offset = drawn[..., :-1], drawn[..., -1]
    weights = torch.linalg.det(matrix).abs()  # (N,)
    return System(matrix.contiguous(), offset.contiguous(), weights / weights.sum())
