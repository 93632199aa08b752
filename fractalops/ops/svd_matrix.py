"""Matrices of maps from their SVD parameters, as a differentiable op (paper section 4.4, equation 10)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from fractalops._checks import check_choice, check_floating, check_tensor, shape_error
from fractalops.backends import Backend
from fractalops.ops._define import define, takes_native
from fractalops.ops._differentiate import differentiate
from fractalops.reference import svd_matrix as reference
from fractalops.reference.without_autocast import in_float32

SingularValues = Literal["sigmoid", "clamp"]

_forward = define("svd_matrix_fwd", lambda svd, clamped: svd.new_empty(svd.shape[0], 2, 2))
_backward = define("svd_matrix_bwd", lambda grad, svd, clamped: svd.new_empty(svd.shape))
_native = differentiate(
    lambda svd, clamped: _forward(svd, clamped),
    lambda needed, grad, matrix, svd, clamped: (_backward(grad, svd, clamped), None),
    reference.svd_matrix,
)


def run_svd_matrix(svd: Tensor, singular_values: SingularValues, backend: Backend | None = None) -> Tensor:
    """Run `svd_matrix` on checked arguments."""
    if backend is None and svd.dtype not in (torch.float32, torch.float64):
        backend = "reference"
    native = takes_native("svd_matrix", "svd", svd, backend)
    run = _native if native else reference.svd_matrix
    matrix = run(svd.reshape(-1, 6), singular_values == "clamp")  # (M, 2, 2)
    return matrix.view(*svd.shape[:-1], 2, 2)


@in_float32
def svd_matrix(svd: Tensor, singular_values: SingularValues = "sigmoid", *, backend: Backend | None = None) -> Tensor:
    """Return the matrices of affine maps from their SVD parameters.

    The singular values s1 and s2 of a matrix are in [0, 1] (paper section 4.4, equation 10):

        A = R(theta) diag(s1, s2) R(phi) diag(d1, d2)

    R is the rotation by an angle. d1 and d2 are the signs of their parameters, 1 for 0. The sign has the
    straight-through gradient: backward treats it as the identity.

    Args:
        svd: Parameters theta and phi (in radians), s1, s2, d1 and d2; shape (..., 6), any floating dtype.
        singular_values: "sigmoid" (default, the published code): s1 and s2 are the sigmoids of their parameters.
            "clamp" (the paper's text): they are their parameters, clamped to [0, 1].
        backend: "native", which takes float32 and float64, or "reference". None (default) means the reference for other
            dtypes. For float32 and float64, it means the backend that `use_backend` or the environment variable
            `FRACTALOPS_BACKEND` selects, else "native" if it can run on the device.

    Returns:
        Matrices of shape (..., 2, 2), computed in float64 and rounded once; dtype and device of `svd`. They are
        differentiable in `svd`, any number of times, in backward and forward mode. A parameter that is not finite
        affects only its own map.

    Raises:
        ValueError: If a shape, `singular_values` or `backend` is invalid.
        TypeError: If a dtype is invalid.
        BackendError: If the requested backend can't run.

    Examples:
        >>> import math
        >>> import torch
        >>> from fractalops.ops.svd_matrix import svd_matrix
        >>> svd_matrix(torch.tensor([math.pi / 6, 0.0, 0.5, 0.5, 1.0, 1.0]), "clamp")  # turn by 30 degrees, halve
        tensor([[ 0.4330, -0.2500],
                [ 0.2500,  0.4330]])
    """
    check_tensor("svd_matrix", svd=svd)
    if svd.dim() < 1 or svd.shape[-1] != 6:
        raise shape_error("svd_matrix", "svd", "(..., 6)", svd)
    check_floating("svd_matrix", svd=svd)
    check_choice("svd_matrix", "singular_values", singular_values, get_args(SingularValues))
    return run_svd_matrix(svd, singular_values, backend)
