"""The op `rasterize_points` in Triton. It counts points on their nearest pixels and spreads the counts by a patch.

The CPU's version is csrc/cpu/rasterize_points.h. There are two kernels:

- Count: a program owns a block of points of one image. It adds each point to a canvas, which is the image with a
  margin of half a patch on each side. The sums are of integers, so any order gives the same bits.
- Stamp: a program owns a block of pixels of one image. It adds up the counts that the patch moves to each pixel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fractalops._checks import check_shapes
from fractalops.kernels.launch import launch
from fractalops.kernels.rounding import round_to_even

BLOCK = 1024  # points or pixels of a program
WARPS = 4


@triton.jit
def rasterize_points_count_kernel(
    points,  # (B, T, 2)
    canvas,  # (B, rows, columns) int32, zeros
    length,
    rows,
    columns,
    top,
    left,
    POINTS: tl.constexpr,
):
    """Add points to the canvas. A program owns POINTS points of one image."""
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(length, POINTS)
    b = program // blocks
    number = program % blocks * POINTS + tl.arange(0, POINTS)  # (POINTS,)
    place = points + (b * length + number) * 2
    row = round_to_even(tl.load(place, mask=number < length, other=float("nan"))) + top
    column = round_to_even(tl.load(place + 1, mask=number < length, other=float("nan"))) + left
    # Compare floating-point numbers: a coordinate that is NaN or far away has no integer.
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    counter = tl.where(inside, row, 0).to(tl.int64) * columns + tl.where(inside, column, 0).to(tl.int64)
    tl.atomic_add(canvas + b * rows * columns + counter, 1, mask=inside, sem="relaxed")


@triton.jit
def rasterize_points_stamp_kernel(
    canvas,  # (B, H + patch_height - 1, W + patch_width - 1) int32
    patch,  # (B, patch_height, patch_width) uint8
    image,  # (B, H, W) uint8 if BINARY, else int32
    height,
    width,
    patch_height,
    patch_width,
    BINARY: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Add up the counts for each pixel. A program owns PIXELS pixels of one image, which are consecutive in memory."""
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(tl.cast(height, tl.int64) * width, PIXELS)
    b = program // blocks
    pixel = program % blocks * PIXELS + tl.arange(0, PIXELS)  # (PIXELS,)
    inside = pixel < tl.cast(height, tl.int64) * width
    rows, columns = height + patch_height - 1, width + patch_width - 1
    corner = canvas + (b * rows + pixel // width) * columns + pixel % width  # (PIXELS,)
    total = tl.zeros((PIXELS,), tl.int32)
    for i in range(patch_height):
        for j in range(patch_width):
            # A mark (i, j) of the patch moves counts by its offset from the patch's center.
            if tl.load(patch + (b * patch_height + i) * patch_width + j) != 0:
                shift = (patch_height - 1 - i) * columns + patch_width - 1 - j
                total += tl.load(corner + shift, mask=inside, other=0)
    if BINARY:
        tl.store(image + b * height * width + pixel, (total > 0).to(tl.uint8), mask=inside)
    else:
        tl.store(image + b * height * width + pixel, total, mask=inside)


def rasterize_points(points: Tensor, patch: Tensor, height: int, width: int, binary: bool) -> Tensor:
    """Return the images of the raw op `rasterize_points` on a GPU.

    Allocates a canvas of 4 bytes per pixel of the image and its margins.

    Args:
        points: Positions in pixels, shape (B, T, 2).
        patch: The patch of each image, shape (B, patch height, patch width), uint8. Values other than 0 are marks.
        height: The images' height in pixels.
        width: The images' width in pixels.
        binary: Whether to return 1 for every count above 0.

    Returns:
        The counts, shape (B, H, W), int32, or uint8 if `binary`.
    """
    check_shapes("rasterize_points", points=(points, "BT2"), patch=(patch, "BHW"))
    points, patch = points.contiguous(), patch.contiguous()  # (B, T, 2), (B, patch height, patch width)
    images, length, _ = points.shape
    _, patch_height, patch_width = patch.shape
    rows, columns = height + patch_height - 1, width + patch_width - 1
    image = points.new_empty(images, height, width, dtype=torch.uint8 if binary else torch.int32)
    if images == 0:
        return image
    canvas = torch.zeros(images, rows, columns, dtype=torch.int32, device=points.device)
    launch(
        rasterize_points_count_kernel, images * triton.cdiv(length, BLOCK), WARPS,
        points, canvas, length, rows, columns, patch_height // 2, patch_width // 2, POINTS=BLOCK,
    )  # fmt: skip
    launch(
        rasterize_points_stamp_kernel, images * triton.cdiv(height * width, BLOCK), WARPS,
        canvas, patch, image, height, width, patch_height, patch_width, BINARY=binary, PIXELS=BLOCK,
    )  # fmt: skip
    return image
