"""Plans of the Triton kernels of `rbf_rasterize`: block sizes, the route, and the memory that they need.

A plan depends only on the shapes and the architecture. Nothing is tuned at run time, because that would break
determinism and CUDA graphs. The block sizes are estimates: the sweep in `bench/` that measures them has not been run on
a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CELL = 8  # pixels of a side of a cell
RUN = 4096  # points that a tile adds up in its own dtype; a multiple of `Tile.points`


def divide_up(number: int, divisor: int) -> int:
    """Return number / divisor, rounded up."""
    return -(-number // divisor)


def power_of_2(number: int) -> int:
    """Return the smallest power of 2 that is at least `number`."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True)
class Tile:
    """Block sizes of the forward, for one dtype and architecture."""

    rows: int
    columns: int
    points: int  # points of a block
    warps: int
    precision: str  # of the matrix product: "ieee", or "tf32x3" on the tensor cores


@dataclass(frozen=True)
class Gather:
    """Block sizes of the backward."""

    points: int  # points of a program
    columns: int  # columns of the windows that are processed together
    warps: int


# By dtype alone: the work for a point's window is the same in any image, and no architecture is known to need others.
GATHERS = {torch.float32: Gather(32, 16, 4), torch.float64: Gather(16, 16, 4)}

# Few programs do not occupy a GPU: images with fewer large tiles than this get small tiles.
WANTED_PROGRAMS = 512
# tf32x3 takes three tensor-core products for each product. It pays if the tensor cores are eight times as fast as the
# float32 units (8.0 and 9.0), but not if they are equally fast (GeForce). For 10.0 the compiler spills with tf32x3.
TENSOR_CORES = ((8, 0), (9, 0))

# Most channels of a program, by the rows of its tile.
MOST_CHANNELS = {16: 4, 32: 2}
# Tiles whose programs take half as many channels if they also have the totals of several runs: by capability, the rows
# of those for which a compiler otherwise spills registers (tests/native/test_triton_resources.py).
CROWDED = {(9, 0): (32,), (12, 0): (16, 32)}


def choose_tile(dtype: torch.dtype, capability: tuple[int, int], images: int, height: int, width: int) -> Tile:
    """Return the tile for a dtype, an architecture and the number of tiles."""
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
    channels: int  # channels of a program
    tiles: int  # tiles of an image
    shares: int  # shares of the points: each draws an image, and these are added
    binned: bool  # whether the route is "bins", otherwise "walk"


def plan_forward(
    dtype: torch.dtype, capability: tuple[int, int], images: int, length: int, channels: int, height: int, width: int
) -> Plan:
    """Return the plan of a forward, with the route that is estimated to be faster.

    - Walk: a tile reads each block of its image's points, and multiplies if one of them reaches it. If the points are
      in no particular order, the windows of 32 points touch 1.6 tiles each and about 50 tiles together. So a block
      takes 50 products, or as many as there are tiles.
    - Bins: each point is in reach of about 2.3 tiles, and blocks are partly empty. So a block takes about 4 products.
      The sort comes in addition.

    A product takes about 3 ns on a GPU with many programs, and the sort about 100 us. So the sort pays if it saves 2^15
    products. These figures are estimates, which have not been measured.

    Args:
        dtype: float32 or float64.
        capability: The GPU's compute capability.
        images: The number of images, B.
        length: The number of points of an image, T.
        channels: The number of channels, C.
        height: The images' height in pixels.
        width: The images' width in pixels.
    """
    tile = choose_tile(dtype, capability, images, height, width)
    group = min(power_of_2(channels), MOST_CHANNELS[tile.rows])
    if length > RUN and tile.rows in CROWDED.get(capability, ()):
        group = min(group, MOST_CHANNELS[tile.rows] // 2)
    tiles = divide_up(height, tile.rows) * divide_up(width, tile.columns)
    blocks = divide_up(length, tile.points)
    # The sort numbers points with 31 bits, and the numbers in the last block can exceed the number of points.
    binned = images * blocks * (min(tiles, 50) - 4) > 2**15 and images * length + tile.points < 2**31
    programs = images * divide_up(channels, group) * tiles
    # A share has at least 8 blocks. Otherwise the sum over the shares would take longer than the shares.
    shares = 1 if binned else max(1, min(WANTED_PROGRAMS // programs, blocks // 8)) if programs else 1
    return Plan(tile, group, tiles, shares, binned)


def forward_workspace(
    plan: Plan, dtype: torch.dtype, images: int, length: int, channels: int, height: int, width: int
) -> int:
    """Return how many bytes a forward allocates, without the image and the workspace of torch's sort.

    With shares these are an image per share, and the sum of these images in float64. With bins they are 16 per point,
    for its number and for its cell before and after the sort, and 8 per cell.
    """
    a_pixel = 0 if plan.shares == 1 else plan.shares * dtype.itemsize + (8 if dtype == torch.float32 else 0)
    shares = a_pixel * images * channels * height * width
    cells = images * divide_up(height, CELL) * divide_up(width, CELL)
    return shares + (images * length * 16 + (cells + 1) * 8 if plan.binned else 0)


def backward_workspace(dtype: torch.dtype, images: int, length: int) -> int:
    """Return how many bytes a backward allocates besides the gradients.

    This is a float64 per program, its part of the bandwidth's gradient.
    """
    return images * divide_up(length, GATHERS[dtype].points) * 8
