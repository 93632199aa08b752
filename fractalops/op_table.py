"""The table of all ops. It imports neither torch nor other modules of the package, so that setup.py can run it."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, NamedTuple

DEVICES = ("cpu", "cuda")


class Op(NamedTuple):
    """Schemas of an op for torch's dispatcher, and the devices for which it has a native kernel."""

    schemas: tuple[str, ...]
    """Schema of the raw op, or schemas of its forward and backward if it is differentiable. Sizes are SymInt, so that
    one compiled graph works for many sizes."""
    kernels: dict[str, Literal["cpp", "cuda", "triton"]]
    """Language of the native kernel by type of device. C++ and CUDA kernels are in csrc/<device>/<op> and are compiled
    into the device's library. Triton kernels are in kernels/<op>.py, which the first call imports."""
    minor: bool = False
    """Whether the op takes little time compared with the others. If it has no native kernel for a device, the reference
    runs without a warning."""

    def names(self) -> list[str]:
        """Return the names of the raw ops."""
        return [schema.partition("(")[0] for schema in self.schemas]


OPS = {
    "affine_chain": Op(
        # form: 0 chooses the kernel by shape. On a GPU, 1 uses one lane for each sequence, 2 scans over the points.
        schemas=(
            "affine_chain_fwd(Tensor matrix, Tensor offset, Tensor index, Tensor start, int form=0) -> Tensor",
            "affine_chain_bwd(Tensor grad, Tensor matrix, Tensor index, Tensor start, Tensor points, int form=0)"
            " -> (Tensor, Tensor, Tensor)",
        ),
        kernels={"cpu": "cpp", "cuda": "cuda"},
    ),
    "rbf_rasterize": Op(
        schemas=(
            "rbf_rasterize_fwd(Tensor points, Tensor? weight, Tensor bandwidth, SymInt height, SymInt width,"
            " float cutoff) -> Tensor",
            "rbf_rasterize_bwd(Tensor grad, Tensor points, Tensor? weight, Tensor bandwidth, float cutoff,"
            " bool needs_bandwidth) -> (Tensor, Tensor, Tensor)",
        ),
        kernels={"cpu": "cpp", "cuda": "triton"},
    ),
    "rasterize_points": Op(
        schemas=("rasterize_points(Tensor points, Tensor patch, SymInt height, SymInt width, bool binary) -> Tensor",),
        kernels={"cpu": "cpp", "cuda": "triton"},
    ),
    "svd_matrix": Op(
        schemas=(
            "svd_matrix_fwd(Tensor svd, bool clamped) -> Tensor",
            "svd_matrix_bwd(Tensor grad, Tensor svd, bool clamped) -> Tensor",
        ),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "clamped_squared_error": Op(
        schemas=(
            "clamped_squared_error_fwd(Tensor images, Tensor targets) -> Tensor",
            "clamped_squared_error_bwd(Tensor grad, Tensor images, Tensor targets) -> Tensor",
        ),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "draw_index": Op(
        schemas=("draw_index(Tensor weight, Tensor uniform, float floor) -> Tensor",),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "draw_balanced_index": Op(
        schemas=("draw_balanced_index(Tensor weight, Tensor uniform, float floor) -> Tensor",),
        kernels={"cpu": "cpp", "cuda": "cuda"},
    ),
    "fixed_point": Op(
        schemas=("fixed_point(Tensor matrix, Tensor offset) -> Tensor",),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    # Optimization steps of `fit`. The reference is the loop of tensor operations in fitting/learning.py.
    "learn_steps": Op(
        schemas=(
            "learn_steps(Tensor targets, Tensor(a!) rows, Tensor(b!) first, Tensor(c!)? second, Tensor? uniform,"
            " Tensor? index, Tensor rates, int number, int maps, int sequences, int points, bool color, float x_min,"
            " float y_min, float x_max, float y_max, float bandwidth, float cutoff, float probability_floor,"
            " float gradient_clip, float momentum, bool factors, bool clamped_values, bool learned, bool balanced,"
            " bool clamped_image) -> Tensor",
        ),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "k_means": Op(
        schemas=("k_means(Tensor places, Tensor centers, int rounds) -> Tensor",),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "draw_masks": Op(
        schemas=("draw_masks(Tensor seed, SymInt count) -> Tensor",),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
    "rasterize_orbit": Op(
        schemas=(
            "rasterize_orbit(Tensor matrix, Tensor offset, Tensor probabilities, Tensor uniform, Tensor? mask,"
            " SymInt height, SymInt width, int padding) -> Tensor",
        ),
        kernels={"cpu": "cpp"},
        minor=True,
    ),
}
SCHEMAS = tuple(schema for op in OPS.values() for schema in op.schemas)

# A symbol that each native library exports. Its name shows whether the library was built for these schemas.
SCHEMAS_SYMBOL = f"schemas_{sha256(repr(SCHEMAS).encode()).hexdigest()[:16]}"


def compiled_ops(device: str) -> list[str]:
    """Return the names of the ops whose kernels are in the native library of a type of device."""
    return [name for name, op in OPS.items() if op.kernels.get(device) in ("cpp", "cuda")]
