"""`python -m bench sweep`: the rasterizer's forward with every block size that its table may hold, on the GPU here.

From it kernels/rbf_rasterize_plan.py is to be written anew for an architecture: Triton tunes nothing at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from fractalops.kernels.rbf_rasterize_plan import Plan, Tile, divide_up, plan_forward

from bench.cuda_timing import Gpu
from bench.rbf_rasterize_work import SHAPES, Picture
from bench.table import aligned, figure
from bench.timing import Spread

SIDES, BLOCKS, WARPS, PRECISIONS = (16, 32, 64), (16, 32, 64), (2, 4, 8), ("ieee", "tf32x3")


@dataclass(frozen=True)
class Trial:
    """One plan for one shape, and what it took."""

    shape: Picture
    plan: Plan
    chosen: bool  # whether it is what the table holds now
    microseconds: Spread

    def row(self) -> list[str]:
        tile, plan = self.plan.tile, self.plan
        how = "bins" if plan.binned else f"walk, {plan.shares} shares" if plan.shares > 1 else "walk"
        size = f"{tile.rows} x {tile.columns} x {tile.points}"
        return [size, str(tile.warps), tile.precision, how, figure(self.microseconds, ""), "<-" if self.chosen else ""]


def plans(shape: Picture, capability: tuple[int, int]) -> Iterator[Plan]:
    """The table's own first; then each other tile by both routes, with as many shares as the table gives."""
    own = plan_forward(torch.float32, capability, shape.images, shape.length, 1, shape.side, shape.side)
    yield own
    for side in SIDES:
        tiles = divide_up(shape.side, side) ** 2
        for points in BLOCKS:
            for warps in WARPS:
                for precision in PRECISIONS:
                    for binned in (False, True) if tiles > 1 else (False,):
                        tile = Tile(side, side, points, warps, precision)
                        plan = replace(own, tile=tile, tiles=tiles, binned=binned, shares=1 if binned else own.shares)
                        if plan != own:
                            yield plan


def sweep(gpu: Gpu, shape: Picture) -> list[Trial]:
    """All plans for one shape, the fastest first."""
    capability = torch.cuda.get_device_capability(gpu.device)
    own, *others = plans(shape, capability)
    run = forward(shape, gpu.device)
    trials = [Trial(shape, plan, plan == own, gpu.timer(lambda plan=plan: run(plan))) for plan in (own, *others)]  # type: ignore[misc]
    return sorted(trials, key=lambda trial: trial.microseconds.median)


def forward(shape: Picture, device: torch.device) -> Callable[[Plan], torch.Tensor]:
    """The forward of a shape by a plan, on points that lie evenly over the image."""
    from fractalops.kernels.rbf_rasterize import rbf_rasterize_fwd  # imports Triton

    generator = torch.Generator(device).manual_seed(0)
    points = torch.rand(shape.images, shape.length, 2, device=device, generator=generator) * (shape.side - 1)
    bandwidth = torch.full((shape.images,), shape.bandwidth, device=device)

    def run(plan: Plan) -> torch.Tensor:
        image: torch.Tensor = rbf_rasterize_fwd(points, None, bandwidth, shape.side, shape.side, shape.cutoff, plan)
        return image

    return run


def print_sweep(gpu: Gpu | None, why_not: str) -> int:
    """A table for each shape; 1 where there is no GPU, for this measures and does nothing else."""
    if gpu is None:
        print(f"sweep: nothing to measure on: {why_not}")
        return 1
    print(f"forward of rbf_rasterize on {gpu.name}, microseconds [20th, 80th percentile]; <- is what the table holds")
    for shape in SHAPES:
        header = ["rows x columns x points", "warps", "product", "route", "time", ""]
        print(f"\n{shape.name}", *aligned([header, *(trial.row() for trial in sweep(gpu, shape))]), sep="\n")
    return 0
