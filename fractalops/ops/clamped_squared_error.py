"""The loss of a fit as a differentiable op: one pass over the pixels each way (paper sections 4.1 and 4.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fractalops._checks import check_floating, shape_error
from fractalops.backends import choose
from fractalops.ops.folding import fold, unfold
from fractalops.ops.function import apply_function
from fractalops.ops.library import LIBRARY
from fractalops.reference import clamped_squared_error as reference


@torch.library.register_fake("fractalops::clamped_squared_error_fwd", lib=LIBRARY)
def _forward_fake(images: Tensor, targets: Tensor) -> Tensor:
    return images.new_empty(images.shape[0])


@torch.library.register_fake("fractalops::clamped_squared_error_bwd", lib=LIBRARY)
def _backward_fake(grad: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    return images.new_empty(images.shape)


@torch.library.register_vmap("fractalops::clamped_squared_error_fwd", lib=LIBRARY)
def _forward_vmap(info: Any, dims: tuple[int | None, ...], images: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    size = info.batch_size
    images, targets = fold(size, (images, dims[0]), (targets, dims[1]))
    return unfold(size, torch.ops.fractalops.clamped_squared_error_fwd(images, targets)), 0


@torch.library.register_vmap("fractalops::clamped_squared_error_bwd", lib=LIBRARY)
def _backward_vmap(
    info: Any, dims: tuple[int | None, ...], grad: Tensor, images: Tensor, targets: Tensor
) -> tuple[Tensor, int]:
    size = info.batch_size
    grad, images, targets = fold(size, (grad, dims[0]), (images, dims[1]), (targets, dims[2]))
    return unfold(size, torch.ops.fractalops.clamped_squared_error_bwd(grad, images, targets)), 0


class ClampedSquaredError(torch.autograd.Function):
    """The native loss. Saved for backward: its inputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, targets: Tensor) -> Tensor:
        errors: Tensor = torch.ops.fractalops.clamped_squared_error_fwd(images, targets)
        return errors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        images, targets = ctx.saved_tensors
        return torch.ops.fractalops.clamped_squared_error_bwd(grad, images, targets), None


def clamped_squared_error(images: Tensor, targets: Tensor, *, backend: str | None = None) -> Tensor:
    """The mean of `(clamp(images, 0, 1) - targets)^2` over the pixels, channels and sequences of each system.

    images (S, K, H, W), targets (S, H, W), or in color images (S, K, C, H, W), targets (S, C, H, W), of one dtype,
    float32 or float64 (the reference: any floating dtype) -> (S,), differentiable in images: the gradient is that of
    the error in [0, 1], borders included, and zero outside.

    Raises `ValueError` for a wrong shape or backend, `TypeError` for a wrong dtype and `BackendError` where the backend
    asked for can't run.
    """
    if images.dim() not in (4, 5) or 0 in images.shape[1:]:
        raise shape_error("clamped_squared_error", "images", "(S, K, H, W) or (S, K, C, H, W), not empty", images)
    if targets.shape != (images.shape[0], *images.shape[2:]):
        wanted = f"{(images.shape[0], *images.shape[2:])}"
        raise shape_error("clamped_squared_error", "targets", wanted, targets)
    chosen = choose("clamped_squared_error", images.device, backend)
    check_floating("clamped_squared_error", chosen, images=images, targets=targets)
    arguments = (images.flatten(2), targets.detach().flatten(1))
    errors: Tensor
    if chosen == "native":
        errors = apply_function(ClampedSquaredError, *arguments)
    else:
        errors = reference.clamped_squared_error(*arguments)
    return errors
