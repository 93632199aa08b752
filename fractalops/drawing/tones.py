"""The tones of drawings: from densities of points, over several powers of ten, to brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WHITE = 0.95  # the share of the lit pixels that are darker than white
_DROPPED_BITS = 11  # of float32's 23: densities are distinguished to 1/4096 of their value
_VALUES_AT_ONCE = 2**22


class Levels:
    """A histogram of densities, which gives the white point of a picture that is drawn in bands."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._counts = torch.zeros(2 ** (31 - _DROPPED_BITS), dtype=torch.int64, device="cpu")

    def add(self, density: Tensor) -> None:
        """Count densities of any shape, those of at most `least` left out."""
        for part in density.flatten().split(_VALUES_AT_ONCE):
            lit = part[part > self._least].float().clamp(max=torch.finfo(torch.float32).max)  # (P,)
            # The bits of positive numbers are in the order of the numbers.
            codes = lit.view(torch.int32) >> _DROPPED_BITS
            self._counts += torch.bincount(codes, minlength=len(self._counts)).cpu()

    def white(self) -> float:
        """Return the density from which on a twentieth of the densities are, rounded down; 0 where there are none."""
        counts = self._counts.cumsum(0)
        if counts[-1] == 0:
            return 0.0
        code = int(torch.searchsorted(counts, math.ceil(_WHITE * int(counts[-1]))))
        return float(torch.tensor(code << _DROPPED_BITS, dtype=torch.int32, device="cpu").view(torch.float32))


def tone_map(density: Tensor, least: float, gamma: float) -> Tensor:
    """Return the brightness in [0, 1] of densities of any shape, of which the densest twentieth is white.

    Of those above `least`, that is; where there are none, all are dark. A `gamma` below 1 lifts thin parts against
    dense ones.
    """
    levels = Levels(least)
    levels.add(density)
    return expose(density, invert_white(levels.white()), gamma)


def invert_white(white: float) -> float:
    """Return the exposure with which a density of `white` is white; 0 where nothing is lit."""
    return 1 / white if white > 0 else 0.0


def expose(density: Tensor, exposure: float, gamma: float) -> Tensor:
    """Return the brightness in [0, 1] of densities of any shape, of which `1 / exposure` and more are white."""
    return (density * exposure).clamp(max=1.0) ** gamma
