"""Statistics of a system: bounding box, contraction and dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from fractalops.sampling import sample_index, spectral_radius
from fractalops.systems.dimension import box_dimension, similarity_dimension
from fractalops.systems.system import System, shares_of

_POINTS = 200_000
_DIVERGES = "none, the points diverge"
_CHAINS, _STEPS, _SETTLING = 1000, 120, 20  # for the Lyapunov exponent; the first _SETTLING steps are left out


@torch.no_grad()
def describe(system: System, seed: int = 0) -> str:
    """Return a text about a system: its maps, probabilities, bounding box, contraction and dimensions.

    `seed` is the seed of the random points from which values are estimated.
    """
    generator = torch.Generator(system.offset.device).manual_seed(seed)
    matrix, offset, probabilities = system.matrix.double(), system.offset.double(), shares_of(system.probabilities)
    drawn = probabilities > 0  # (N,)
    points = System(matrix, offset, probabilities).points(_POINTS, generator=generator)  # (P, D)
    bounded = bool(points.isfinite().all())
    norms = torch.linalg.matrix_norm(matrix[drawn], 2)  # (N',)
    radii = spectral_radius(matrix[drawn])  # (N',)
    exponent = lyapunov_exponent(system, generator)
    similarity = similarity_dimension(system)
    expanding = int((norms >= 1).sum())
    low, high = points.amin(0).tolist(), points.amax(0).tolist()
    box = " x ".join(f"[{least:.6g}, {most:.6g}]" for least, most in zip(low, high, strict=True))
    rows = [
        ("maps", f"{len(system)} in {system.dimensions} dimensions, {int((~drawn).sum())} with probability 0"),
        ("probabilities", f"{float(probabilities[drawn].min()):.4g} to {float(probabilities.max()):.4g}"),
        ("bounding box", box if bounded else _DIVERGES),
        (
            "norms",
            f"{float(norms.min()):.4g} to {float(norms.max()):.4g}, "
            f"{expanding or 'none'} {'are' if expanding > 1 else 'is'} 1 or more",
        ),
        ("spectral radii", f"{float(radii.min()):.4g} to {float(radii.max()):.4g}"),
        ("Lyapunov exponent", f"{exponent:.4g} ({'contracts' if exponent < 0 else 'does not contract'} on average)"),
        ("box dimension", f"{box_dimension(points):.2f}" if bounded else _DIVERGES),
    ]
    if similarity is not None:
        rows.append(
            ("similarity dimension", f"{similarity:.4f} (the attractor's dimension if its parts don't overlap)")
        )
    return "\n".join(f"{name + ':':<22}{value}" for name, value in rows)


@torch.no_grad()
def lyapunov_exponent(system: System, generator: torch.Generator | None = None) -> float:
    """Estimate the largest Lyapunov exponent: the mean logarithm of the factor by which a step stretches a vector.

    If it is negative, the points of a chain don't depend on its start in the long run, even if some maps don't contract
    (Elton 1987).
    """
    matrix = system.matrix.double()  # (N, D, D)
    index = sample_index(shares_of(system.probabilities)[None], _CHAINS, _STEPS, generator)[0].long()  # (K, T)
    vector: Tensor = matrix.new_ones(_CHAINS, system.dimensions) / system.dimensions**0.5  # (K, D)
    total = 0.0
    for step in range(_STEPS):
        vector = (matrix[index[:, step]] @ vector[..., None])[..., 0]  # (K, D)
        length = vector.norm(dim=1, keepdim=True)  # (K, 1)
        vector = torch.where(length > 0, vector / length, 0.0)  # a vector that a singular map takes to 0 stays 0
        if step >= _SETTLING:
            total += float(length.log().mean())
    return total / (_STEPS - _SETTLING)
