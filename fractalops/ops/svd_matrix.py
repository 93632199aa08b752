"""The matrices of maps from their SVD parameters, as a differentiable op (paper section 4.4, equation 10)."""

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
    """Run `svd_matrix` on arguments that are known to be right."""
    if backend is None and svd.dtype not in (torch.float32, torch.float64):
        backend = "reference"
    native = takes_native("svd_matrix", "svd", svd, backend)
    run = _native if native else reference.svd_matrix
    matrix = run(svd.reshape(-1, 6), singular_values == "clamp")  # (M, 2, 2)
    return matrix.view(*svd.shape[:-1], 2, 2)


@in_float32
def svd_matrix(svd: Tensor, singular_values: SingularValues = "sigmoid", *, backend: Backend | None = None) -> Tensor:
    """Return the matrices `A = R(theta) diag(s1, s2) R(phi) diag(d1, d2)` of SVD parameters (paper, equation 10).

    Args:
        svd: (..., 6) = theta, phi (radians), s1, s2, d1, d2; floating-point. R is the rotation by an angle, d the
            sign of its latent (0 counts as positive) with the straight-through gradient: backward treats the sign as
            the identity.
        singular_values: "sigmoid" (the published code): s is the sigmoid of the parameter; "clamp" (the paper's
            text): its clamp to [0, 1].
        backend: `"native"` or `"reference"`; None chooses by device and dtype.

    Returns:
        matrix (..., 2, 2), computed in float64 and rounded once; a non-finite parameter spoils its own map only.

    Raises:
        ValueError: for a wrong shape, `singular_values` or backend.
        TypeError: for a dtype that is not floating-point, or that the backend asked for doesn't take.
        BackendError: where the backend asked for can't run.
    """
    check_tensor("svd_matrix", svd=svd)
    if svd.dim() < 1 or svd.shape[-1] != 6:
        raise shape_error("svd_matrix", "svd", "(..., 6)", svd)
    check_floating("svd_matrix", svd=svd)
    check_choice("svd_matrix", "singular_values", singular_values, get_args(SingularValues))
    return run_svd_matrix(svd, singular_values, backend)
