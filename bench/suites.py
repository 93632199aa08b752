"""The shapes and contests that are measured. In a contest, several backends are timed in turn on the same work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import fractalops
from fractalops.placement import DEFAULT_VIEWPORT, fold_viewport

CUTOFF = 1e-6
CHAIN_FORMS = ("chosen by the op", "one lane per sequence", "scan")
"""The forms of the chain on a GPU, by the number that its raw op takes."""
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
COUNTED = ("binary", "density", "binary, 3 x 3 patches", "density, 3 x 3 patches")
"""The modes of `rasterize_points`, used as directions."""
PRETRAINED = ("fractaldb", "own")
"""The rules of `FractalDataset`, used as directions."""
LEARNED = "1 image, default settings"
BESIDE = ", beside busy processes"
"""Suffix of a direction of `fit`: at the same time, as many busy processes run as `fit` has threads."""
BACKENDS = ("native", "reference", "compiled", "separable", "dense")
"""The backends of each op."""
EAGER = tuple(backend for backend in BACKENDS if backend != "compiled")
"""The backends without a compiler, which takes up to a minute for a function."""


@dataclass(frozen=True)
class Case:
    """Sequences of one random system (Anderson and Farrell 2022), drawn on square images."""

    name: str
    sequences: int  # B
    points: int  # T, points of a sequence
    maps: int  # N
    side: int  # H = W, in pixels
    bandwidth: float = 1.0  # tau, in square pixels

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.side, self.side

    @property
    def all_points(self) -> int:
        """The number of points of all sequences."""
        return self.sequences * self.points

    @property
    def radius(self) -> int:
        """The radius r of a window, which is 2 r + 1 pixels wide."""
        return max(math.ceil(math.sqrt(-self.bandwidth * math.log(CUTOFF)) - 0.5), 0)

    def cut(self, sequences: int, points: int) -> Case:
        """Return the case with at most `sequences` sequences and at most `points` points in each."""
        return replace(self, sequences=min(self.sequences, sequences), points=min(self.points, points))

    def inputs(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the inputs of the chain in a step of `fit` with the published viewport.

        These are matrix (N, 2, 2), offset (N, 2), index (B, T) and start (B, 2). The index is uint8 or int32. The other
        tensors are float32 and in pixels.
        """
        generator = torch.Generator().manual_seed(seed)
        system = fractalops.IFS(1, self.maps, generator=generator)
        index = system.sample(self.sequences, self.points, generator=generator)
        with torch.no_grad():
            matrix, offset, index, start = system.concatenated(index)
            matrix, offset, start = fold_viewport(matrix, offset, start, self.size, DEFAULT_VIEWPORT)
        return matrix, offset, index, start

    def cloud(self, seed: int = 0) -> Tensor:
        """Return the points (B, T, 2) of the chain, for the rasterizer alone."""
        return fractalops.affine_chain(*self.inputs(seed), backend="native")


PAPER = Case("paper", sequences=50, points=300, maps=10, side=32)
PRETRAINING = Case("pre-training", sequences=1, points=100_000, maps=4, side=256)
FRACTALDB = Case("FractalDB", sequences=1, points=200_000, maps=5, side=362)
HIGH_RESOLUTION = Case("high resolution", sequences=1, points=10**6, maps=10, side=1024)
LARGE_BATCH = Case("large batch", sequences=10**5, points=300, maps=10, side=32)
LONG_CHAIN = Case("long chain", sequences=1, points=10**7, maps=10, side=1024)
SPREADING = Case("spreading", sequences=1, points=10**6, maps=1, side=256)
GRID = (PAPER, PRETRAINING, HIGH_RESOLUTION, LARGE_BATCH, LONG_CHAIN)

# Sweeps of the paper's shape, in which one size varies: the field of Case, the label of its axis, and its values.
SWEEPS = {
    "points": ("points of a sequence", (30, 100, 300, 1000, 3000, 10_000)),
    "sequences": ("sequences", (5, 16, 50, 160, 500, 1600)),
    "side": ("side of an image, pixels", (16, 32, 64, 128, 256, 512)),
    "maps": ("maps", (2, 5, 10, 30, 100, 300)),
    "radius": ("radius of the window, pixels", (2, 3, 4, 6, 8, 12)),
}


