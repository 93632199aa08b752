"""Compare the ops on a GPU with the float64 reference on the CPU in seconds: `python -m bench.gpu.check_ops`.

This is a first check, which does not need pytest. The tests compare much more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import torch
from torch import Tensor

import fractalops
from fractalops.kernels.rbf_rasterize_plan import MOST_CHANNELS, Plan, Tile, divide_up, power_of_2
from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.rasterize_points import Mode
from fractalops.reference import affine_chain as chain_reference
from fractalops.reference import rbf_rasterize as raster_reference

from ..agreement import CHAIN_TOLERANCE, TOLERANCE_PER_PIXEL, relative_error
from ..records import Record, run_all
from ..suites import CHAIN_FORMS

DOUBLE_TOLERANCE = 1e-12  # for float64, relative to the largest magnitude
REPEATS = 10  # repeated calls, which must give the same bits
Results = tuple[Tensor, ...]

# Shapes B, T, N, D of the chain. They have several warps, one map, maps that don't fit into shared memory, or many
# sequences.
CHAINS = ((50, 300, 10, 2), (3, 33, 1, 3), (1, 7001, 300, 2), (33, 1000, 5000, 2), (700, 31, 10, 3))
FORMS = {"cuda": (1, 2), "cpu": (0,)}  # the CPU has one
SMALL, LARGE = Tile(16, 16, 32, 2, "tf32x3"), Tile(32, 32, 32, 4, "tf32x3")
# Cases of the rasterizer: B, T, H, W, C (0: no weights), bandwidth, cutoff, tile, and whether points are binned.
RASTERS: tuple[tuple[int, int, int, int, int, float, float, Tile | None, bool], ...] = (
    (50, 300, 32, 32, 0, 1.0, 1e-6, None, False),
    (600, 40, 32, 32, 3, 1.0, 1e-6, None, False),
    (2, 301, 64, 40, 3, 4.0, 1e-3, LARGE, True),
    (2, 500, 100, 31, 1, 0.3, 1e-6, SMALL, True),
    (2, 500, 100, 31, 2, 30.0, 0.0, LARGE, False),
    (1, 1, 1, 1, 0, 1.0, 1e-6, None, False),
)
DRAWS = ((16, 5, 300, 10), (1, 50, 300, 10), (2, 3, 1500, 23), (2, 2, 300, 300))  # S, K, T, N


def main() -> int:
    """Check all ops on the GPU. Return 1 if one is wrong, else 0."""
    return run_all(dict(checks(torch.device("cuda"))))


def checks(device: torch.device) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Yield the name and the function of each check."""
    for shape in CHAINS:
        for form in FORMS[device.type]:
            for dtype in (torch.float32, torch.float64):
                yield (
                    f"affine_chain {shape}, {CHAIN_FORMS[form]}, {_name(dtype)}",
                    partial(check_chain, shape, form, dtype, device),
                )
    for case in RASTERS:
        for dtype in (torch.float32, torch.float64) if case[7] is None else (torch.float32,):
            yield f"rbf_rasterize {case}, {_name(dtype)}", partial(check_raster, case, dtype, device)
    for draw in DRAWS:
        yield f"draw_balanced_index {draw}", partial(check_draw, draw, device)
    for mode in get_args(Mode):
        yield f"rasterize_points {mode}", partial(check_count, mode, device)
    yield "IFS trains after inference_mode", partial(check_inference_mode, device)
    yield "IFS under torch.compile", partial(check_compiled, device)


def check_chain(shape: tuple[int, int, int, int], form: int, dtype: torch.dtype, device: torch.device) -> Record:
    """Compare the chain's kernels of one form, forward and backward."""
    batch, length, maps, dimensions = shape
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(maps, dimensions, dimensions, generator=generator) - 0.5  # (N, D, D)
    offset, start = (torch.rand(count, dimensions, generator=generator) for count in (maps, batch))  # (N, D), (B, D)
    index = torch.randint(0, maps, (batch, length), generator=generator)  # (B, T)
    grad = torch.randn(batch, length, dimensions, generator=generator)  # (B, T, D)
    expected = _differentiated(
        lambda matrix, offset, start: chain_reference.affine_chain(matrix, offset, index, start),
        [matrix, offset, start],
        grad,
    )
    ops, placed = torch.ops.fractalops, [each.to(device, dtype) for each in (matrix, offset, start, grad)]
    numbers = index.to(device, torch.int32 if dtype == torch.float32 else torch.int64)

    def run() -> Results:
        matrix, offset, start, grad = placed
        points = ops.affine_chain_fwd(matrix, offset, numbers, start, form)
        return points, *ops.affine_chain_bwd(grad, matrix, numbers, start, points, form)

    return _compare(run, expected, DOUBLE_TOLERANCE if dtype == torch.float64 else CHAIN_TOLERANCE)


def plan_by(tile: Tile, channels: int, height: int, width: int, *, shares: int, binned: bool) -> Plan:
    """Return the plan of a forward with this tile, for images (C, H, W). C is 0 without weights."""
    group = min(power_of_2(channels or 1), MOST_CHANNELS[tile.rows])
    return Plan(tile, group, divide_up(height, tile.rows) * divide_up(width, tile.columns), shares, binned)


