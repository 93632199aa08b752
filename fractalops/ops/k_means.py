"""k-means of points in the plane, as an op. Not differentiable."""

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
    """Return the centers (S, N, 2) to which `rounds` of Lloyd's algorithm (1982) move `centers` (S, N, 2).

    A round moves each center to the mean of those of `places` (S, M, 2) that are nearest to it; of equally near centers
    a place counts for the first. A center without places stays. N >= 1, of one dtype, float32 or float64 (the
    reference: any floating dtype); places and centers must be finite, otherwise their system's result is undefined.

    Raises `ValueError` for a wrong shape, number of rounds or backend, `TypeError` for a wrong dtype or type and
    `BackendError` where the backend asked for can't run.
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