def sweep(variable: str) -> list[Case]:
    """Return the cases of SWEEPS[variable], by ascending size."""
    _, values = SWEEPS[variable]
    if variable == "radius":
        # Bandwidths just below those at which the window grows by a pixel. Wide windows need a larger image.
        wide = replace(PAPER, side=64)
        return [replace(wide, name=f"radius {r}", bandwidth=0.999 * (r + 0.5) ** 2 / -math.log(CUTOFF)) for r in values]
    return [replace(PAPER, name=f"{variable} {value}", **{variable: value}) for value in values]


@dataclass(frozen=True)
class Contest:
    """One op in one direction on one case, and the backends that run it."""

    suite: str
    op: str
    direction: str
    case: Case
    backends: tuple[str, ...]
    threads: str = "each"  # runs with "each" measured number of threads, or only the "least" or the "most"

    def counts(self, threads: Sequence[int]) -> Sequence[int]:
        """Return the numbers of threads with which the contest is run."""
        ordered = sorted(threads)
        return {"each": ordered, "least": ordered[:1], "most": ordered[-1:]}[self.threads]

    def __str__(self) -> str:
        return f"{self.op}, {self.direction}, {self.case.name}"


def _op(op: str, directions: tuple[str, ...] = (FORWARD, BACKWARD, BOTH)) -> list[Contest]:
    """Return the contests of an op on the cases of the grid."""
    cases = [case for case in GRID if case != LONG_CHAIN or op == "affine_chain"]
    # Compiled code can't repeat a backward without its forward.
    compiled = (PAPER, BOTH) if op != "affine_chain" else None
    return [
        Contest(op, op, each, case, BACKENDS if (case, each) == compiled else EAGER)
        for case in cases
        for each in directions
    ]


def _counting() -> list[Contest]:
    op, case = "rasterize_points", replace(PRETRAINING, sequences=10)  # ten images in a call
    return [Contest(op, op, each, case, ("native", "numba"), "least") for each in COUNTED]


def _pretraining() -> list[Contest]:
    """Return the contests against loops over points, one image a call."""
    return [
        Contest("pretrain", "pretrain", each, FRACTALDB, ("native", "numba", "python"), "least") for each in PRETRAINED
    ]


def _fit() -> list[Contest]:
    """Return contests of `fit` with the published and the default settings, alone and beside busy processes."""
    return [
        Contest("fit", "fit", "1 image", PAPER, ("native",), "most"),
        Contest("fit", "fit", LEARNED, PAPER, ("native",)),
        Contest("fit", "fit", LEARNED + BESIDE, PAPER, ("native", "one thread"), "most"),
    ]


def _fit_many() -> list[Contest]:
    settings = ("100 images", "100 images, default settings")
    return [Contest("fit_many", "fit", each, PAPER, ("native",), "most") for each in settings]


def _scaling() -> list[Contest]:
    """Return the contests of render, forward and backward, in which one size grows."""
    cases = [case for variable in SWEEPS for case in sweep(variable)]
    return [Contest("scaling", "render", BOTH, case, EAGER, "least") for case in cases]


SUITES: dict[str, Callable[[], list[Contest]]] = {
    "affine_chain": lambda: _op("affine_chain"),
    "rbf_rasterize": lambda: _op("rbf_rasterize"),
    "render": lambda: _op("render", (FORWARD, BOTH)),
    "rasterize_points": _counting,
    "pretrain": _pretraining,
    "step": lambda: [Contest("step", "step", "optimization step", PAPER, ("native", "reference", "ops alone"))],
    "spreading": lambda: [Contest("spreading", "spreading", FORWARD, SPREADING, ("native", "finufft"))],
    "fit": _fit,
    "fit_many": _fit_many,
    "scaling": _scaling,
}
SLOW = ("fit_many", "pretrain")
"""Suites that run only if they are named."""
