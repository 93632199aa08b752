"""Orbits drawn as FractalDB's generator draws them, as an op. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_device, check_integer, check_size, check_tensor, shape_error
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import rasterize_orbit as reference

COLORS = reference.COLORS  # points take turns
MOST_POINTS = 2**23 - 1
LARGEST_SIDE = 2**16 - 1  # the generator keeps a coordinate in 16 bits

_native = define(
    "rasterize_orbit",
    lambda matrix, offset, probabilities, uniform, mask, height, width, padding: matrix.new_empty(
        len(matrix), height, width, dtype=torch.uint8
    ),
)


def rasterize_orbit(
    matrix: Tensor,
    offset: Tensor,
    probabilities: Tensor,
    uniform: Tensor,
    size: int | tuple[int, int],
    *,
    padding: int,
    mask: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Draw the orbits of the origin under random maps by the rules of FractalDB's generator (Kataoka et al. 2020).

    The origin is the first of T points, and none is left out. A point is moved by the first map at whose probability
    the sum of the maps' probabilities reaches its uniform number; where none does, it stays. Each axis is stretched by
    itself between the least and the greatest coordinate, and a coordinate is truncated to its pixel; y points upwards.
    With a mask, a patch of 3 x 3 pixels below and to the right of each point (as the image is before it is turned
    upside down) takes the place of what is there, also with what it leaves dark. Of an orbit that leaves float64's
    range, the points up to 100 before the first NaN are drawn; of one that does so within 100 points, none.

    All arithmetic is float64's, in the generator's order.

    Args:
        matrix: (B, N, 2, 2), the maps' linear parts, x before y; float64.
        offset: (B, N, 2), their translations; float64.
        probabilities: (B, N), float64, not negative and not NaN.
        uniform: (B, T - 1) in [0, 1), float64, 2 <= T < 2^23. Where the rows are one in memory (`Tensor.expand`), they
            are not copied.
        size: the image's side, or (height, width), above 2 `padding` and below 2^16 pixels.
        padding: pixels on each side that no point is on, at least 1.
        mask: (B, T), int16, as `draw_masks` draws them, of which the lowest 9 bits count; None draws points.
        backend: `"native"` or `"reference"`; None chooses by device.

    Returns:
        (B, H, W), uint8: 0 where the image is dark, else 1 plus the number of the point that is seen there, modulo 128.

    Raises:
        ValueError: for a wrong shape, device, size, padding or backend.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend asked for can't run.
    """
    tensors = {"matrix": matrix, "offset": offset, "probabilities": probabilities, "uniform": uniform}
    check_tensor("rasterize_orbit", **tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float64:
            raise TypeError(f"rasterize_orbit: {name} must be float64, got {tensor.dtype}")
        check_device("rasterize_orbit", name, tensor, "matrix", matrix)
    if matrix.dim() != 4 or matrix.shape[1] == 0 or matrix.shape[2:] != (2, 2):
        raise shape_error("rasterize_orbit", "matrix", "(B, N, 2, 2) with N >= 1", matrix)
    images, maps = matrix.shape[:2]
    for name, shape in (("offset", (images, maps, 2)), ("probabilities", (images, maps))):
        if tensors[name].shape != shape:
            raise shape_error("rasterize_orbit", name, f"{shape}", tensors[name])
    if uniform.dim() != 2 or len(uniform) != images or not 1 <= uniform.shape[1] < MOST_POINTS:
        raise shape_error("rasterize_orbit", "uniform", f"({images}, T - 1) with 2 <= T < 2^23", uniform)
    if mask is not None:
        check_tensor("rasterize_orbit", mask=mask)
        if mask.dtype != torch.int16:
            raise TypeError(f"rasterize_orbit: mask must be int16, got {mask.dtype}")
        check_device("rasterize_orbit", "mask", mask, "matrix", matrix)
        if mask.shape != (images, uniform.shape[1] + 1):
            raise shape_error("rasterize_orbit", "mask", f"{(images, uniform.shape[1] + 1)}", mask)
    height, width = check_size("rasterize_orbit", size)
    padding = check_integer("rasterize_orbit", "padding", padding, 1)
    if min(height, width) <= 2 * padding or max(height, width) > LARGEST_SIDE:
        raise ValueError(f"rasterize_orbit: size must lie in [{2 * padding + 1}, 2^16), got {(height, width)}")
    native = choose("rasterize_orbit", matrix.device, backend) == "native"
    run = _native if native else reference.rasterize_orbit
    detached = (matrix.detach(), offset.detach(), probabilities.detach(), uniform.detach())
    levels: Tensor = run(*detached, mask, height, width, padding)  # (B, H, W)
    return levels