def check_raster(
    case: tuple[int, int, int, int, int, float, float, Tile | None, bool], dtype: torch.dtype, device: torch.device
) -> Record:
    """Compare the rasterizer's kernels, with their own plan or another. Some points are far away, infinite or NaN."""
    from fractalops.kernels import rbf_rasterize as kernels  # imports Triton

    batch, length, height, width, channels, square, cutoff, tile, binned = case
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(batch, length, 2, generator=generator) * torch.tensor([height + 4.0, width + 4.0]) - 2
    points[:, 7::70, 0], points[:, 8::70, 1], points[:, 9::70] = float("nan"), 1e30, float("inf")
    weight = torch.randn(batch, length, channels, generator=generator) if channels else None  # (B, T, C)
    bandwidth = torch.full((batch,), square)
    grad = torch.randn(batch, channels or 1, height, width, generator=generator)
    plan = None if tile is None else plan_by(tile, channels, height, width, shares=1 if binned else 2, binned=binned)
    expected = _differentiated(
        lambda points, bandwidth, *weight: raster_reference.rbf_rasterize(
            points, weight[0] if weight else None, bandwidth, height, width, cutoff
        ),
        [points, bandwidth, *([] if weight is None else [weight])],
        grad,
    )
    placed, tau, upstream = (each.to(device, dtype) for each in (points, bandwidth, grad))
    weights = None if weight is None else weight.to(device, dtype)

    def run() -> Results:
        image = kernels.rbf_rasterize_fwd(placed, weights, tau, height, width, cutoff, plan)
        to_points, to_weight, to_tau = kernels.rbf_rasterize_bwd(upstream, placed, weights, tau, cutoff, True)
        return image, to_points, to_tau, *([] if weights is None else [to_weight])

    return _compare(run, expected, DOUBLE_TOLERANCE if dtype == torch.float64 else TOLERANCE_PER_PIXEL * max(height, 8))


def check_draw(shape: tuple[int, int, int, int], device: torch.device) -> Record:
    """Compare the indices of balanced sequences. They must be equal."""
    systems, sequences, length, maps = shape
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(systems, maps, generator=generator).double()  # (S, N)
    uniform = torch.rand(systems, sequences, length, generator=generator)  # (S, K, T)
    expected = draw_balanced_index(weight, uniform, 1e-3, backend="reference")
    return _equal(draw_balanced_index(weight.to(device), uniform.to(device), 1e-3), expected)


def check_count(mode: Mode, device: torch.device) -> Record:
    """Compare counts of points with patches. They must be equal."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 5000, 2, generator=generator) * 80 - 5  # (B, T, 2)
    patch = torch.rand(3, 3, 3, generator=generator) > 0.4  # (B, 3, 3)
    expected = fractalops.rasterize_points(points, (70, 61), mode=mode, patch=patch, backend="reference")
    return _equal(fractalops.rasterize_points(points.to(device), (70, 61), mode=mode, patch=patch.to(device)), expected)


def check_inference_mode(device: torch.device) -> Record:
    """Check that training works after a call in `inference_mode`, whose tensors `IFS` may keep."""
    system = fractalops.IFS(1, 4, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        system((16, 16))
    system((16, 16)).sum().backward()
    return {"passed": all(parameter.grad is not None for parameter in system.parameters())}


def check_compiled(device: torch.device) -> Record:
    """Compare the value and the gradients of a compiled `IFS.forward` with those of the eager one."""
    system = fractalops.IFS(2, 5, generator=torch.Generator().manual_seed(0)).to(device)
    index = system.sample(3, 50)

    def measure() -> Tensor:
        loss: Tensor = system((16, 16), index=index).square().mean()
        return loss

    def run(function: Callable[[], Tensor]) -> Results:
        value = function()
        return value.detach(), *torch.autograd.grad(value, list(system.parameters()), allow_unused=False)

    expected = tuple(each.cpu().double() for each in run(measure))
    compiled = torch.compile(measure, fullgraph=True)
    return _compare(lambda: run(compiled), expected, 1e-5)


def _differentiated(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> Results:
    """Return the value of a function in float64 and the gradients of all inputs."""
    leaves = [each.double().requires_grad_() for each in inputs]
    value = function(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves, grad.double())


def _compare(run: Callable[[], Results], expected: Results, allowed: float) -> Record:
    """Compare results with float64 results, and the bits of repeated calls with those of the first call."""
    first = run()
    errors = [relative_error(got.cpu(), wanted) for got, wanted in zip(first, expected, strict=True)]
    same = all(
        torch.equal(got.nan_to_num(7), wanted.nan_to_num(7))
        for _ in range(REPEATS)
        for got, wanted in zip(run(), first, strict=True)
    )
    passed = same and all(error <= allowed for error in errors)  # False for NaN
    return {"passed": passed, "errors": errors, "allowed": allowed, "same bits": same}


def _equal(got: Tensor, expected: Tensor) -> Record:
    return {"passed": torch.equal(got.cpu(), expected), "differing": int((got.cpu() != expected).sum())}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main())
