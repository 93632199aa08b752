"""Tone mapping: turn densities of points, over several powers of ten, into brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WHITE = 0.95  # share of the lit pixels that are darker than white
_DROPPED_BITS = 11  # of the 23 bits of float32's fraction, so densities have a relative precision of 1/4096
_VALUES_AT_ONCE = 2**22


class Levels:
    """A histogram of densities, which determines the white point of a picture that is drawn in bands.

    Args:
        least: densities up to this value are not counted.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._counts = torch.zeros(2 ** (31 - _DROPPED_BITS), dtype=torch.int64, device="cpu")

    def add(self, density: Tensor) -> None:
        """Count densities of any shape that are above `least`."""
        for part in density.flatten().split(_VALUES_AT_ONCE):
            lit = part[part > self._least].float().clamp(max=torch.finfo(torch.float32).max)  # (P,)
            # The bits of positive floats, read as integers, have the same order as the floats.
            codes = lit.view(torch.int32) >> _DROPPED_BITS
            self._counts += torch.bincount(codes, minlength=len(self._counts)).cpu()

    def white(self) -> float:
        """Return the density that a twentieth of the densities reach, rounded down. Return 0 if there are none."""
        counts = self._counts.cumsum(0)
        if counts[-1] == 0:
            return 0.0
        code = int(torch.searchsorted(counts, math.ceil(_WHITE * int(counts[-1]))))
        return float(torch.tensor(code << _DROPPED_BITS, dtype=torch.int32, device="cpu").view(torch.float32))


def tone_map(density: Tensor, least: float, gamma: float) -> Tensor:
    """Return the brightness in [0, 1] of densities of any shape. The densest twentieth of them is white.

    Densities up to `least` are not counted. If no density is above it, the result is 0. A `gamma` below 1 makes thin
    parts brighter.
    """
    levels = Levels(least)
    levels.add(density)
    return expose(density, invert_white(levels.white()), gamma)


def invert_white(white: float) -> float:
    """Return the exposure at which the density `white` becomes white. Return 0 if `white` is 0."""
    return 1 / white if white > 0 else 0.0


def expose(density: Tensor, exposure: float, gamma: float) -> Tensor:
    """Return the brightness `min(density * exposure, 1)^gamma` of densities of any shape."""
    return (density * exposure).clamp(max=1.0) ** gamma
