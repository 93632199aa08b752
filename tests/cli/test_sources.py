"""Tests that systems whose points diverge, even slowly, are refused, and other systems are drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fractalops.cli.sources import Source, drawable
from fractalops.errors import InputError
from fractalops.systems import System


def turn(scale: float, degrees: float = 40.0) -> Tensor:
    """Return a rotation matrix (2, 2) times a scale."""
    angle = math.radians(degrees)
    sin, cos = math.sin(angle), math.cos(angle)
    return scale * torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


def system_of(*matrices: Tensor, probabilities: list[float] | None = None, size: float = 1.0) -> System:
    """Return a system whose maps have distant fixed points."""
    count = len(matrices)
    offset = size * torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.2, -0.7]], dtype=torch.float64)[:count]
    return System(torch.stack(matrices), offset, torch.tensor(probabilities or [1.0] * count))


SHEAR = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e45])
@pytest.mark.parametrize(
    ("matrices", "probabilities", "runs_away"),
    [
        ([turn(1, 0)], None, True),  # a translation
        ([turn(1), turn(1, -77)], None, True),  # a random walk
        ([turn(1.002), turn(1.002, 10)], None, True),
        ([turn(1.05), turn(0.96, 10)], None, True),
        ([turn(1.5), turn(0.6)], [0.3, 0.2], True),
        ([SHEAR, turn(1)], None, True),
        ([turn(1)], None, False),  # rotates about its fixed point, where chains start
        ([turn(1, 180)], None, False),
        ([turn(0.999), turn(0.999, 10)], None, False),
        ([turn(1.05), turn(0.9, 10)], None, False),
        ([turn(2), turn(0.4)], [0.45, 0.55], False),
        ([turn(1, 77), turn(0.5)], [0.58, 0.42], False),
        ([SHEAR, turn(0.2)], None, False),
        ([turn(5), turn(0)], [0.5, 0.5], False),
    ],
)
def test_systems_whose_points_run_away(
    matrices: list[Tensor], probabilities: list[float] | None, runs_away: bool, size: float
) -> None:
    source = Source(Path("a.ifs"), {"a": system_of(*matrices, probabilities=probabilities, size=size)})
    if runs_away:
        with pytest.raises(InputError, match="its points diverge, as its maps do not contract on average"):
            drawable(source)
    else:
        drawable(source)
