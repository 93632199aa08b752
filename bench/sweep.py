"""Time the rasterizer with all block sizes and the chain with all forms on a GPU: `python -m bench sweep`.

The constants in kernels/rbf_rasterize_plan.py and csrc/cuda/affine_chain_plan.h are set by hand from these tables,
because nothing is tuned at run time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TypeAlias

import torch
from torch import Tensor

from fractalops.kernels.rbf_rasterize_plan import GATHERS, Gather, Plan, Tile, divide_up, plan_forward

from .cuda_timing import CudaClock, missing_gpu
from .records import emit
from .suites import BACKWARD, CHAIN_FORMS, CUTOFF, FORWARD, HIGH_RESOLUTION, PAPER, Case
from .table import aligned, shape_text, spread_text
from .timing import Spread

SHAPES = (PAPER, Case("100 images", sequences=5000, points=300, maps=1000, side=32), HIGH_RESOLUTION)
CHAIN_SHAPES = (PAPER, SHAPES[1], replace(PAPER, sequences=5), Case("one sequence", 1, 100_000, 10, side=32))
SIDES, BLOCKS, WARPS, PRECISIONS = (16, 32, 64), (16, 32, 64), (2, 4, 8), ("ieee", "tf32x3")
GATHERED, COLUMNS = (8, 16, 32, 64), (8, 16, 32)  # points and columns of a program in the backward

Sizes: TypeAlias = Plan | Gather | int  # an int is a form of the chain
Run: TypeAlias = Callable[..., object]  # a function of the sizes
Timer: TypeAlias = Callable[[Callable[[], object]], Spread]  # returns microseconds of one call


@dataclass(frozen=True)
class Sweep:
    """A function and the choices with which it is timed. The first choice is the one in use."""

    title: str
    header: str
    run: Run
    choices: list[Sizes]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each shape and direction. Return 1 if no GPU can be measured or a kernel doesn't compile."""
    parser = argparse.ArgumentParser(
        prog="python -m bench sweep",
        description="Time the rasterizer with all block sizes and the chain with all forms on the GPU of this machine.",
    )
    parser.add_argument(
        "--records", action="store_true", help="print each time as a line of JSON as soon as it is measured"
    )
    parser.add_argument(
        "--compile", type=int, metavar="N", help="only compile the kernels into Triton's cache, with N processes"
    )
    options = parser.parse_args(argv)
    missing = missing_gpu()
    if missing:
        print(f"sweep: no GPU can be measured: {missing}")
        return 1
    if options.compile is not None:
        return compile_all(options.compile)
    clock = CudaClock(seconds=0.2)

    def timer(function: Callable[[], object]) -> Spread:
        with clock:  # as a graph: for small shapes, the launches take longer than the kernels
            replay = clock.ready(function, as_graph=True)
            return Spread.of(clock.time({"it": [replay]}, 3)["it"]).scaled(1e6)

    print(f"on {torch.cuda.get_device_name()}, microseconds [20th, 80th percentile]; <- marks the choice in use")
    for sweep in sweeps(torch.device("cuda"), torch.cuda.get_device_capability()):
        print(f"\n{table(sweep, timer, options.records)}", flush=True)
    return 0


def compile_all(processes: int) -> int:
    """Run each choice of the rasterizer's sweeps once, with several processes. Return 1 if one fails, else 0."""
    with get_context("spawn").Pool(processes) as pool:
        return int(any(pool.starmap(_compile_share, [(share, processes) for share in range(processes)])))


def _compile_share(share: int, shares: int) -> bool:
    """Run the choices of one of `shares` processes. Return whether one failed."""
    failed = False
    every = sweeps(torch.device("cuda"), torch.cuda.get_device_capability())
    jobs = [(sweep, choice) for sweep in every for choice in sweep.choices if not isinstance(choice, int)]
    for sweep, choice in jobs[share::shares]:
        try:
            sweep.run(choice)
            torch.cuda.synchronize()
        except Exception as error:  # any error of a compiler or a driver
            print(f"{sweep.title}: {choice}: {error}", file=sys.stderr)
            failed = True
    return failed


def sweeps(device: torch.device, capability: tuple[int, int]) -> Iterator[Sweep]:
    """Yield a sweep for each shape and direction, the short ones first."""
    for shape in CHAIN_SHAPES:
        for direction, run in zip((FORWARD, BACKWARD), chain(shape, device), strict=True):
            yield Sweep(f"affine_chain, {direction}, {shape_text(shape)}", "form", run, [*range(len(CHAIN_FORMS))])
    for shape in SHAPES:
        title = shape_text(shape)
        runs = forward(shape, device), backward(shape, device)
        yield Sweep(f"rbf_rasterize, forward, {title}", "rows x columns x points", runs[0], [*plans(shape, capability)])
        yield Sweep(f"rbf_rasterize, backward, {title}", "points x columns", runs[1], [*gathers()])


def table(sweep: Sweep, timer: Timer, records: bool = False) -> str:
    """Return the table of a sweep, with the fastest choice first."""
    trials = []
    failed = []
    for choice in sweep.choices:
        try:
            took = timer(functools.partial(sweep.run, choice))
        except Exception as error:  # raised by a compiler, or by a driver when a block needs too much shared memory
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failed.append([*describe(choice), f"failed: {reason}"[:100], ""])
            continue
        trials.append((took, choice))
        if records:
            emit(sweep=sweep.title, choice=describe(choice), microseconds=took.median)
    trials.sort(key=lambda trial: trial[0].median)
    own = sweep.choices[0]
    rows = [[*describe(choice), spread_text(took), "<-" if choice is own else ""] for took, choice in trials]
    header = [sweep.header, "warps", "product", "route", "time", ""]
    return "\n".join([sweep.title, *aligned([header, *rows, *failed])])


def describe(sizes: Sizes) -> list[str]:
    """Return the cells of a row that describe the sizes."""
    if isinstance(sizes, int):
        return [CHAIN_FORMS[sizes], "", "", ""]
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


def chain(shape: Case, device: torch.device) -> tuple[Callable[[int], Tensor], Callable[[int], tuple[Tensor, ...]]]:
    """Return the forward and the backward of the chain on a shape as functions of the form."""
    matrix, offset, index, start = (each.to(device) for each in shape.inputs())
    ops = torch.ops.fractalops
    points = ops.affine_chain_fwd(matrix, offset, index, start)  # (B, T, 2)
    grad = torch.ones_like(points)
    return (
        lambda form: ops.affine_chain_fwd(matrix, offset, index, start, form),
        lambda form: ops.affine_chain_bwd(grad, matrix, index, start, points, form),
    )


def _inputs(shape: Case, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return points (B, T, 2), bandwidth (B,) and a gradient (B, 1, H, W)."""
    generator = torch.Generator(device).manual_seed(0)
    points = torch.rand(shape.sequences, shape.points, 2, device=device, generator=generator) * (shape.side - 1)
    grad = torch.rand(shape.sequences, 1, shape.side, shape.side, device=device, generator=generator)
    return points, torch.full((shape.sequences,), shape.bandwidth, device=device), grad
