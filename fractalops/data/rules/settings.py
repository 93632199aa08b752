"""The settings and the interface of all rules for drawing images of fractals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from fractalops.systems import System
from fractalops.systems.stacking import Stack

Rendering = Literal["binary", "patch", "gray", "color"]
PublishedRendering = Literal["patch_gray", "patch_color", "point_gray", "point_color"]
SpaceRendering = Literal["points", "views"]
Background = Literal["black", "random"]


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
    seed: int
    base: System | None = None
    density: float = 0.0
    variance: float = 0.0


@dataclass(frozen=True)
class Defaults:
    """The defaults of rules for arguments of `FractalDataset` that are None; None for those that do not apply."""

    rendering: str
    points: int
    perturbation: float
    maps: tuple[int, int]
    background: str = "black"
    density: float | None = None
    variance: float | None = None


class Rules(Protocol):
    """Classes, and how their images are drawn."""

    instances: int
    """The number of instances of each class."""
    stack: Stack
    """The systems of the classes, as they are before an instance changes them."""

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return an image (C, H, W) for each item: float32 in [0, 1], or uint8; or a cloud of points (T, 3), float32.

        An item's number is its class's times `instances` plus its instance's.
        """
