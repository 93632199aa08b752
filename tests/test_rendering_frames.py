"""Where points lie in an image: one placement for images that are learned from and for drawings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.ifs import IFS
from fractalops.rendering import bounding_box, fit_to_frame
from tests.support.cases import seeded


@pytest.mark.parametrize("viewport", ["stretch", "fit"])
def test_a_drawing_for_people_shows_the_same_part_of_the_plane(viewport: Any) -> None:
    """One meaning for each name, in both: here of a system that is three times as long as it is wide."""
    system = IFS(1, 3, parametrization="matrix", viewport=viewport, generator=torch.Generator())
    with torch.no_grad():
        system.matrix.copy_(0.5 * torch.eye(2))
        system.offset.copy_(torch.tensor([[0.0, 0.0], [0.75, 0.0], [0.0, 0.25]]))
    learned = system(33, points=3000, generator=seeded(0))[0, 0] > 0.2
    drawing = draw_high_resolution(system, (33, 33), points=3000, generator=seeded(0))[0] > 0.2
    assert (learned == drawing).float().mean() > 0.95
    rows, columns = (torch.where(drawing.any(dim=1 - axis))[0] for axis in (0, 1))
    assert (rows[0], rows[-1]) == (0, 32)
    left, right = (0, 32) if viewport == "stretch" else (11, 21)
    assert abs(int(columns[0]) - left) <= 1
    assert abs(int(columns[-1]) - right) <= 1


@pytest.mark.parametrize("keep_proportions", [True, False])
def test_a_frame_leaves_a_margin_and_takes_clouds_of_any_shape(keep_proportions: bool) -> None:
    clouds = torch.rand(2, 5, 7, 2, generator=seeded(0)) * torch.tensor([4.0, 1.0])
    clouds[1, 2, 3] = torch.tensor([math.nan, 900.0])
    placed = fit_to_frame(clouds, (21, 41), keep_proportions=keep_proportions, margin=0.1)(clouds)
    assert placed.shape == clouds.shape
    low, high = (bound.tolist() for bound in bounding_box(placed))
    for (top, left), (bottom, right) in zip(low, high, strict=True):
        assert (top, bottom) == (pytest.approx(2, abs=1e-4), pytest.approx(18, abs=1e-4))
        assert left + right == pytest.approx(40, abs=1e-4)
        assert keep_proportions == (right - left < 30)
