"""The measured shapes, declared once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import fractalops
from fractalops.rendering import fold_viewport


@dataclass(frozen=True)
class Case:
    """Sequences of one random system (Anderson and Farrell 2022), drawn on square images."""

    name: str
    sequences: int  # B
    points: int  # T, of a sequence
    maps: int  # N
    side: int  # H = W, in pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    @property
    def all_points(self) -> int:
        return self.sequences * self.points

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """matrix (N, 2, 2), offset (N, 2) and start (B, 2), float32, in pixels; index (B, T), uint8.

        What the chain gets in a step of `fit`, with the published viewport.
        """
        generator = torch.Generator().manual_seed(0)
        system = fractalops.IFS(1, self.maps, generator=generator)
        index = system.sample(self.sequences, self.points, generator=generator)
        with torch.no_grad():
            matrix, offset, index, start = system.concatenated(index)
            matrix, offset, start = fold_viewport(matrix, offset, start, self.size, (-5.0, -5.0, 5.0, 5.0))
        return matrix, offset, index, start

    def cloud(self) -> Tensor:
        """The points (B, T, 2) of the chain, for the rasterizer alone."""
        return fractalops.affine_chain(*self.inputs())


PAPER = Case("50 x 300 points, 10 maps, 32 x 32", sequences=50, points=300, maps=10, side=32)
LARGE = [
    Case(f"{points:,} points, 10 maps, 1024 x 1024", sequences=1, points=points, maps=10, side=1024)
    for points in (10**4, 10**5, 10**6)
]
