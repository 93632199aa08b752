"""Tests of the tones of densities."""

from __future__ import annotations

import math

import pytest
import torch

from fractalops.drawing.tones import Levels, tone_map
from tests.support.cases import seeded


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 300, 100_000])
@pytest.mark.parametrize("parts", [1, 3])
def test_white_is_what_a_twentieth_exceeds(count: int, parts: int) -> None:
    density = (4 * torch.randn(count, generator=seeded(count))).exp()
    density[::7] = 0
    lit = density[density > 0.01].sort().values
    levels = Levels(0.01)
    for part in density.chunk(parts):
        levels.add(part)
    expected = float(lit[math.ceil(0.95 * len(lit)) - 1]) if len(lit) else 0.0
    assert expected * (1 - 2**-12) <= levels.white() <= expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tones_are_powers_of_shares_of_white(dtype: torch.dtype) -> None:
    density = torch.tensor([[0.0, 1e-3, 0.5], [1.0, 1e38, 1e38]], dtype=dtype)
    tones = tone_map(density, 1e-2, 0.5)
    assert tones.dtype == dtype
    assert tones[1, 1:].tolist() == [1, 1]
    torch.testing.assert_close(tones[0, 2], torch.tensor(0.5e-38, dtype=dtype).sqrt(), rtol=1e-3, atol=0)
    torch.testing.assert_close(tone_map(density[:, 2:], 1e-2, 1), torch.tensor([[0.5e-38], [1]]).to(dtype))


def test_without_light_all_is_dark() -> None:
    assert not tone_map(torch.full((3, 4), 1e-3), 1e-2, 0.4).any()
    assert tone_map(torch.zeros(0, 5), 1e-2, 0.4).shape == (0, 5)
