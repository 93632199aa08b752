"""Points counted on pixels, as an op: histograms and binary images, also with patches. Not differentiable."""

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
MOST_POINTS = 2**31 - 1  # a pixel counts each point of its image at most once, so its count fits in int32


_native = define(
    "rasterize_points",
    lambda points, patch, height, width, binary: points.new_empty(
        points.shape[0], height, width, dtype=torch.uint8 if binary else torch.int32
    ),
)


def _patches(patch: Tensor | None, points: Tensor) -> Tensor:
    """Return the patch of each image: (B, patch height, patch width), uint8."""
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
    """Draw each point on its nearest pixel, as the data sets of fractal pre-training are drawn; no gradients.

    A coordinate half-way between two pixels goes to the even one. With a patch, a point stamps all pixels that the
    patch marks, its center on the point's pixel; of a point beside the image, what of its patch lies in the image.
    Under autocast, points in half precision become float32.

    Args:
        points: (B, T, 2) in pixels, x along rows and y along columns, 1 <= T < 2^31; float32 or float64. Points that
            are NaN, infinite or out of reach add nothing.
        size: the image's side, or (height, width), in pixels.
        mode: "binary": 1 where a pixel is stamped, else 0; "density": how often it is.
        patch: a mask (h, w) for all images, or (B, h, w) one for each, with odd sides up to 15; bool, or uint8 with 0
            for what is left out. None marks the center alone. `random_patches` draws some.
        backend: `"native"` or `"reference"`; None chooses by device. The reference takes any floating dtype.

    Returns:
        image (B, H, W), uint8 ("binary") or int32 ("density"): the same for any number of threads.

    Raises:
        ValueError: for a wrong shape, device, size, mode or backend.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend asked for can't run.
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
