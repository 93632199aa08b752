"""Time the rasterizer on a GPU with every block size that its tables can have: `python -m bench sweep`.

The tables in kernels/rbf_rasterize_plan.py are written by hand from the results for an architecture, because nothing
is tuned at run time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from fractalops.kernels.rbf_rasterize_plan import GATHERS, Gather, Plan, Tile, divide_up, plan_forward

from .cuda_timing import CudaClock, missing_gpu
from .suites import CUTOFF, HIGH_RESOLUTION, PAPER, Case
from .table import aligned, shape_text, spread_text
from .timing import Spread

SHAPES = (PAPER, Case("100 images", sequences=5000, points=300, maps=1000, side=32), HIGH_RESOLUTION)
SIDES, BLOCKS, WARPS, PRECISIONS = (16, 32, 64), (16, 32, 64), (2, 4, 8), ("ieee", "tf32x3")
GATHERED, COLUMNS = (8, 16, 32, 64), (8, 16, 32)  # points and columns of a program in the backward

Sizes: TypeAlias = Plan | Gather
Run: TypeAlias = Callable[..., object]  # a function of the sizes
Timer: TypeAlias = Callable[[Callable[[], object]], Spread]  # returns microseconds of one call


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each shape and direction. Return 1 if no GPU can be measured, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m bench sweep", description="Time the rasterizer on the GPU of this machine with all block sizes."
    )
    parser.parse_args(argv)
    missing = missing_gpu()
    if missing:
        print(f"sweep: no GPU can be measured: {missing}")
        return 1
    clock = CudaClock()

    def timer(function: Callable[[], object]) -> Spread:
        with clock:
            return Spread.of(clock.time({"it": [function]}, 3)["it"]).scaled(1e6)

    name = torch.cuda.get_device_name()
    print(f"rbf_rasterize on {name}, microseconds [20th, 80th percentile]; <- marks the sizes in use")
    for table in tables(torch.device("cuda"), torch.cuda.get_device_capability(), timer):
        print(f"\n{table}")
    return 0


def tables(device: torch.device, capability: tuple[int, int], timer: Timer) -> Iterator[str]:
    """Yield a table for each shape and direction, with the fastest sizes first."""
    for shape in SHAPES:
        runs: list[tuple[str, str, Run, list[Sizes]]] = [
            ("forward", "rows x columns x points", forward(shape, device), list(plans(shape, capability))),
            ("backward", "points x columns", backward(shape, device), list(gathers())),
        ]
        for direction, sizes, run, choices in runs:
            trials = [(timer(functools.partial(run, choice)), choice) for choice in choices]
            trials.sort(key=lambda trial: trial[0].median)
            rows = [
                [*describe(choice), spread_text(took), "<-" if choice is choices[0] else ""] for took, choice in trials
            ]
            header = [sizes, "warps", "product", "route", "time", ""]
            yield "\n".join([f"{direction}, {shape_text(shape)}", *aligned([header, *rows])])


def describe(sizes: Sizes) -> list[str]:
    """Return the cells of a row that describe the sizes."""
    if isinstance(sizes, Gather):
        return [f"{sizes.points} x {sizes.columns}", str(sizes.warps), "", ""]
    tile = sizes.tile
    how = "bins" if sizes.binned else f"walk, {sizes.shares} shares" if sizes.shares > 1 else "walk"
    return [f"{tile.rows} x {tile.columns} x {tile.points}", str(tile.warps), tile.precision, how]


def plans(shape: Case, capability: tuple[int, int]) -> Iterator[Plan]:
    """Yield the plan in use for the forward, then all other tiles with both routes.

    Plans without bins have as many shares as the plan in use.
    """
    own = plan_forward(torch.float32, capability, shape.sequences, shape.points, 1, shape.side, shape.side)
    yield own
    for side, points, warps, precision in itertools.product(SIDES, BLOCKS, WARPS, PRECISIONS):
        tiles = divide_up(shape.side, side) ** 2
        for binned in (False, True) if tiles > 1 else (False,):
            tile = Tile(side, side, points, warps, precision)
            plan = replace(own, tile=tile, tiles=tiles, binned=binned, shares=1 if binned else own.shares)
            if plan != own:
                yield plan


def gathers() -> Iterator[Gather]:
    """Yield the sizes in use for the backward, then all others."""
    own = GATHERS[torch.float32]
    yield own
    yield from (each for sizes in itertools.product(GATHERED, COLUMNS, WARPS) if (each := Gather(*sizes)) != own)


def forward(shape: Case, device: torch.device) -> Callable[[Plan], Tensor]:
    """Return the forward on a shape as a function of the plan. Points are uniformly distributed in the image."""
    from fractalops.kernels.rbf_rasterize import rbf_rasterize_fwd  # imports Triton

    points, bandwidth, _ = _inputs(shape, device)
    return lambda plan: rbf_rasterize_fwd(points, None, bandwidth, shape.side, shape.side, CUTOFF, plan)


def backward(shape: Case, device: torch.device) -> Callable[[Gather], tuple[Tensor, Tensor, Tensor]]:
    """Return the backward on a shape as a function of the sizes, without the bandwidth's gradient, as in `fit`."""
    from fractalops.kernels.rbf_rasterize import rbf_rasterize_bwd  # imports Triton

    points, bandwidth, grad = _inputs(shape, device)
    return lambda gather: rbf_rasterize_bwd(grad, points, None, bandwidth, CUTOFF, False, gather)


def _inputs(shape: Case, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return points (B, T, 2), bandwidth (B,) and a gradient (B, 1, H, W)."""
    generator = torch.Generator(device).manual_seed(0)
    points = torch.rand(shape.sequences, shape.points, 2, device=device, generator=generator) * (shape.side - 1)
    grad = torch.rand(shape.sequences, 1, shape.side, shape.side, device=device, generator=generator)
    return points, torch.full((shape.sequences,), shape.bandwidth, device=device), grad
