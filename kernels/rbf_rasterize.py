"""The op `rbf_rasterize` in Triton, tiled and windowed (paper, equation 8).

    I[c, i, j] = sum_t w[t, c] X[t, i] Y[t, j],   X[t, i] = exp(-(x_t - i)^2 / tau),   Y[t, j] = exp(-(y_t - j)^2 / tau)

The sum is over the pixels with |i - round(x_t)| <= r and |j - round(y_t)| <= r, as in csrc/cpu/rbf_rasterize_kernel.h.

- Forward: a program owns a tile of pixels of one image. It reads the points in blocks. For each block it computes the
  two tables of exponentials, X and Y, and adds their product, X^T Y, to the tile. This takes one exponential per point
  and row, and one per point and column, instead of one per point and pixel.
- Backward: a program owns a block of points of one image. It reads their windows of the gradient image.

No two programs add to the same number, so the same inputs give the same bits.

The route decides which points a tile reads. rbf_rasterize_plan.py chooses it from the shapes alone:

- walk: the tile reads all points of the image and skips blocks that do not reach it. If there are few tiles, the points
  are divided into shares, each share gets an image of its own, and these images are added.
- bins: the points are first sorted by cell, a square of 8 x 8 pixels. In each row of cells, the points of the cells in
  reach of a tile are consecutive, for a window of any width.

The interpreter on a CPU (TRITON_INTERPRET=1) runs the same source.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fractalops._checks import check_shapes
from fractalops.kernels.launch import launch
from fractalops.kernels.rbf_rasterize_plan import CELL, GATHERS, RUN, Gather, Plan, plan_forward
from fractalops.kernels.rbf_rasterize_points import load_points, minus_log, sort_by_cell, window_radius
from fractalops.kernels.rounding import rounded_product


@triton.jit
def _gaussian(position, center, pixel, radius, inverse):
    """Return exp(-(position - pixel)^2 / tau), or 0 outside the window, and the distance position - pixel."""
    distance = position - pixel
    value = tl.exp(-(distance * distance) * inverse)
    return tl.where(tl.abs(pixel - center) <= radius, value, 0.0), distance


@triton.jit
def _add_points(
    tile,  # (CHANNELS * ROWS, COLUMNS)
    points,  # (T, 2)
    weight,  # (T, C)
    inside,  # (POINTS,)
    number,  # (POINTS,) in [0, T)
    channel,  # (CHANNELS,)
    channels,
    row,  # (ROWS,)
    column,  # (COLUMNS,)
    bottom,
    right,
    radius,
    inverse,
    WEIGHTED: tl.constexpr,
    SKIPS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the tile with a block of points added."""
    ROWS: tl.constexpr = row.shape[0]
    CHANNELS: tl.constexpr = channel.shape[0]
    POINTS: tl.constexpr = number.shape[0]
    top, left = tl.min(row), tl.min(column)
    x, y, center_x, center_y, reaches = load_points(points, inside, number, radius, top, bottom, left, right)
    if not SKIPS or tl.max(reaches.to(tl.int32)) > 0:
        rows, _ = _gaussian(x[None, :], center_x[None, :], row[:, None], radius, inverse)  # (ROWS, POINTS)
        rows = tl.where(reaches[None, :], rows, 0.0)
        columns, _ = _gaussian(y[:, None], center_y[:, None], column[None, :], radius, inverse)  # (POINTS, COLUMNS)
        columns = tl.where(reaches[:, None], columns, 0.0)
        if WEIGHTED:
            there = (channel[:, None] < channels) & reaches[None, :]
            weights = tl.load(weight + number[None, :] * channels + channel[:, None], mask=there, other=0.0)
            rows = tl.reshape(weights[:, None, :] * rows[None, :, :], (CHANNELS * ROWS, POINTS))
        tile = tl.dot(rows, columns, tile, input_precision=PRECISION, out_dtype=tile.dtype)
    return tile


