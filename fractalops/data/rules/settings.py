"""What all rules for drawing images of fractals take, and what they are to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fractalops.systems import System
from fractalops.systems.stacking import Stack


@dataclass(frozen=True)
class Settings:
    """The arguments of `FractalDataset` that its rules read."""

    instances: int | None
    size: tuple[int, int]
    rendering: str
    points: int
    maps: tuple[int, int]
    perturbation: float
    background: str
    density: float
    seed: int
    base: System | None = None
    variance: float = 0.0


@dataclass(frozen=True)
class Defaults:
    """What rules take for the arguments of `FractalDataset` that are None."""

    rendering: str
    points: int
    perturbation: float
    density: float
    maps: tuple[int, int]
    background: str = "black"


class Rules(Protocol):
    """Classes, and how their images are drawn."""

    instances: int
    """Of each class."""
    stack: Stack
    """The systems of the classes, as they are before an instance changes them."""

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return an image (C, H, W) for each item: float32 in [0, 1], or uint8; or a cloud of points (T, 3), float32.

        An item's number is its class's times `instances` plus its instance's.
        """
