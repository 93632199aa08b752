"""The settings and the interface of the rules that draw images of fractals."""

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
    """The arguments of `FractalDataset` that the rules read, after they have been checked."""

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
    """The defaults of rules for arguments of `FractalDataset` that are None. A field that does not apply is None."""

    rendering: str
    points: int
    perturbation: float
    maps: tuple[int, int]
    background: str = "black"
    density: float | None = None
    variance: float | None = None


class Rules(Protocol):
    """The interface of rules: the classes of a data set and the method that draws their images."""

    instances: int
    """The number of instances of each class."""
    stack: Stack
    """The systems of the classes, before an instance changes them."""

    def draw(self, items: Sequence[int]) -> list[Tensor]:
        """Return an image (C, H, W), float32 in [0, 1] or uint8, or a point cloud (T, 3), float32, for each item.

        The index of an item is `class * instances + instance`.
        """
