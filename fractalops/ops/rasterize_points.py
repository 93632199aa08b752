"""Binary images and histograms of points, optionally with patches, as an op. Not differentiable."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from fractalops._checks import check_choice, check_device, check_floating, check_size, check_tensor, shape_error
from fractalops.backends import Backend
from fractalops.ops._define import define, takes_native
from fractalops.reference import rasterize_points as reference
from fractalops.reference.without_autocast import in_float32

Mode = Literal["binary", "density"]
LARGEST_PATCH = 15
MOST_POINTS = 2**31 - 1  # a point adds at most 1 to a pixel, so counts fit in int32


_native = define(
    "rasterize_points",
    lambda points, patch, height, width, binary: points.new_empty(
        points.shape[0], height, width, dtype=torch.uint8 if binary else torch.int32
    ),
)


def _patches(patch: Tensor | None, points: Tensor) -> Tensor:
    """Check the patch and return it for each image: (B, patch height, patch width), uint8."""
    images = points.shape[0]
    if patch is None:
        return points.new_ones((1, 1, 1), dtype=torch.uint8).expand(images, 1, 1)
    check_tensor("rasterize_points", patch=patch)
    if patch.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"rasterize_points: patch must be bool or uint8, got {patch.dtype}")
    check_device("rasterize_points", "patch", patch, "points", points)
    odd = all(side % 2 == 1 and side <= LARGEST_PATCH for side in patch.shape[-2:])
    if not odd or not (patch.dim() == 2 or (patch.dim() == 3 and patch.shape[0] == images)):
        expected = f"(h, w) or ({images}, h, w) with h and w odd and at most {LARGEST_PATCH}"
        raise shape_error("rasterize_points", "patch", expected, patch)
    return patch.to(torch.uint8).expand(images, *patch.shape[-2:])


@in_float32
def rasterize_points(
    points: Tensor,
    size: int | tuple[int, int],
    *,
    mode: Mode = "binary",
    patch: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Draw each point on its nearest pixel, as a binary image or a histogram.

    Data sets for fractal pre-training are drawn like this. The op has no gradients. The differentiable rasterizer is
    `rbf_rasterize`.

    A coordinate halfway between two pixels is rounded to the even one. With a patch, a point marks all nonzero pixels
    of the patch, whose center is on the point's pixel. A point outside the image marks the pixels of its patch that
    are inside.

    Under autocast, float16 and bfloat16 points are converted to float32.

    Args:
        points: Points (x, y) in pixels, where x is the row and y the column; shape (B, T, 2) with 1 <= T < 2^31, dtype
            float32 or float64. Points that are NaN, infinite or too far from the image mark nothing.
        size: Side of the images, or (height, width), in pixels.
        mode: "binary" (default): a pixel is 1 if any point marks it, else 0. "density": a pixel is the number of points
            that mark it.
        patch: Pixels that a point marks; shape (h, w), or (B, h, w) with a patch for each image, dtype bool or uint8.
            h and w are odd and at most 15. None (default) means only the nearest pixel. `random_patches` draws patches.
        backend: "native" or "reference". None (default) means the backend that `use_backend` or the environment
            variable `FRACTALOPS_BACKEND` selects, else "native" if it can run on the device. The reference takes any
            floating dtype.

    Returns:
        Images of shape (B, H, W); dtype uint8 for "binary", int32 for "density". They don't depend on the number of
        threads.

    Raises:
        ValueError: If a shape, a device, `size`, `mode` or `backend` is invalid.
        TypeError: If a dtype or type is invalid.
        BackendError: If the requested backend can't run.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> points = torch.tensor([[[0.2, 0.9], [0.3, 1.1], [2.0, 2.0]]])
        >>> fractalops.rasterize_points(points, 3, mode="density")
        tensor([[[0, 2, 0],
                 [0, 0, 0],
                 [0, 0, 1]]], dtype=torch.int32)
        >>> fractalops.rasterize_points(points, 3, patch=torch.tensor([[True, True, True]]))
        tensor([[[1, 1, 1],
                 [0, 0, 0],
                 [0, 1, 1]]], dtype=torch.uint8)
    """
    check_tensor("rasterize_points", points=points)
    check_floating("rasterize_points", points=points)
    if points.dim() != 3 or not 1 <= points.shape[1] <= MOST_POINTS or points.shape[2] != 2:
        raise shape_error("rasterize_points", "points", "(B, T, 2) with 1 <= T < 2^31", points)
    height, width = check_size("rasterize_points", size)
    check_choice("rasterize_points", "mode", mode, get_args(Mode))
    patches = _patches(patch, points)  # (B, patch height, patch width)
    run = _native if takes_native("rasterize_points", "points", points, backend) else reference.rasterize_points
    image: Tensor = run(points.detach(), patches, height, width, mode == "binary")  # (B, H, W)
    return image
