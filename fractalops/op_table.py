"""The table of ops. It imports nothing of the package, nor torch, so that setup.py can run it."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, NamedTuple

DEVICES = ("cpu", "cuda")


class Op(NamedTuple):
    """An op as the dispatcher has it, and where it has a native kernel."""

    schemas: tuple[str, ...]
    """The raw op; of a differentiable one, its forward and its backward. Sizes are SymInt, of which one compiled graph
    serves many."""
    kernels: dict[str, Literal["cpp", "cuda", "triton"]]
    """The language of the native kernel by kind of device: C++ and CUDA are compiled into the device's library from
    csrc/<device>/<op>, Triton is imported from kernels/<op>.py by the first call."""
    minor: bool = False
    """It is small beside the others: where it has no kernel, the reference stands in without a warning."""

    def names(self) -> list[str]:
        """Return the names in its schemas."""
        return [schema.partition("(")[0] for schema in self.schemas]


OPS = {
    "affine_chain": Op(
        # form: 0 lets the op choose by shape. On a GPU 1 asks for a lane a sequence and 2 for a scan over the points.
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
    # Steps of `fit`. Its reference is the loop of tensor operations in fitting/learning.py.
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

# A symbol that a native library exports. It differs for libraries that were built for other schemas of the ops.
SCHEMAS_SYMBOL = f"schemas_{sha256(repr(SCHEMAS).encode()).hexdigest()[:16]}"


def compiled_ops(device: str) -> list[str]:
    """Return the ops whose kernels are in the native library of a kind of device."""
    return [name for name, op in OPS.items() if op.kernels.get(device) in ("cpp", "cuda")]
