"""The Gaussian (RBF) rasterizer as a differentiable op (paper section 4.3, equation 8)."""

from __future__ import annotations

import functools
import numbers
from typing import NamedTuple

import torch
from torch import Tensor

from fractalops._checks import can_read, check_cutoff, check_floating, check_size, check_tensor, shape_error
from fractalops.backends import Backend, debugging
from fractalops.ops._define import define, takes_native
from fractalops.ops._differentiate import Gradients, differentiate
from fractalops.reference import rbf_rasterize as reference
from fractalops.reference.without_autocast import in_float32


def _fake_image(
    points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float
) -> Tensor:
    return points.new_empty(points.shape[0], 1 if weight is None else weight.shape[2], height, width)


def _fake_gradients(
    grad: Tensor, points: Tensor, weight: Tensor | None, bandwidth: Tensor, cutoff: float, needs_bandwidth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a gradient that isn't there is empty."""
    return (
        points.new_empty(points.shape),
        points.new_empty(0) if weight is None else weight.new_empty(weight.shape),
        bandwidth.new_empty(bandwidth.shape[0] if needs_bandwidth else 0),
    )


_TABLE_VALUES = 2**20  # of the reference's tables at once, for derivatives other than the first: 8 MiB in float64

_forward = define("rbf_rasterize_fwd", _fake_image)
_backward = define("rbf_rasterize_bwd", _fake_gradients)


def _run(points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float) -> Tensor:
    output: Tensor = _forward(points, weight, bandwidth, height, width, cutoff)
    return output


def _gradients(
    needed: tuple[bool, ...],
    grad: Tensor,
    image: None,
    points: Tensor,
    weight: Tensor | None,
    bandwidth: Tensor,
    height: int,
    width: int,
    cutoff: float,
) -> Gradients:
    needs_bandwidth = needed[2]
    grad_points, grad_weight, grad_bandwidth = _backward(grad, points, weight, bandwidth, cutoff, needs_bandwidth)
    if weight is None:
        grad_weight = None
    return grad_points, grad_weight, grad_bandwidth if needs_bandwidth else None, None, None, None


def _formula(
    points: Tensor, weight: Tensor | None, bandwidth: Tensor, height: int, width: int, cutoff: float
) -> Tensor:
    """Return the reference; of many points the sum of drawings of a part each, whose tables don't exist at once."""
    images, count = points.shape[:2]
    channels = 1 if weight is None else weight.shape[2]
    part = max(1, _TABLE_VALUES // max(1, images * (channels * height + width)))
    if count <= part:
        return reference.rbf_rasterize(points, weight, bandwidth, height, width, cutoff)
    weights = [None] * (-(-count // part)) if weight is None else weight.split(part, dim=1)
    drawings = (  # in float64, in which the sum of many isn't rounded more than they are
        _native(some, own, bandwidth, height, width, cutoff).double()
        for some, own in zip(points.split(part, dim=1), weights, strict=True)
    )
    return functools.reduce(torch.add, drawings).to(points.dtype)


_native = differentiate(_run, _gradients, _formula)


class Bumps(NamedTuple):
    """Checked options of `rbf_rasterize`."""

    bandwidth: Tensor  # (B,)
    weight: Tensor | None  # (B, T, C)
    cutoff: float  # 0 draws every point on every pixel


def check_bumps(
    function: str,
    shape: tuple[int, int],
    bandwidth: float | Tensor,
    weight: Tensor | None,
    cutoff: float | None,
    **like: Tensor,
) -> Bumps:
    """Return the options of `rbf_rasterize` as the op takes them, for points of `shape` (B, T).

    `like` is one tensor with its name, whose dtype and device the options must have. Raises `ValueError` or
    `TypeError`.
    """
    (first,) = like.values()
    images = shape[0]
    check_cutoff(function, cutoff)
    least = torch.finfo(first.dtype).tiny
    most = 1 / least  # so that its inverse is a normal number, too
    expected = f"finite and above 0, from {least:.2g} to {most:.2g} in {first.dtype}"
    if isinstance(bandwidth, Tensor):
        check_tensor(function, bandwidth=bandwidth)
        check_floating(function, **like, bandwidth=bandwidth)
        if bandwidth.shape not in ((), (images,)):
            raise shape_error(function, "bandwidth", f"() or ({images},)", bandwidth)
        if can_read(bandwidth, debugging()) and not bool(((bandwidth >= least) & (bandwidth <= most)).all()):
            raise ValueError(f"{function}: bandwidth must be {expected}, got {bandwidth.tolist()}")
        bandwidths = bandwidth.expand(images)
    else:
        if isinstance(bandwidth, bool) or not isinstance(bandwidth, numbers.Real):
            raise TypeError(f"{function}: bandwidth must be a number or a tensor, got {type(bandwidth).__name__}")
        if not least <= bandwidth <= most:
            raise ValueError(f"{function}: bandwidth must be {expected}, got {bandwidth!r}")
        number = bandwidth if isinstance(bandwidth, (int, float)) else float(bandwidth)
        bandwidths = first.new_full((images,), number)
    if weight is not None:
        check_tensor(function, weight=weight)
        check_floating(function, **like, weight=weight)
        if weight.dim() not in (2, 3) or weight.shape[:2] != shape or 0 in weight.shape[2:]:
            raise shape_error(function, "weight", f"({images}, {shape[1]}) or ({images}, {shape[1]}, C)", weight)
        if weight.dim() == 2:
            weight = weight[..., None]
    return Bumps(bandwidths, weight, cutoff or 0.0)


def run_rbf_rasterize(points: Tensor, size: tuple[int, int], bumps: Bumps, backend: Backend | None = None) -> Tensor:
    """Run `rbf_rasterize` on arguments that are known to be right: the image (B, C, H, W)."""
    native = takes_native("rbf_rasterize", "points", points, backend)
    run = _native if native else reference.rbf_rasterize
    return run(points, bumps.weight, bumps.bandwidth, *size, bumps.cutoff)


@in_float32
def rbf_rasterize(
    points: Tensor,
    size: int | tuple[int, int],
    *,
    bandwidth: float | Tensor = 1.0,
    weight: Tensor | None = None,
    cutoff: float | None = 1e-6,
    backend: Backend | None = None,
) -> Tensor:
    """Draw points as Gaussian bumps (paper, equation 8); the image is not clamped.

    `image[i, j] = sum_t weight_t exp(-((x_t - i)^2 + (y_t - j)^2) / bandwidth)`, over the pixels within
    `r = ceil(sqrt(-bandwidth ln(cutoff)) - 1/2)`, at least 0, rows and columns of the rounded point: a bump is below
    `cutoff` on any pixel that is left out. Forward and backward leave out the same pixels. Under autocast, tensors in
    half precision become float32.

    Args:
        points: (B, T, 2) in pixels, x along rows and y along columns, T >= 1; float32 or float64. Points that are NaN,
            infinite or out of reach add nothing and get zero gradient.
        size: the image's side, or (height, width), in pixels.
        bandwidth: above 0, in square pixels; a number, or a tensor () or (B,) to differentiate. It and its inverse must
            be normal numbers of the dtype: from 1.2e-38 to 8.5e37 in float32.
        weight: (B, T), or (B, T, C) for C channels; None is 1 for every point.
        cutoff: in (0, 1); None draws every point on every pixel.
        backend: `"native"` or `"reference"`; None chooses by device. The reference takes any floating dtype.

    Returns:
        image (B, H, W), or (B, C, H, W) with a weight of C channels; differentiable in points, weight and bandwidth,
        any number of times and in forward mode. The native backend's derivatives other than the first are the
        reference's, which visits every pixel for every point, in parts of about 2^20 numbers.

    Raises:
        ValueError: for a wrong shape, device, range or backend.
        TypeError: for a wrong dtype or type.
        BackendError: where the backend asked for can't run.
    """
    check_tensor("rbf_rasterize", points=points)
    check_floating("rbf_rasterize", points=points)
    if points.dim() != 3 or points.shape[1] == 0 or points.shape[2] != 2:
        raise shape_error("rbf_rasterize", "points", "(B, T, 2) with T >= 1", points)
    sides = check_size("rbf_rasterize", size)
    bumps = check_bumps("rbf_rasterize", (points.shape[0], points.shape[1]), bandwidth, weight, cutoff, points=points)
    image = run_rbf_rasterize(points, sides, bumps, backend)  # (B, C, H, W)
    return image.squeeze(1) if weight is None or weight.dim() == 2 else image
