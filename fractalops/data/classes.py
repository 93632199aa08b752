"""The systems that are the classes of a data set: given ones in one stack, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fractalops.ifs import IFS
from fractalops.rendering import fit_to_frame
from fractalops.systems import System

SEQUENCES = 32  # side by side for an image: many short chains are faster than a long one
_MARGIN = 0.05  # of the image, on each side


class Stack(NamedTuple):
    """Systems in one tensor each; those of fewer maps have maps of probability 0 at the end."""

    matrix: Tensor  # (S, N, D, D)
    offset: Tensor  # (S, N, D)
    probabilities: Tensor  # (S, N)

    @classmethod
    def of(cls, systems: Sequence[System]) -> Stack:
        """Return systems of the same dimensions in float64."""
        return cls(
            *(
                pad_sequence([getattr(system, name).double() for system in systems], batch_first=True)
                for name in cls._fields
            )
        )

    @classmethod
    def zeros(cls, systems: int, maps: int) -> Stack:
        """Return systems of the plane whose numbers are all 0, in float32."""
        zero = torch.zeros(systems, maps, 7, dtype=torch.float32, device="cpu")
        return cls(zero[..., :4].unflatten(-1, (2, 2)), zero[..., 4:6], zero[..., 6])

    def pick(self, numbers: Sequence[int]) -> Stack:
        """Return the systems of these numbers, in that order."""
        chosen = torch.tensor(numbers, dtype=torch.int64, device=self.matrix.device)
        return Stack(*(part[chosen] for part in self))

    def systems(self) -> list[System]:
        """Return each system by itself, without the maps of probability 0 at its end."""
        maps = [int(row.nonzero()[-1]) + 1 for row in self.probabilities]
        return [
            System(self.matrix[number, :count], self.offset[number, :count], self.probabilities[number, :count])
            for number, count in enumerate(maps)
        ]


def stacked(systems: IFS | Sequence[System], dtype: torch.dtype, dimensions: int = 2) -> Stack:
    """Return the systems of an `IFS`, or several, on the CPU and in one dtype, with memory of their own.

    Raises:
        ValueError: for systems that are none, of other dimensions, not on the CPU, or not finite.
        TypeError: for another type.
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
        raise ValueError(f"FractalDataset: systems must have {dimensions} dimensions, got some of {shown}")
    stack = Stack(*systems.maps(), systems.probabilities()) if isinstance(systems, IFS) else Stack.of(systems)
    if stack.matrix.device.type != "cpu":
        raise ValueError(f"FractalDataset: systems must lie on the CPU, got {stack.matrix.device}")
    stack = Stack(*(tensor.detach().to(dtype, copy=True) for tensor in stack))
    finite = stack.matrix.isfinite().all(dim=(1, 2, 3)) & stack.offset.isfinite().all(dim=(1, 2))  # (S,)
    if not finite.all():
        first = int(finite.logical_not().nonzero()[0])
        raise ValueError(f"FractalDataset: systems must be finite, got NaN or infinity in system {first}")
    return stack


def fitted(clouds: Tensor, size: tuple[int, int]) -> Tensor:
    """Clouds (B, K, L, 2) as pixels (B, K L, 2), each one's bounding box amid the image, in its true proportions."""
    placement = fit_to_frame(clouds, size, keep_proportions=True, margin=_MARGIN)  # of (B, 1, 1, 2)
    # By whole sequences, in which the placement repeats: along pairs of numbers torch is several times slower.
    origin, target = (part.flatten(1).repeat(1, clouds.shape[2])[:, None] for part in placement[::2])  # (B, 1, 2 L)
    pixels = (clouds.flatten(2) - origin).mul_(placement.scale[..., 0]).add_(target)  # (B, K, 2 L)
    return pixels.view(len(clouds), -1, 2)
