"""The ops' schemas. The native library holds their implementations; without it the package still imports and traces."""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("fractalops", "FRAGMENT")

for schema in (
    "affine_chain_fwd(Tensor matrix, Tensor offset, Tensor index, Tensor start) -> Tensor",
    "affine_chain_bwd(Tensor grad, Tensor matrix, Tensor index, Tensor start, Tensor points)"
    " -> (Tensor, Tensor, Tensor)",
    "rbf_rasterize_fwd(Tensor points, Tensor? weight, Tensor bandwidth, int height, int width, float cutoff) -> Tensor",
    "rbf_rasterize_bwd(Tensor grad, Tensor points, Tensor? weight, Tensor bandwidth, float cutoff,"
    " bool needs_bandwidth) -> (Tensor, Tensor, Tensor)",
    "svd_matrix_fwd(Tensor svd, bool clamped) -> Tensor",
    "svd_matrix_bwd(Tensor grad, Tensor svd, bool clamped) -> Tensor",
    "clamped_squared_error_fwd(Tensor images, Tensor targets) -> Tensor",
    "clamped_squared_error_bwd(Tensor grad, Tensor images, Tensor targets) -> Tensor",
    "draw_index(Tensor weight, Tensor uniform, float floor) -> Tensor",
    "fixed_point(Tensor matrix, Tensor offset) -> Tensor",
):
    LIBRARY.define(schema)
