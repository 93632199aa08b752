"""The ops' schemas. Their implementations are in the native libraries and, for some on GPUs, in kernels/.

Without either the package imports and traces.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

SCHEMAS = (
    # form: 0 lets the op choose by shape. On a GPU 1 asks for a lane a sequence and 2 for a scan over the points.
    "affine_chain_fwd(Tensor matrix, Tensor offset, Tensor index, Tensor start, int form=0) -> Tensor",
    "affine_chain_bwd(Tensor grad, Tensor matrix, Tensor index, Tensor start, Tensor points, int form=0)"
    " -> (Tensor, Tensor, Tensor)",
    "rbf_rasterize_fwd(Tensor points, Tensor? weight, Tensor bandwidth, int height, int width, float cutoff) -> Tensor",
    "rbf_rasterize_bwd(Tensor grad, Tensor points, Tensor? weight, Tensor bandwidth, float cutoff,"
    " bool needs_bandwidth) -> (Tensor, Tensor, Tensor)",
    "rasterize_points(Tensor points, Tensor patch, int height, int width, bool binary) -> Tensor",
    "svd_matrix_fwd(Tensor svd, bool clamped) -> Tensor",
    "svd_matrix_bwd(Tensor grad, Tensor svd, bool clamped) -> Tensor",
    "clamped_squared_error_fwd(Tensor images, Tensor targets) -> Tensor",
    "clamped_squared_error_bwd(Tensor grad, Tensor images, Tensor targets) -> Tensor",
    "draw_index(Tensor weight, Tensor uniform, float floor) -> Tensor",
    "draw_balanced_index(Tensor weight, Tensor uniform, float floor) -> Tensor",
    "fixed_point(Tensor matrix, Tensor offset) -> Tensor",
)

LIBRARY = torch.library.Library("fractalops", "FRAGMENT")
for schema in SCHEMAS:
    LIBRARY.define(schema)


def _imported_when_called(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def implement_in_triton(op: str, *names: str) -> None:
    """On NVIDIA GPUs the raw ops are the functions of their names in kernels/<op>.py, imported by the first call."""
    for name in names:
        LIBRARY.impl(name, _imported_when_called(f"fractalops.kernels.{op}", name), "CUDA")
