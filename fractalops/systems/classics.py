"""Classic systems by name, with their sources.

The coefficients below are in the usual axes: x to the right, y up, and in space z toward the viewer.
`from_right_and_up` converts them to this package's axes, so that pictures show them upright.
"""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from fractalops.systems.axes import from_right_and_up
from fractalops.systems.dimension import similarity_dimension
from fractalops.systems.system import System

_GOLDEN = (1 + math.sqrt(5)) / 2

_Rows = Sequence[Sequence[float]]
_Maps = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Classic:
    """A classic system and its source."""

    name: str
    """Name of the system."""
    source: str
    """Author, year and title of the source. It describes the maps, or a curve or set that is their attractor."""
    build: Callable[[], _Maps]
    """Function that computes the maps. They are computed on first use to keep the import fast. It can be pickled."""
    open_set: bool
    """Whether the maps are similarities that satisfy the open set condition. Then the attractor's dimension is the
    similarity dimension (Hutchinson 1981)."""

    @cached_property
    def maps(self) -> _Maps:
        """Matrix (N, D, D), offset (N, D) and probabilities (N,) with sum 1, in the usual axes; float64."""
        return self.build()

    @property
    def system(self) -> System:
        """The system in this package's axes."""
        matrix, offset, probabilities = self.maps
        return System(*from_right_and_up(matrix, offset), probabilities, name=self.name)

    @property
    def dimension(self) -> float | None:
        """Fractal dimension of the attractor; None if it doesn't follow from the maps."""
        return similarity_dimension(self.system) if self.open_set else None


def classic(name: str) -> System:
    """Return a classic system by its name.

    Args:
        name: Name of the system, a key of `CLASSICS`: "fern", "triangle", "carpet", "dragon", "levy", "koch",
            "snowflake", "maple-leaf", "tree", "pentagon", "golden-dragon", "golden-spiral", "fern-3d", "tetrahedron" or
            "menger".

    Returns:
        A `System` in this package's axes, float64.

    Raises:
        ValueError: If the name is unknown.

    Examples:
        >>> from fractalops.systems import classic
        >>> classic("fern").points(1000).shape
        torch.Size([1000, 2])
    """
    if name not in CLASSICS:
        raise ValueError(f"classic: name must be one of {', '.join(CLASSICS)}, got {name!r}")
    return CLASSICS[name].system


def _table(name: str, source: str, rows: _Rows) -> Classic:
    """Return a classic from a table with one row for each map: the matrix, the translation and the probability."""
    return Classic(name, source, partial(_read_rows, rows), open_set=False)


def _read_rows(rows: _Rows) -> _Maps:
    values = torch.tensor(rows, dtype=torch.float64, device="cpu")  # (N, D D + D + 1)
    size = 2 if values.shape[1] == 7 else 3
    matrix, offset, probabilities = values.split([size * size, size, 1], 1)
    return matrix.unflatten(1, (size, size)), offset, probabilities[:, 0] / probabilities.sum()


def _spirals(name: str, source: str, maps: Sequence[tuple[complex, complex]]) -> Classic:
    """Return a classic of the similarities `z -> a z + b` of complex numbers."""
    return Classic(name, source, partial(_read_complex, maps), open_set=True)


def _read_complex(maps: Sequence[tuple[complex, complex]]) -> _Maps:
    a, b = (torch.tensor(part, dtype=torch.complex128, device="cpu") for part in zip(*maps, strict=True))  # (N,)
    matrix = torch.stack((a.real, -a.imag, a.imag, a.real), 1).view(-1, 2, 2)  # (N, 2, 2)
    return _similarities(matrix, torch.view_as_real(b))


def _shrunk(name: str, source: str, ratio: float, points: _Rows) -> Classic:
    """Return a classic of maps that shrink the plane or space by `ratio` toward each of N points (N, D)."""
    return Classic(name, source, partial(_shrink, ratio, points), open_set=True)


def _shrink(ratio: float, points: _Rows) -> _Maps:
    fixed = torch.tensor(points, dtype=torch.float64, device="cpu")  # (N, D)
    matrix = ratio * torch.eye(fixed.shape[1], dtype=torch.float64, device="cpu").repeat(len(fixed), 1, 1)
    return _similarities(matrix, (1 - ratio) * fixed)


def _similarities(matrix: Tensor, offset: Tensor) -> _Maps:
    """Return similarities with probabilities equal to the shares of the attractor in the maps' images.

    The share of a map is `r^d`, with its ratio r and the similarity dimension d of the system.
    """
    ratio = matrix[:, 0].norm(dim=1)  # (N,)
    dimension = similarity_dimension(System(matrix, offset, torch.ones_like(ratio)))
    assert dimension is not None
    shares = ratio**dimension  # (N,)
    return matrix, offset, shares / shares.sum()


def _polygon(sides: int) -> list[list[float]]:
    """Return the corners of a regular polygon with radius 1, the first corner at the top."""
    angles = [math.pi / 2 + 2 * math.pi * number / sides for number in range(sides)]
    return [[math.cos(angle), math.sin(angle)] for angle in angles]


def _turn(degrees: float) -> complex:
    return cmath.rect(1, math.radians(degrees))


