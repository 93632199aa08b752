"""`python -m bench sweep`: the rasterizer with every block size that its tables may hold, on the GPU here.

From it kernels/rbf_rasterize_plan.py is to be written anew for an architecture: Triton tunes nothing at run time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from fractalops.kernels.rbf_rasterize_plan import GATHERS, Gather, Plan, Tile, divide_up, plan_forward
from torch import Tensor

from .cuda_timing import Gpu
from .rbf_rasterize_work import SHAPES, Picture
from .table import aligned, figure
from .timing import Spread

SIDES, BLOCKS, WARPS, PRECISIONS = (16, 32, 64), (16, 32, 64), (2, 4, 8), ("ieee", "tf32x3")
GATHERED, COLUMNS = (8, 16, 32, 64), (8, 16, 32)  # points and columns of a program of the backward

Sizes: TypeAlias = Plan | Gather
Run: TypeAlias = Callable[[Sizes], object]


@dataclass(frozen=True)
class Trial:
    """One choice of sizes for one shape, and what it took."""

    sizes: Sizes
    chosen: bool  # whether it is what the table holds now
    microseconds: Spread

    def row(self) -> list[str]:
        return [*describe(self.sizes), figure(self.microseconds, ""), "<-" if self.chosen else ""]


def describe(sizes: Sizes) -> list[str]:
    if isinstance(sizes, Gather):
        return [f"{sizes.points} x {sizes.columns}", str(sizes.warps), "", ""]
    tile = sizes.tile
    how = "bins" if sizes.binned else f"walk, {sizes.shares} shares" if sizes.shares > 1 else "walk"
    return [f"{tile.rows} x {tile.columns} x {tile.points}", str(tile.warps), tile.precision, how]


def plans(shape: Picture, capability: tuple[int, int]) -> Iterator[Plan]:
    """Of the forward. The table's own first; then each other tile by both routes, with as many shares as that has."""
    own = plan_forward(torch.float32, capability, shape.images, shape.length, 1, shape.side, shape.side)
    yield own
    for side, points, warps, precision in itertools.product(SIDES, BLOCKS, WARPS, PRECISIONS):
        tiles = divide_up(shape.side, side) ** 2
        for binned in (False, True) if tiles > 1 else (False,):
            tile = Tile(side, side, points, warps, precision)
            plan = replace(own, tile=tile, tiles=tiles, binned=binned, shares=1 if binned else own.shares)
            if plan != own:
                yield plan


def gathers() -> Iterator[Gather]:
    """Of the backward, the table's own first."""
    own = GATHERS[torch.float32]
    yield own
    yield from (each for sizes in itertools.product(GATHERED, COLUMNS, WARPS) if (each := Gather(*sizes)) != own)


def sweep(gpu: Gpu, run: Run, choices: Sequence[Sizes]) -> list[Trial]:
    """All choices for one shape, of which the first is the table's; the fastest first."""
    trials = [Trial(sizes, sizes is choices[0], gpu.timer(lambda sizes=sizes: run(sizes))) for sizes in choices]  # type: ignore[misc]
    return sorted(trials, key=lambda trial: trial.microseconds.median)


def forward(shape: Picture, device: torch.device) -> Callable[[Plan], Tensor]:
    """The forward of a shape by a plan, on points that lie evenly over the image."""
    from fractalops.kernels.rbf_rasterize import rbf_rasterize_fwd  # imports Triton

    points, bandwidth, _ = _inputs(shape, device)
    return lambda plan: rbf_rasterize_fwd(points, None, bandwidth, shape.side, shape.side, shape.cutoff, plan)


def backward(shape: Picture, device: torch.device) -> Callable[[Gather], tuple[Tensor, Tensor, Tensor]]:
    """The backward of a shape, without the bandwidth's gradient, as in a step of `fit`."""
    from fractalops.kernels.rbf_rasterize import rbf_rasterize_bwd  # imports Triton

    points, bandwidth, grad = _inputs(shape, device)
    return lambda gather: rbf_rasterize_bwd(grad, points, None, bandwidth, shape.cutoff, False, gather)


def _inputs(shape: Picture, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, T, 2), bandwidth (B,) and a gradient (B, 1, H, W)."""
    generator = torch.Generator(device).manual_seed(0)
    points = torch.rand(shape.images, shape.length, 2, device=device, generator=generator) * (shape.side - 1)
    grad = torch.rand(shape.images, 1, shape.side, shape.side, device=device, generator=generator)
    return points, torch.full((shape.images,), shape.bandwidth, device=device), grad


def print_sweep(gpu: Gpu | None, why_not: str) -> int:
    """A table for each shape and direction; 1 where there is no GPU, for this measures and does nothing else."""
    if gpu is None:
        print(f"sweep: nothing to measure on: {why_not}")
        return 1
    print(f"rbf_rasterize on {gpu.name}, microseconds [20th, 80th percentile]; <- is what the table holds")
    capability = torch.cuda.get_device_capability(gpu.device)
    for shape in SHAPES:
        runs: list[tuple[str, str, Run, list[Sizes]]] = [
            ("forward", "rows x columns x points", forward(shape, gpu.device), list(plans(shape, capability))),
            ("backward", "points x columns", backward(shape, gpu.device), list(gathers())),
        ]
        for direction, sizes, run, choices in runs:
            header = [sizes, "warps", "product", "route", "time", ""]
            rows = [trial.row() for trial in sweep(gpu, run, choices)]
            print(f"\n{direction}, {shape.name}", *aligned([header, *rows]), sep="\n")
    return 0
