"""Images of orbits by the rules of FractalDB's generator, as an op. Not differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops._checks import check_device, check_integer, check_size, check_tensor, shape_error
from fractalops.backends import Backend, choose
from fractalops.ops._define import define
from fractalops.reference import rasterize_orbit as reference

COLORS = reference.COLORS  # levels, which successive points cycle through
MOST_POINTS = 2**23 - 1
LARGEST_SIDE = 2**16 - 1  # the generator stores pixel coordinates in 16 bits

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
    """Draw orbits of the origin under random maps by the rules of FractalDB's generator (Kataoka et al. 2020).

    An orbit has T points. The first one is the origin, and every point is drawn. Each step applies the first map whose
    cumulative probability is at least the step's uniform number. If there is no such map, the point doesn't move.

    Each axis is scaled separately, so that the points fill the image without the padding. Coordinates are truncated to
    pixels. The y axis points upward.

    With masks, each point draws a patch of 3 x 3 pixels. In the image before it is flipped upside down, the patch is
    below and to the right of the point's pixel. It overwrites earlier points with all nine pixels, also with dark ones.

    If an orbit overflows, the 100 points before its first NaN and all later points are not drawn.

    All arithmetic is in float64, in the order of the generator.

    Args:
        matrix: Linear parts of the maps, x before y; shape (B, N, 2, 2), dtype float64.
        offset: Translations of the maps; shape (B, N, 2), dtype float64.
        probabilities: Probabilities of the maps, not negative and not NaN; shape (B, N), dtype float64.
        uniform: Random numbers in [0, 1); shape (B, T - 1) with 2 <= T < 2^23, dtype float64. Rows that share their
            memory (`Tensor.expand`) are not copied.
        size: Side of the images, or (height, width), in pixels; more than 2 `padding` and less than 2^16.
        padding: Width of the border without points in pixels, at least 1.
        mask: Mask of each point, as `draw_masks` returns it; shape (B, T), dtype int16. The lowest 9 bits are used.
            None (default) means that each point draws one pixel.
        backend: See `affine_chain`. All backends take only float64.

    Returns:
        Images of shape (B, H, W), dtype uint8. A dark pixel is 0. Any other pixel is `1 + t % 128`, where t is the
        number of the last point drawn on it, from 0.

    Raises:
        ValueError: If a shape, a device, `size`, `padding` or `backend` is invalid.
        TypeError: If a dtype or type is invalid.
        BackendError: If the requested backend can't run.
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