def _golden_dragon() -> list[tuple[complex, complex]]:
    ratio = _GOLDEN ** (-1 / _GOLDEN)
    first = math.acos((1 + ratio**2 - ratio**4) / (2 * ratio))
    second = math.pi - math.acos((1 + ratio**4 - ratio**2) / (2 * ratio**2))
    return [(cmath.rect(ratio, first), 0), (cmath.rect(ratio**2, second), 1)]


# If a source has other axes, the maps are rotated so that pictures show the well-known orientation.
_ALL = (
    _table(
        "fern",
        "M. F. Barnsley 1988, Fractals Everywhere, table III.3",
        [
            [0, 0, 0, 0.16, 0, 0, 0.01],
            [0.85, 0.04, -0.04, 0.85, 0, 1.6, 0.85],
            [0.2, -0.26, 0.23, 0.22, 0, 1.6, 0.07],
            [-0.15, 0.28, 0.26, 0.24, 0, 0.44, 0.07],
        ],
    ),
    _shrunk(
        "triangle",
        "W. Sierpinski 1915, Sur une courbe dont tout point est un point de ramification",
        1 / 2,
        _polygon(3),
    ),
    _shrunk(
        "carpet",
        "W. Sierpinski 1916, Sur une courbe cantorienne",
        1 / 3,
        [[x / 2, y / 2] for x, y in itertools.product(range(3), repeat=2) if (x, y) != (1, 1)],
    ),
    _spirals(
        "dragon",
        "J. E. Heighway 1966, in C. Davis and D. E. Knuth 1970, Number representations and dragon curves",
        [((1 + 1j) / 2, 0), ((-1 + 1j) / 2, 1)],
    ),
    _spirals(
        "levy",
        "P. Levy 1938, Les courbes planes ou gauches et les surfaces composees de parties semblables au tout",
        [((1 + 1j) / 2, 0), ((1 - 1j) / 2, (1 + 1j) / 2)],
    ),
    _spirals(
        "koch",
        "H. von Koch 1904, Sur une courbe continue sans tangente",
        [(1 / 3, 0), (_turn(60) / 3, 1 / 3), (_turn(-60) / 3, 1 / 3 + _turn(60) / 3), (1 / 3, 2 / 3)],
    ),
    _spirals(
        "snowflake",
        "H. von Koch 1904; its seven parts: A. Burns 1994, Fractal tilings",
        [(_turn(30) / math.sqrt(3), 0), *((1 / 3, 2 / 3 * complex(*corner)) for corner in _polygon(6))],
    ),
    _table(
        "maple-leaf",
        "P. Bourke, Iterated function systems (paulbourke.net/fractals/ifs)",
        [
            [0.14, 0.01, 0, 0.51, -0.08, -1.31, 0.10],
            [0.43, 0.52, -0.45, 0.50, 1.49, -0.75, 0.35],
            [0.45, -0.49, 0.47, 0.47, -1.62, -0.74, 0.35],
            [0.49, 0, 0, 0.51, 0.02, 1.62, 0.20],
        ],
    ),
    _table(
        "tree",
        "Stone Soup Group, Fractint, fractint.ifs: tree",
        [
            [0, 0, 0, 0.5, 0, 0, 0.05],
            [0.42, -0.42, 0.42, 0.42, 0, 0.2, 0.4],
            [0.42, 0.42, -0.42, 0.42, 0, 0.2, 0.4],
            [0.1, 0, 0, 0.1, 0, 0.2, 0.15],
        ],
    ),
    _shrunk(
        "pentagon",
        "L. Riddle, Classic Iterated Function Systems: Sierpinski pentagon",
        2 - _GOLDEN,
        _polygon(5),
    ),
    _spirals("golden-dragon", "L. Riddle, Classic Iterated Function Systems: golden dragon", _golden_dragon()),
    # The book rounds the first ratio, 0.8986, to 0.9.
    _spirals(
        "golden-spiral",
        "The Chaos Game (chaosgame.drwhy.ai), 4.5, with the golden ratio a quarter turn",
        [(_GOLDEN ** (-20 / 90) * _turn(20), 0), (0.1 * _turn(20), 1)],
    ),
    _table(
        "fern-3d",
        "Stone Soup Group, Fractint, fractint.ifs: 3dfern",
        [
            [0, 0, 0, 0, 0.18, 0, 0, 0, 0, 0, 0, 0, 0.01],
            [0.85, 0, 0, 0, 0.85, 0.1, 0, -0.1, 0.85, 0, 1.6, 0, 0.85],
            [0.2, -0.2, 0, 0.2, 0.2, 0, 0, 0, 0.3, 0, 0.8, 0, 0.07],
            [-0.2, 0.2, 0, 0.2, 0.2, 0, 0, 0, 0.3, 0, 0.8, 0, 0.07],
        ],
    ),
    _shrunk(
        "tetrahedron",
        "B. B. Mandelbrot 1982, The Fractal Geometry of Nature, plate 143",
        1 / 2,
        [[0, 1, 0], *([math.sqrt(8) / 3 * x, -1 / 3, math.sqrt(8) / 3 * y] for x, y in _polygon(3))],
    ),
    _shrunk(
        "menger",
        "K. Menger 1926, Allgemeine Raeume und Cartesische Raeume",
        1 / 3,
        [[c / 2 for c in cell] for cell in itertools.product(range(3), repeat=3) if cell.count(1) < 2],
    ),
)

CLASSICS: dict[str, Classic] = {each.name: each for each in _ALL}
"""All classic systems by name."""
