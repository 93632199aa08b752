"""Run every GPU kernel a few times on small inputs, for compute-sanitizer: `python -m bench.gpu.run_kernels`."""

from __future__ import annotations

import sys

import torch

import fractalops
from fractalops.ops.draw_balanced_index import draw_balanced_index

from .check_ops import FORMS, LARGE, SMALL, plan_by

HEIGHT, WIDTH = 33, 40


def main() -> int:
    """Run the kernels on the GPU and return 0. If the sanitizer finds an error, it sets the exit code."""
    run(torch.device("cuda"))
    torch.cuda.synchronize()
    print("all kernels have run")
    return 0


def run(device: torch.device) -> None:
    """Run each kernel in each form, dtype and route, with and without weights."""
    torch.manual_seed(0)
    for batch, length, maps, dimensions, dtype in (
        (3, 33, 3, 2, torch.float32),
        (1, 5300, 300, 2, torch.float32),
        (35, 70, 2, 3, torch.float64),
    ):
        run_chain(batch, length, maps, dimensions, dtype, device)
    for channels in (0, 3):
        run_raster(channels, device)
    for systems, sequences, length, maps in ((2, 3, 40, 10), (1, 1, 310, 150)):
        weight = torch.rand(systems, maps, dtype=torch.float64, device=device)  # (S, N)
        draw_balanced_index(weight, torch.rand(systems, sequences, length, device=device))
    points = torch.rand(2, 1500, 2, device=device) * 40  # (B, T, 2)
    fractalops.rasterize_points(points, 33, patch=torch.ones(3, 3, dtype=torch.bool, device=device))


def run_chain(batch: int, length: int, maps: int, dimensions: int, dtype: torch.dtype, device: torch.device) -> None:
    """Run each form of the chain, forward and backward."""
    matrix = torch.rand(maps, dimensions, dimensions, dtype=dtype, device=device) / dimensions  # (N, D, D)
    offset, start = (torch.rand(count, dimensions, dtype=dtype, device=device) for count in (maps, batch))
    index = torch.randint(0, maps, (batch, length), device=device).int()  # (B, T)
    for form in FORMS[device.type]:
        points = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, form)  # (B, T, D)
        torch.ops.fractalops.affine_chain_bwd(points, matrix, index, start, points, form)


def run_raster(channels: int, device: torch.device) -> None:
    """Run each route of the rasterizer with both tiles, and its backward."""
    from fractalops.kernels import rbf_rasterize as kernels  # imports Triton

    points = torch.rand(2, 75, 2, device=device) * 40 - 4  # (B, T, 2)
    weight = torch.rand(2, 75, channels, device=device) if channels else None  # (B, T, C)
    bandwidth = torch.ones(2, device=device)  # (B,)
    image = torch.zeros(2, channels or 1, HEIGHT, WIDTH, device=device)  # (B, C, H, W)
    for tile in (SMALL, LARGE):
        for binned in (False, True):
            plan = plan_by(tile, channels, HEIGHT, WIDTH, shares=1, binned=binned)
            image = kernels.rbf_rasterize_fwd(points, weight, bandwidth, HEIGHT, WIDTH, 1e-6, plan)
    kernels.rbf_rasterize_bwd(image, points, weight, bandwidth, 1e-6, True)


if __name__ == "__main__":
    sys.exit(main())
