"""k-means clustering of points in the plane, as an op. Not differentiable."""

from __future__ import annotations

from torch import Tensor

from fractalops._checks import check_floating, check_integer, check_tensor, shape_error
from fractalops.backends import Backend
from fractalops.ops._define import define, takes_native
from fractalops.reference import k_means as reference
from fractalops.reference.without_autocast import in_float32

_native = define("k_means", lambda places, centers, rounds: centers.new_empty(centers.shape))


@in_float32
def k_means(places: Tensor, centers: Tensor, rounds: int, *, backend: Backend | None = None) -> Tensor:
    """Return the cluster centers after a number of rounds of Lloyd's algorithm (1982).

    A round assigns each point to the nearest center, then moves each center to the mean of its points. A point with
    the same distance to several centers is assigned to the first of them. A center without points doesn't move.

    If a number is not finite, the result of its system is undefined.

    Args:
        places: Points of each system; shape (S, M, 2), dtype float32 or float64.
        centers: Centers at the start; shape (S, N, 2) with N >= 1, dtype of `places`.
        rounds: Number of rounds, at least 0.
        backend: See `affine_chain`.

    Returns:
        Centers after the last round; shape (S, N, 2), dtype and device of `places`.

    Raises:
        ValueError: If a shape, `rounds` or `backend` is invalid.
        TypeError: If a dtype or type is invalid.
        BackendError: If the requested backend can't run.
    """
    check_tensor("k_means", places=places)
    check_floating("k_means", places=places, centers=centers)
    if places.dim() != 3 or places.shape[2] != 2:
        raise shape_error("k_means", "places", "(S, M, 2)", places)
    if centers.dim() != 3 or centers.shape[1] == 0 or centers.shape != (places.shape[0], centers.shape[1], 2):
        raise shape_error("k_means", "centers", f"({places.shape[0]}, N, 2) with N >= 1", centers)
    rounds = check_integer("k_means", "rounds", rounds, 0)
    run = _native if takes_native("k_means", "places", places, backend) else reference.k_means
    moved: Tensor = run(places.detach(), centers.detach(), rounds)  # (S, N, 2)
    return moved
