"""Rasterizer of Gaussian bumps (RBF) as a differentiable op (paper section 4.3, equation 8)."""

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
    """Return empty gradients of the right shapes. A gradient that isn't computed has no elements."""
    return (
        points.new_empty(points.shape),
        points.new_empty(0) if weight is None else weight.new_empty(weight.shape),
        bandwidth.new_empty(bandwidth.shape[0] if needs_bandwidth else 0),
    )


# Values in the reference's tables at a time, for derivatives other than the first: 8 MiB in float64.
_TABLE_VALUES = 2**20

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
    """Return the reference's image. For many points, add up the images of parts, to limit the memory for tables."""
    images, count = points.shape[:2]
    channels = 1 if weight is None else weight.shape[2]
    part = max(1, _TABLE_VALUES // max(1, images * (channels * height + width)))
    if count <= part:
        return reference.rbf_rasterize(points, weight, bandwidth, height, width, cutoff)
    weights = [None] * (-(-count // part)) if weight is None else weight.split(part, dim=1)
    drawings = (  # float64, so that the sum adds no more rounding than the parts have
        _native(some, own, bandwidth, height, width, cutoff).double()
        for some, own in zip(points.split(part, dim=1), weights, strict=True)
    )
    return functools.reduce(torch.add, drawings).to(points.dtype)


_native = differentiate(_run, _gradients, _formula)


class Bumps(NamedTuple):
    """Checked options of `rbf_rasterize`."""

    bandwidth: Tensor  # (B,)
    weight: Tensor | None  # (B, T, C)
    cutoff: float  # 0: every point is drawn on every pixel


def check_bumps(
    function: str,
    shape: tuple[int, int],
    bandwidth: float | Tensor,
    weight: Tensor | None,
    cutoff: float | None,
    **like: Tensor,
) -> Bumps:
    """Check the options of `rbf_rasterize` and return them in the form that the op takes.

    Args:
        function: Name of the function for error messages.
        shape: (B, T) of the points.
        bandwidth: See `rbf_rasterize`.
        weight: See `rbf_rasterize`.
        cutoff: See `rbf_rasterize`.
        **like: One tensor with its name. The options must have its dtype and device.

    Raises:
        ValueError: If a shape, a device or a range is invalid.
        TypeError: If a dtype or type is invalid.
    """
    (first,) = like.values()
    images = shape[0]
    check_cutoff(function, cutoff)
    least = torch.finfo(first.dtype).tiny
    most = 1 / least  # the inverse must be a normal number too
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
    """Run `rbf_rasterize` on checked arguments and return images (B, C, H, W)."""
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
    """Draw points as Gaussian bumps and return the sum of the bumps at each pixel.

    This is the paper's rasterizer (section 4.3, equation 8):

        image[i, j] = sum over t of weight_t exp(-((x_t - i)^2 + (y_t - j)^2) / bandwidth)

    The image is not clamped. A point is drawn only on pixels at most `r = ceil(sqrt(-bandwidth ln(cutoff)) - 1/2)` rows
    and columns from its nearest pixel (r >= 0). On all other pixels, its bump without the weight is at most `cutoff`.
    Forward and backward leave out the same pixels.

    The op is differentiable in points, weight and bandwidth, any number of times, in backward and forward mode. For
    derivatives other than the first, the native backend uses the reference, which computes every pixel for every point.
    It splits the points into parts whose tables have about 2^20 numbers.

    Under autocast, float16 and bfloat16 tensors are converted to float32.

    Args:
        points: Points (x, y) in pixels, where x is the row and y the column; shape (B, T, 2) with T >= 1, dtype float32
            or float64. Points that are NaN, infinite or too far from the image add nothing and get zero gradients.
        size: Side of the images, or (height, width), in pixels.
        bandwidth: Bandwidth of the bumps in square pixels, above 0; a number, or a tensor of shape () or (B,). It and
            its inverse must be normal numbers of the dtype (from 1.2e-38 to 8.5e37 in float32). Default: 1.
        weight: Weight of each point; shape (B, T), or (B, T, C) for C channels, dtype of `points`. None (default) means
            1.
        cutoff: Leave out pixels far from a point, on which its bump is below this value, in (0, 1). None draws every
            point on every pixel. Default: 1e-6.
        backend: "native" or "reference". None (default) means the backend that `use_backend` or the environment
            variable `FRACTALOPS_BACKEND` selects, else "native" if it can run on the device. The reference takes any
            floating dtype.

    Returns:
        Images of shape (B, H, W), or (B, C, H, W) if `weight` has C channels; dtype and device of `points`.

    Raises:
        ValueError: If a shape, a device, `size`, `bandwidth`, `cutoff` or `backend` is invalid.
        TypeError: If a dtype or type is invalid.
        BackendError: If the requested backend can't run.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> points = torch.tensor([[[1.0, 1.0]]], requires_grad=True)
        >>> image = fractalops.rbf_rasterize(points, 3)
        >>> image.detach()
        tensor([[[0.1353, 0.3679, 0.1353],
                 [0.3679, 1.0000, 0.3679],
                 [0.1353, 0.3679, 0.1353]]])
        >>> image[0, 0, 0].backward()
        >>> points.grad
        tensor([[[-0.2707, -0.2707]]])
    """
    check_tensor("rbf_rasterize", points=points)
    check_floating("rbf_rasterize", points=points)
    if points.dim() != 3 or points.shape[1] == 0 or points.shape[2] != 2:
        raise shape_error("rbf_rasterize", "points", "(B, T, 2) with T >= 1", points)
    sides = check_size("rbf_rasterize", size)
    bumps = check_bumps("rbf_rasterize", (points.shape[0], points.shape[1]), bandwidth, weight, cutoff, points=points)
    image = run_rbf_rasterize(points, sides, bumps, backend)  # (B, C, H, W)
    return image.squeeze(1) if weight is None or weight.dim() == 2 else image
