"""What the rasterizer's Triton kernels do for a shape: kernels/rbf_rasterize.py, kernel by kernel, in numbers.

Points are taken to lie evenly over the image, in no particular order; a fractal's crowd together, and reach fewer
tiles. float32, one channel, no weight, no gradient of the bandwidth: a step of `fit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from fractalops.kernels.rbf_rasterize_plan import (
    CELL,
    GATHERS,
    Plan,
    divide_up,
    forward_workspace,
    plan_forward,
)

from .cards import Kernel

FLOAT, ORDER = 4, 8  # bytes, of a number and of a point's place in the order of cells
GAUSSIAN = 4  # operations beside an exponential: a difference, its square, times -1 / tau, times log2(e)
# torch's radix sort of 32-bit keys, 8 bits a pass, with a histogram before: assumed. With the cells and the search in
# their order: seven launches beside the forward kernel's.
SORT_PASSES, SORT_LAUNCHES = 4, 5


@dataclass(frozen=True)
class Picture:
    """Images that are drawn in one call."""

    name: str
    images: int  # B
    length: int  # T
    side: int  # pixels
    bandwidth: float = 1.0
    cutoff: float = 1e-6

    @property
    def points(self) -> int:
        return self.images * self.length

    @property
    def pixels(self) -> int:
        return self.side * self.side

    @property
    def radius(self) -> int:
        """r: a window is 2 r + 1 pixels wide."""
        return math.ceil(math.sqrt(-self.bandwidth * math.log(self.cutoff)))


SHAPES = (
    Picture("50 x 300 points, 32 x 32 pixels", 50, 300, 32),
    Picture("100 images: 5000 x 300 points, 32 x 32 pixels", 5000, 300, 32),
    Picture("10^6 points, 1024 x 1024 pixels", 1, 10**6, 1024),
)


def mean_tiles(side: int, tile: int, radius: int) -> float:
    """Tiles along one side that a window reaches, in the mean over its center's place."""
    reached = (min(top + tile + radius, side) - max(top - radius, 0) for top in range(0, side, tile))
    return sum(reached) / side


class Work:
    """The kernels of both directions for one shape on cards of one architecture."""

    def __init__(self, shape: Picture, capability: tuple[int, int]) -> None:
        self.shape = shape
        self.plan: Plan = plan_forward(torch.float32, capability, shape.images, shape.length, 1, shape.side, shape.side)
        self.tensor_cores = self.plan.tile.precision != "ieee"
        self.point_bytes = 2 * FLOAT * shape.points
        self.image_bytes = FLOAT * shape.images * shape.pixels

    def tiles_reached(self) -> float:
        """By a window, in the mean."""
        tile, shape = self.plan.tile, self.shape
        return mean_tiles(shape.side, tile.rows, shape.radius) * mean_tiles(shape.side, tile.columns, shape.radius)

    def products(self) -> int:
        """Blocks of points for which a tile makes its tables and their product, over all tiles and images."""
        shape, tile = self.shape, self.plan.tile
        if self.plan.binned:
            return round(shape.images * self._blocks_of_cells())
        blocks: int = divide_up(shape.length, tile.points)
        if self.plan.tiles == 1:
            return shape.images * blocks
        skipped = (1 - self.tiles_reached() / self.plan.tiles) ** tile.points
        return round(shape.images * blocks * float(self.plan.tiles * (1 - skipped)))

    def _blocks_of_cells(self) -> float:
        """Of one image: each row of cells in a tile's reach ends with a block that is half empty, in the mean."""
        shape, tile = self.shape, self.plan.tile
        rows, columns = (self._cells(side) for side in (tile.rows, tile.columns))
        of_cell = shape.length * CELL**2 / shape.pixels
        return float(sum(row * (column * of_cell / tile.points + 0.5) for row in rows for column in columns))

    def _cells(self, tile: int) -> list[int]:
        """Along one side, the cells in reach of each tile."""
        last, radius = self.shape.side - 1, self.shape.radius
        tops = range(0, self.shape.side, tile)
        return [min(top + tile - 1 + radius, last) // CELL - max(top - radius, 0) // CELL + 1 for top in tops]

    def forward(self) -> list[Kernel]:
        shape, plan, tile = self.shape, self.plan, self.plan.tile
        products = self.products()
        exponentials = products * tile.points * (tile.rows + tile.columns)
        kernel = Kernel(
            "rbf_rasterize_fwd_kernel",
            self.point_bytes + plan.shares * self.image_bytes + (ORDER * shape.points if plan.binned else 0),
            operations=exponentials * GAUSSIAN,
            exponentials=exponentials,
            product=products * 2 * tile.points * tile.rows * tile.columns,
            threads=plan.shares * shape.images * plan.tiles * tile.warps * 32,
        )
        before = self._sort() if plan.binned else []
        after = [Kernel("sum of the shares", (plan.shares + 1) * self.image_bytes)] if plan.shares > 1 else []
        return [*before, kernel, *after]

    def _sort(self) -> list[Kernel]:
        cells = self.shape.images * divide_up(self.shape.side, CELL) ** 2
        pair = FLOAT + ORDER
        return [
            Kernel("rbf_rasterize_cells_kernel", self.point_bytes + FLOAT * self.shape.points),
            Kernel("torch's sort", SORT_PASSES * 2 * pair * self.shape.points, launches=SORT_LAUNCHES),
            Kernel("where cells begin", 3 * FLOAT * cells, launches=2),
        ]

    def backward(self) -> list[Kernel]:
        shape = self.shape
        gather = GATHERS[torch.float32]
        block, columns, warps = gather.points, gather.columns, gather.warps
        window = min(2 * shape.radius + 1, shape.side)
        blocks = divide_up(shape.length, block)
        lanes = divide_up(window, columns) * columns  # of a point: the window's columns, in whole blocks
        all_points = shape.images * blocks * block
        exponentials = all_points * (lanes + divide_up(window, columns) * window)
        # Two multiply-adds for each pixel, then three for each column.
        multiply_adds = all_points * lanes * (2 * window + 3)
        return [
            Kernel(
                "rbf_rasterize_bwd_kernel",
                self.image_bytes + 2 * self.point_bytes,
                operations=2 * multiply_adds + exponentials * GAUSSIAN,
                exponentials=exponentials,
                threads=shape.images * blocks * warps * 32,
            )
        ]

    def workspace(self, direction: str) -> int:
        """Bytes that the op allocates besides its results, without the sort's own."""
        shape = self.shape
        if direction == "forward":
            arguments = (torch.float32, shape.images, shape.length, 1, shape.side, shape.side)
            return int(forward_workspace(self.plan, *arguments))
        return 0  # what backward_workspace counts is for the bandwidth's gradient
