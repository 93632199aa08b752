"""Pictures of clouds of points."""

from __future__ import annotations

import torch

from fractalops.drawing.point_clouds import draw_point_clouds, turntable
from tests.support.cases import seeded


def test_a_sheet_of_views_and_a_turntable() -> None:
    clouds = [torch.randn(300, 3, generator=seeded(0)), torch.randn(200, 3, generator=seeded(1))]
    sheet = draw_point_clouds(clouds, side=32, azimuths=(0, 90, 180))
    assert sheet.shape == (2 * 36 + 4, 3 * 36 + 4)
    assert 0 <= sheet.min() <= sheet.max() == 1
    frames = turntable(clouds, frames=4, side=32, elevation=0)
    assert [frame.shape for frame in frames] == [(40, 76)] * 4
    # Half a turn later, without elevation, the outline is mirrored.
    lit, mirrored = frames[0][4:36, 4:36] > 0.02, frames[2][4:36, 4:36].flip(1) > 0.02
    assert (lit == mirrored).float().mean() > 0.97
    assert (draw_point_clouds([torch.zeros(1, 3)], side=8, azimuths=(0,)) > 0.5).any()
    flat = torch.randn(30, 2, generator=seeded(0), dtype=torch.float64)
    assert draw_point_clouds([flat], side=16, azimuths=(0,)).isfinite().all()
