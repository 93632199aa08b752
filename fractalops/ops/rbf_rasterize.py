"""The Gaussian (RBF) rasterizer as a differentiable op (paper section 4.3, equation 8)."""

from __future__ import annotations

from types import NoneType
from typing import Any

import torch
from torch import Tensor

from fractalops._checks import can_read, check_floating, check_tensor, shape_error
from fractalops.backends import choose, debugging
from fractalops.ops._define import define, differentiate
from fractalops.reference import rbf_rasterize as reference

# Pixel numbers must be whole in float32, with room for the rounding of coordinates.
LARGEST_SIZE = 2**22 - 1


def _fake_image(
    points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float
) -> Tensor:
    return points.new_empty(points.shape[0], 1 if weight is None else weight.shape[2], height, width)


def _fake_gradients(
    grad: Tensor, points: Tensor, weight: Tensor | None, bandwidth: Tensor, cutoff: float, needs_bandwidth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A gradient that isn't there is empty."""
    return (
        points.new_empty(points.shape),
        points.new_empty(0) if weight is None else weight.new_empty(weight.shape),
        bandwidth.new_empty(bandwidth.shape[0] if needs_bandwidth else 0),
    )


_forward = define("rbf_rasterize_fwd", _fake_image)
_backward = define("rbf_rasterize_bwd", _fake_gradients)


def _run(points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float) -> Tensor:
    output: Tensor = _forward(points, weight, bandwidth, height, width, cutoff)
    return output


def _save(inputs: tuple[Any, ...], image: Tensor) -> tuple[Any, ...]:
    """Nothing of the image's size."""
    points, weight, bandwidth, _, _, cutoff = inputs
    return points, weight, bandwidth, cutoff


def _gradients(
    needed: tuple[bool, ...], grad: Tensor, points: Tensor, weight: Tensor | None, bandwidth: Tensor, cutoff: float
) -> tuple[Tensor | None, ...]:
    needs_bandwidth = needed[2]
    grad_points, grad_weight, grad_bandwidth = _backward(grad, points, weight, bandwidth, cutoff, needs_bandwidth)
    if weight is None:
        grad_weight = None
    return grad_points, grad_weight, grad_bandwidth if needs_bandwidth else None, None, None, None


_native = differentiate(_run, _save, _gradients)


def check_size(function: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of `size`; raises unless both are whole numbers from 1 to 2^22 - 1."""
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise TypeError(f"{function}: size must be a whole number or a pair of them, got {size!r}")
    if not all(1 <= side <= LARGEST_SIZE for side in sides):
        raise ValueError(f"{function}: size must lie in [1, {LARGEST_SIZE}], got {size!r}")
    return sides[0], sides[1]


def _bandwidths(bandwidth: float | Tensor, points: Tensor) -> Tensor:
    """The bandwidth of each image, (B,)."""
    images, limits = points.shape[0], torch.finfo(points.dtype)
    wanted = f"finite and above 0, at least {limits.tiny:.2g} in {points.dtype}"  # its inverse must be finite
    if not isinstance(bandwidth, Tensor):
        if not isinstance(bandwidth, (int, float)):
            raise TypeError(f"rbf_rasterize: bandwidth must be a number or a tensor, got {type(bandwidth).__name__}")
        if not limits.tiny <= bandwidth <= limits.max:
            raise ValueError(f"rbf_rasterize: bandwidth must be {wanted}, got {bandwidth!r}")
        return points.new_full((images,), bandwidth)
    if bandwidth.shape not in ((), (images,)):
        raise shape_error("rbf_rasterize", "bandwidth", f"() or ({images},)", bandwidth)
    if can_read(bandwidth, debugging()) and not bool(((bandwidth >= limits.tiny) & (bandwidth <= limits.max)).all()):
        raise ValueError(f"rbf_rasterize: bandwidth must be {wanted}, got {bandwidth.tolist()}")
    return bandwidth.expand(images)


def rbf_rasterize(
    points: Tensor,
    size: int | tuple[int, int],
    *,
    bandwidth: float | Tensor = 1.0,
    weight: Tensor | None = None,
    cutoff: float | None = 1e-6,
    backend: str | None = None,
) -> Tensor:
    """Draw points as Gaussian bumps (paper, equation 8); the image is not clamped.

    `image[i, j] = sum_t weight_t exp(-((x_t - i)^2 + (y_t - j)^2) / bandwidth)`, over the pixels within
    `r = ceil(sqrt(-bandwidth ln(cutoff)))` rows and columns of the rounded point: a bump is below `cutoff` on any
    pixel that is left out. Forward and backward leave out the same pixels.

    Args:
        points: (B, T, 2) in pixels, x along rows and y along columns, T >= 1; float32 or float64. Points that are NaN,
            infinite or out of reach add nothing and get zero gradient.
        size: the image's side, or (height, width), in pixels.
        bandwidth: above 0, in square pixels; a number, or a tensor () or (B,) to differentiate.
        weight: (B, T), or (B, T, C) for C channels; None is 1 for every point.
        cutoff: in (0, 1); None draws every point on every pixel.
        backend: `"native"` or `"reference"`; None chooses by device. The reference takes any floating dtype.

    Returns:
        image (B, H, W), or (B, C, H, W) with a weight of C channels; differentiable in points, weight and bandwidth.

    Raises:
        ValueError: for a wrong shape, device, range or backend.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend asked for can't run.
    """
    check_tensor("rbf_rasterize", points=points)
    chosen = choose("rbf_rasterize", points.device, backend)
    check_floating("rbf_rasterize", chosen, points=points)
    if points.dim() != 3 or points.shape[1] == 0 or points.shape[2] != 2:
        raise shape_error("rbf_rasterize", "points", "(B, T, 2) with T >= 1", points)
    height, width = check_size("rbf_rasterize", size)
    if not isinstance(cutoff, (int, float, NoneType)):
        raise TypeError(f"rbf_rasterize: cutoff must be a number or None, got {type(cutoff).__name__}")
    if cutoff is not None and not 0 < cutoff < 1:
        raise ValueError(f"rbf_rasterize: cutoff must lie in (0, 1) or be None, got {cutoff!r}")
    bandwidths = _bandwidths(bandwidth, points)  # (B,)
    check_floating("rbf_rasterize", chosen, points=points, bandwidth=bandwidths)
    if weight is not None:
        check_tensor("rbf_rasterize", weight=weight)
    single = weight is None or weight.dim() == 2
    if weight is not None:
        check_floating("rbf_rasterize", chosen, points=points, weight=weight)
        if weight.dim() not in (2, 3) or weight.shape[:2] != points.shape[:2] or 0 in weight.shape[2:]:
            raise shape_error("rbf_rasterize", "weight", "(B, T) or (B, T, C), with the B and T of points", weight)
        weight = weight[..., None] if single else weight  # (B, T, C)
    arguments = (points, weight, bandwidths, height, width, cutoff or 0.0)
    image: Tensor  # (B, C, H, W)
    image = _native(*arguments) if chosen == "native" else reference.rbf_rasterize(*arguments)
    return image.squeeze(1) if single else image
