"""Plans of the RBF rasterizer's Triton kernels: block sizes, the route, and their memory.

From the shapes and the architecture alone: nothing is tried at run time, which would break determinism and CUDA graphs.
`bench/` has the sweep that these tables are to be made from on a GPU; nobody has run it yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CELL = 8  # pixels, of a cell's side
RUN = 4096  # points that a tile adds up in its own type; a multiple of every tile's points


def divide_up(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)


def power_of_2(number: int) -> int:
    """Return the least power of 2 that is not below `number`."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True)
class Tile:
    """Block sizes of the forward, for one type and architecture."""

    rows: int
    columns: int
    points: int  # of a block
    warps: int
    precision: str  # of the product: "ieee", or "tf32x3" on the tensor cores


@dataclass(frozen=True)
class Gather:
    """Block sizes of the backward."""

    points: int  # of a program
    columns: int  # of their windows, at a time
    warps: int


# By type alone: a point's window is the same work in any image, and no architecture is known to want another size.
GATHERS = {torch.float32: Gather(32, 16, 4), torch.float64: Gather(16, 16, 4)}

# Few programs keep a GPU waiting: images are cut into small tiles while that gives fewer programs than this.
WANTED_PROGRAMS = 512
# tf32x3 takes three products of the tensor cores for each one: worth it where those are eight times as fast as the
# float32 units (8.0 and 9.0), not where they are as fast (GeForce). For 10.0 the compiler spills registers with it.
TENSOR_CORES = ((8, 0), (9, 0))


def choose_tile(dtype: torch.dtype, capability: tuple[int, int], images: int, height: int, width: int) -> Tile:
    """Return the tile from a table, by type, architecture and the number of tiles."""
    if dtype == torch.float64:
        return Tile(16, 16, 16, 4, "ieee")
    precision = "tf32x3" if capability in TENSOR_CORES else "ieee"
    if images * divide_up(height, 32) * divide_up(width, 32) < WANTED_PROGRAMS:
        return Tile(16, 16, 32, 2, precision)
    return Tile(32, 32, 32, 4, precision)


@dataclass(frozen=True)
class Plan:
    """The plan of a forward."""

    tile: Tile
    channels: int  # of a program
    tiles: int  # of an image
    shares: int  # of the points; each makes an image of its own, and their sum is the image
    binned: bool


def plan_forward(
    dtype: torch.dtype, capability: tuple[int, int], images: int, length: int, channels: int, height: int, width: int
) -> Plan:
    """Return the route, by what each is estimated to take.

    Walk: a tile looks at each block of its image's points, and multiplies unless none reaches it. In no particular
    order, 32 points whose windows touch 1.6 tiles each reach about 50 tiles at most: 50 products a block, or as many
    as there are tiles. Bins: each point is in reach of some 2.3 tiles, whose runs of cells leave blocks partly empty:
    about 4 products a block, and the sort. A product takes some 3 ns of a GPU that many programs share, the sort about
    100 us: it pays when it saves 2^15 products. These are guesses until somebody measures them.
    """
    tile = choose_tile(dtype, capability, images, height, width)
    group = min(power_of_2(channels), 4 if tile.rows == 16 else 2)
    tiles = divide_up(height, tile.rows) * divide_up(width, tile.columns)
    blocks = divide_up(length, tile.points)
    # The sort numbers points by 31 bits, and a block past the last one must have a number too.
    binned = images * blocks * (min(tiles, 50) - 4) > 2**15 and images * length + tile.points < 2**31
    programs = images * divide_up(channels, group) * tiles
    # A share keeps 8 blocks at least, or the sum over the shares would take longer than they do.
    shares = 1 if binned else max(1, min(WANTED_PROGRAMS // programs, blocks // 8)) if programs else 1
    return Plan(tile, group, tiles, shares, binned)


def forward_workspace(
    plan: Plan, dtype: torch.dtype, images: int, length: int, channels: int, height: int, width: int
) -> int:
    """Return bytes that a forward allocates besides the image, and besides what torch's sort works in.

    Shares: an image of each, and their sum in float64. Bins: 16 a point (its cell, before and after the sort, and its
    number) and 8 a cell.
    """
    a_pixel = 0 if plan.shares == 1 else plan.shares * dtype.itemsize + (8 if dtype == torch.float32 else 0)
    shares = a_pixel * images * channels * height * width
    cells = images * divide_up(height, CELL) * divide_up(width, CELL)
    return shares + (images * length * 16 + (cells + 1) * 8 if plan.binned else 0)


def backward_workspace(dtype: torch.dtype, images: int, length: int) -> int:
    """Return bytes that a backward allocates besides the gradients: a float64 of each program, for the bandwidth's."""
    return images * divide_up(length, GATHERS[dtype].points) * 8