@triton.jit
def rbf_rasterize_fwd_kernel(
    points,  # (B, T, 2)
    weight,  # (B, T, C); not read unless WEIGHTED
    bandwidth,  # (B,)
    order,  # (B * T,) points of all images by cell; not read unless BINNED
    starts,  # (B * cell_rows * cell_columns + 1,) the index in `order` of a cell's first point; not read unless BINNED
    image,  # (shares, B, C, H, W)
    reach: tl.float64,
    images,
    length,
    channels,
    height,
    width,
    shares,
    WEIGHTED: tl.constexpr,
    BINNED: tl.constexpr,
    SKIPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    POINTS: tl.constexpr,
    CELL: tl.constexpr,
    RUN: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Draw a tile. A program owns a tile of one image, for CHANNELS channels and one share of the points.

    With SPLITS, the tile has the sums of one run of RUN points, and `total` adds up the runs in float64. Otherwise the
    rounding error would grow with the number of points.
    """
    program = tl.program_id(0).to(tl.int64)
    tile_columns, tile_rows = tl.cdiv(width, COLUMNS), tl.cdiv(height, ROWS)
    channel_groups = tl.cdiv(channels, CHANNELS)
    left = (program % tile_columns).to(tl.int32) * COLUMNS
    top = (program // tile_columns % tile_rows).to(tl.int32) * ROWS
    rest = program // (tile_columns * tile_rows)
    first_channel = (rest % channel_groups).to(tl.int32) * CHANNELS
    channel = first_channel + tl.arange(0, CHANNELS)  # (CHANNELS,)
    b = rest // channel_groups % images
    share = rest // (channel_groups * images)
    bottom, right = tl.minimum(top + ROWS, height) - 1, tl.minimum(left + COLUMNS, width) - 1

    tau = tl.load(bandwidth + b)
    inverse, radius = 1.0 / tau, window_radius(tau, reach)
    dtype: tl.constexpr = tau.dtype
    row = (top + tl.arange(0, ROWS)).to(dtype)  # (ROWS,)
    column = (left + tl.arange(0, COLUMNS)).to(dtype)  # (COLUMNS,)
    points += b * length * 2
    weight += b * length * channels
    tile = tl.zeros((CHANNELS * ROWS, COLUMNS), dtype)
    if SPLITS:
        total = tl.zeros((CHANNELS * ROWS, COLUMNS), tl.float64)
    if BINNED:
        cell_rows, cell_columns = tl.cdiv(height, CELL), tl.cdiv(width, CELL)
        # Limit the radius to the image's size, because a larger one may not fit an integer.
        far = tl.minimum(radius, tl.cast(tl.maximum(height, width), dtype)).to(tl.int32)
        first_column, last_column = tl.maximum(left - far, 0) // CELL, tl.minimum(right + far, width - 1) // CELL
        first_row, last_row = tl.maximum(top - far, 0) // CELL, tl.minimum(bottom + far, height - 1) // CELL
        for cell_row in range(first_row, last_row + 1):
            cells = starts + (b * cell_rows + cell_row) * cell_columns
            begin, end = tl.load(cells + first_column), tl.load(cells + last_column + 1)
            for place in range(begin, end, POINTS):
                entry = place + tl.arange(0, POINTS)
                number = tl.load(order + entry, mask=entry < end, other=0) - b * length
                tile = _add_points(
                    tile, points, weight, entry < end, number, channel, channels, row, column, bottom.to(dtype),
                    right.to(dtype), radius, inverse, WEIGHTED, SKIPS, PRECISION,
                )  # fmt: skip
                if SPLITS and ((place - begin) % RUN == RUN - POINTS or place >= end - POINTS):
                    total += tile
                    tile = tl.zeros_like(tile)
    else:
        blocks = tl.cdiv(tl.cdiv(length, POINTS), shares)
        begin, end = share * blocks * POINTS, tl.minimum((share + 1) * blocks * POINTS, length)
        for place in range(begin, end, POINTS):
            number = place + tl.arange(0, POINTS)
            tile = _add_points(
                tile, points, weight, number < end, number, channel, channels, row, column, bottom.to(dtype),
                right.to(dtype), radius, inverse, WEIGHTED, SKIPS, PRECISION,
            )  # fmt: skip
            if SPLITS and ((place - begin) % RUN == RUN - POINTS or place >= end - POINTS):
                total += tile
                tile = tl.zeros_like(tile)
    if SPLITS:
        tile = total.to(dtype)

    line = tl.arange(0, CHANNELS * ROWS)
    c, i = first_channel + line // ROWS, top + line % ROWS  # (CHANNELS * ROWS,)
    j = left + tl.arange(0, COLUMNS)
    pixel = (((share * images + b) * channels + c) * height + i)[:, None] * width + j[None, :]
    tl.store(image + pixel, tile, mask=((c < channels) & (i < height))[:, None] & (j < width)[None, :])


@triton.jit
def rbf_rasterize_bwd_kernel(
    grad,  # (B, C, H, W)
    points,  # (B, T, 2)
    weight,  # (B, T, C); not read unless WEIGHTED
    bandwidth,  # (B,)
    grad_points,  # (B, T, 2)
    grad_weight,  # (B, T, C); not written unless WEIGHTED
    partial,  # (B, blocks) float64; not written unless NEEDS_BANDWIDTH
    reach: tl.float64,
    length,
    channels,
    height,
    width,
    WEIGHTED: tl.constexpr,
    NEEDS_BANDWIDTH: tl.constexpr,
    POINTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute gradients. A program owns POINTS points of one image.

    It writes the gradients of its points and weights, and its part of the bandwidth's gradient. With the upstream
    gradient g, d_x = x - i and d_y = y - j, and sums over the pixels (i, j) and, except in dw, the channels:

        dx = -2 / tau sum w d_x X Y g,   dy = -2 / tau sum w d_y X Y g,   dw = sum X Y g,
        dtau = 1 / tau^2 sum w (d_x^2 + d_y^2) X Y g
    """
    program = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(length, POINTS)
    b, block = program // blocks, program % blocks
    number = block * POINTS + tl.arange(0, POINTS)  # (POINTS,)
    inside = number < length
    tau = tl.load(bandwidth + b)
    inverse, radius = 1.0 / tau, window_radius(tau, reach)
    dtype: tl.constexpr = tau.dtype
    bottom, right = tl.cast(height - 1, dtype), tl.cast(width - 1, dtype)
    x, y, center_x, center_y, reaches = load_points(
        points + b * length * 2, inside, number, radius, 0.0, bottom, 0.0, right
    )
    x, y = tl.where(reaches, x, 0.0), tl.where(reaches, y, 0.0)
    center_x, center_y = tl.where(reaches, center_x, 0.0), tl.where(reaches, center_y, 0.0)
    # A point that reaches no pixel has no window. If `reaches` were also a condition of the windows' pixels, Triton 3.6
    # and 3.7 could give its uses different layouts and fail to compile.
    window = tl.where(reaches, radius, -1.0)  # (POINTS,)
    # The part of the window that is in the image. It is at most as large as the image.
    rows = tl.minimum(2 * radius + 1, tl.cast(height, dtype)).to(tl.int32)
    columns = tl.minimum(2 * radius + 1, tl.cast(width, dtype)).to(tl.int32)
    first_row = tl.minimum(tl.maximum(center_x - radius, 0.0), tl.cast(height - rows, dtype))  # (POINTS,)
    first_column = tl.minimum(tl.maximum(center_y - radius, 0.0), tl.cast(width - columns, dtype))  # (POINTS,)

    dx, dy = tl.zeros((POINTS,), dtype), tl.zeros((POINTS,), dtype)
    squares = tl.zeros((POINTS,), dtype)
    for c in range(channels):
        plane = grad + (b * channels + c) * height * width
        dw, by_row, by_column = tl.zeros((POINTS,), dtype), tl.zeros((POINTS,), dtype), tl.zeros((POINTS,), dtype)
        both = tl.zeros((POINTS,), dtype)
        for start in range(0, columns, COLUMNS):
            place = start + tl.arange(0, COLUMNS)  # (COLUMNS,)
            column = first_column[:, None] + place[None, :].to(dtype)  # (POINTS, COLUMNS)
            value, distance = _gaussian(y[:, None], center_y[:, None], column, radius, inverse)  # (POINTS, COLUMNS)
            there = (place < columns)[None, :] & (tl.abs(column - center_y[:, None]) <= window[:, None])
            value = tl.where(there, value, 0.0)
            pixel = first_row.to(tl.int64)[:, None] * width + column.to(tl.int64)
            plain, first = tl.zeros((POINTS, COLUMNS), dtype), tl.zeros((POINTS, COLUMNS), dtype)
            second = tl.zeros((POINTS, COLUMNS), dtype)
            for k in range(rows):
                on_row, away = _gaussian(x, center_x, first_row + k, radius, inverse)  # (POINTS,)
                covered = there & (tl.abs(first_row + k - center_x) <= radius)[:, None]
                below = tl.cast(k, tl.int64) * width  # a window may have more than 2^31 pixels
                g = tl.load(plane + pixel + below, mask=covered, other=0.0)  # (POINTS, COLUMNS)
                plain += on_row[:, None] * g
                on_row *= away
                first += on_row[:, None] * g
                if NEEDS_BANDWIDTH:
                    on_row *= away
                    second += on_row[:, None] * g
            # Multiply by the value first: it is zero if the square of the distance overflows.
            moment = value * distance
            dw += tl.sum(rounded_product(value, plain), 1)
            by_row += tl.sum(rounded_product(value, first), 1)
            by_column += tl.sum(rounded_product(moment, plain), 1)
            if NEEDS_BANDWIDTH:
                both += tl.sum(value * second + moment * distance * plain, 1)
        if WEIGHTED:
            place_of_weight = (b * length + number) * channels + c
            w = tl.load(weight + place_of_weight, mask=reaches, other=0.0)
            tl.store(grad_weight + place_of_weight, dw, mask=inside)
            by_row, by_column, both = w * by_row, w * by_column, w * both
        dx += by_row
        dy += by_column
        squares += both
    place_of_point = grad_points + (b * length + number) * 2
    tl.store(place_of_point, -2.0 * inverse * dx, mask=inside)
    tl.store(place_of_point + 1, -2.0 * inverse * dy, mask=inside)
    if NEEDS_BANDWIDTH:
        tl.store(partial + program, tl.sum(squares.to(tl.float64), 0))


def _capability(tensor: Tensor) -> tuple[int, int]:
    """Return the GPU's compute capability; for a CPU tensor, in the interpreter, that of an A100."""
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else (8, 0)


def rbf_rasterize_fwd(
    points: Tensor,
    weight: Tensor | None,
    bandwidth: Tensor,
    height: int,
    width: int,
    cutoff: float,
    plan: Plan | None = None,
) -> Tensor:
    """Return the images (B, C, H, W) of the raw op `rbf_rasterize_fwd` on a GPU.

    Args:
        points: Positions in pixels, shape (B, T, 2), float32 or float64.
        weight: The weights, shape (B, T, C), or None for one channel of weight 1.
        bandwidth: The bandwidth of each image, shape (B,).
        height: The images' height in pixels, H.
        width: The images' width in pixels, W.
        cutoff: The value below which a pixel is outside a point's window; 0 for none.
        plan: The route and block sizes, for tests and benchmarks. Default: those of `plan_forward`.
    """
    check_shapes("rbf_rasterize", points=(points, "BT2"), weight=(weight, "BTC"), bandwidth=(bandwidth, "B"))
    points, bandwidth = points.contiguous(), bandwidth.contiguous()  # (B, T, 2), (B,)
    weight = None if weight is None else weight.contiguous()  # (B, T, C)
    images, length, _ = points.shape
    channels = 1 if weight is None else weight.shape[2]
    plan = plan or plan_forward(points.dtype, _capability(points), images, length, channels, height, width)
    image = points.new_empty(plan.shares, images, channels, height, width)
    if images == 0:
        return image[0]
    order, starts = sort_by_cell(points, bandwidth, height, width, cutoff) if plan.binned else (points, points)
    tile = plan.tile
    launch(
        rbf_rasterize_fwd_kernel, plan.shares * images * triton.cdiv(channels, plan.channels) * plan.tiles, tile.warps,
        points, points if weight is None else weight, bandwidth, order, starts, image, minus_log(cutoff),
        images, length, channels, height, width, plan.shares,
        WEIGHTED=weight is not None, BINNED=plan.binned, SKIPS=plan.tiles > 1, CHANNELS=plan.channels,
        ROWS=tile.rows, COLUMNS=tile.columns, POINTS=tile.points, CELL=CELL, RUN=RUN,
        SPLITS=length > RUN and points.dtype == torch.float32, PRECISION=tile.precision,
    )  # fmt: skip
    return image[0] if plan.shares == 1 else image.sum(0, dtype=torch.float64).to(image.dtype)


def rbf_rasterize_bwd(
    grad: Tensor,
    points: Tensor,
    weight: Tensor | None,
    bandwidth: Tensor,
    cutoff: float,
    needs_bandwidth: bool,
    gather: Gather | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of points, weight (empty without one) and bandwidth (empty unless needed) on a GPU.

    `grad` is the gradient of the images, shape (B, C, H, W), and `gather` has the block sizes, for tests and
    benchmarks; its default is in `GATHERS`. The other arguments are those of `rbf_rasterize_fwd`.
    """
    grad_shape = "B1HW" if weight is None else "BCHW"
    check_shapes(
        "rbf_rasterize",
        points=(points, "BT2"),
        weight=(weight, "BTC"),
        bandwidth=(bandwidth, "B"),
        grad=(grad, grad_shape),
    )
    grad, points, bandwidth = grad.contiguous(), points.contiguous(), bandwidth.contiguous()
    weight = None if weight is None else weight.contiguous()  # (B, T, C)
    images, length, _ = points.shape
    _, channels, height, width = grad.shape
    gather = gather or GATHERS[points.dtype]
    blocks = triton.cdiv(length, gather.points)
    grad_points = torch.empty_like(points)
    grad_weight = points.new_empty(0) if weight is None else torch.empty_like(weight)
    partial = bandwidth.new_empty(images, blocks if needs_bandwidth else 0, dtype=torch.float64)
    if images > 0:
        launch(
            rbf_rasterize_bwd_kernel, images * blocks, gather.warps,
            grad, points, points if weight is None else weight, bandwidth, grad_points, grad_weight, partial,
            minus_log(cutoff), length, channels, height, width,
            WEIGHTED=weight is not None, NEEDS_BANDWIDTH=needs_bandwidth, POINTS=gather.points, COLUMNS=gather.columns,
        )  # fmt: skip
    if not needs_bandwidth:
        return grad_points, grad_weight, bandwidth.new_empty(0)
    return grad_points, grad_weight, (partial.sum(1) / bandwidth.double() ** 2).to(bandwidth.dtype)
