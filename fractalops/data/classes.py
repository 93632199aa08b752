"""Check and stack the systems that are the classes of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fractalops.data.generators import generator_of
from fractalops.ifs import IFS
from fractalops.placement import fit_to_frame
from fractalops.sampling import sample_attractor
from fractalops.systems import System
from fractalops.systems.stacking import Stack

T = TypeVar("T")

SEQUENCES = 32  # chains per image, because many short chains are faster than a long one
_MARGIN = 0.05  # share of the image that is empty on each side
_LONG = 3000  # points of the chain that shows whether a system diverges
_FAR = 1e15  # coordinates above this have diverged


def stacked(systems: IFS | Sequence[System], dtype: torch.dtype, dimensions: int = 2) -> Stack:
    """Return copies of the systems of an `IFS`, or of a sequence of systems, in one dtype.

    Raises:
        ValueError: if there is no system, or if systems do not have `dimensions` dimensions, are not on the CPU, or are
            not finite.
        TypeError: if `systems` is neither an `IFS` nor a sequence of `System`.
    """
    if not isinstance(systems, IFS):
        if not isinstance(systems, Sequence) or not all(isinstance(system, System) for system in systems):
            kind = type(systems).__name__
            raise TypeError(f"FractalDataset: systems must be a number, an IFS or a sequence of System, got {kind}")
        if not systems:
            raise ValueError("FractalDataset: systems must not be empty")
    others = {2} if isinstance(systems, IFS) else {system.dimensions for system in systems}
    if others != {dimensions}:
        shown = " and ".join(map(str, sorted(others)))
        raise ValueError(f"FractalDataset: systems must have {dimensions} dimensions, got {shown}")
    stack = Stack(*systems.maps(), systems.probabilities()) if isinstance(systems, IFS) else Stack.of(systems)
    if stack.matrix.device.type != "cpu":
        raise ValueError(f"FractalDataset: systems must be on the CPU, got {stack.matrix.device}")
    stack = Stack(*(tensor.detach().to(dtype, copy=True) for tensor in stack))
    finite = stack.matrix.isfinite().all(dim=(1, 2, 3)) & stack.offset.isfinite().all(dim=(1, 2))  # (S,)
    if not finite.all():
        first = int(finite.logical_not().nonzero()[0])
        raise ValueError(f"FractalDataset: systems must be finite, got NaN or infinity in system {first}")
    return stack


def warn_of_exploding(systems: Stack) -> None:
    """Warn once if the points of some systems diverge. The items of these systems show no points."""
    generator = generator_of(0, "exploding", 0)
    clouds = sample_attractor(*systems, _LONG, sequences=1, generator=generator).points  # (S, 1, T, D)
    gone = ~(clouds.abs() < _FAR).all(dim=(1, 2, 3))  # (S,)
    if gone.any():
        first = int(gone.nonzero()[0])
        which = f"the points of {int(gone.sum())} of {len(gone)} systems diverge, the first is system {first}"
        warnings.warn(f"FractalDataset: {which}; their items show no points", UserWarning, stacklevel=4)


def fitted(clouds: Tensor, size: tuple[int, int]) -> Tensor:
    """Return clouds (B, K, L, 2) in pixels (B, K L, 2), each centered in the image and with its aspect ratio kept."""
    return fit_to_frame(clouds, size, keep_proportions=True, margin=_MARGIN).place_sequences(clouds)


def places_of(chosen: Tensor) -> list[int]:
    """Return the indices at which a tensor (S,) is true."""
    places: list[int] = chosen.nonzero()[:, 0].tolist()
    return places


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Return the items in order, in parts of at most `size` items."""
    return (items[first : first + size] for first in range(0, len(items), size))
