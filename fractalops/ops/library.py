"""The ops' schemas. The native library holds their implementations; without it the package still imports and traces."""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("fractalops", "FRAGMENT")

LIBRARY.define("affine_chain_fwd(Tensor matrix, Tensor offset, Tensor index, Tensor start) -> Tensor")
LIBRARY.define(
    "affine_chain_bwd(Tensor grad, Tensor matrix, Tensor index, Tensor start, Tensor points) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "rbf_rasterize_fwd(Tensor points, Tensor? weight, Tensor bandwidth, int height, int width, float cutoff) -> Tensor"
)
LIBRARY.define(
    "rbf_rasterize_bwd(Tensor grad, Tensor points, Tensor? weight, Tensor bandwidth, float cutoff, bool needs_bandwidth)"
    " -> (Tensor, Tensor, Tensor)"
)
