"""Tests of sheets of images."""

from __future__ import annotations

import pytest
import torch

from fractalops.drawing.sheets import comparison, contact_sheet, enlarge
from tests.support.cases import seeded


def test_enlarging_repeats_pixels() -> None:
    assert enlarge(torch.tensor([[1.0, 2.0]]), 2).tolist() == [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]


def test_contact_sheet_places_every_image() -> None:
    images = torch.arange(5.0)[:, None, None].expand(5, 2, 3)
    sheet = contact_sheet(images, gap=1)
    assert sheet.shape == (2 * 3 + 1, 3 * 4 + 1)  # about square: 2 rows of 3 columns
    for position in range(5):
        top, left = 1 + position // 3 * 3, 1 + position % 3 * 4
        assert bool((sheet[top : top + 2, left : left + 3] == position).all())
    assert contact_sheet(images[:1], columns=4, gap=0).shape == (2, 3)
    for empty in (torch.empty(0, 2, 2), torch.empty(0, 3, 2, 2)):
        with pytest.raises(ValueError, match="contact_sheet: images must have shape"):
            contact_sheet(empty)


def test_comparison_stands_side_by_side() -> None:
    pair = comparison(torch.ones(2, 4), torch.zeros(2, 4), longest=8)
    assert pair.shape == (4 + 8, 2 * (8 + 4) + 4)
    assert bool((pair[4:8, 4:12] == 1.0).all())
    assert bool((pair[4:8, 16:24] == 0.0).all())
    for target, other in ((torch.ones(2, 4), torch.ones(4, 2)), (torch.ones(3, 2, 4), torch.ones(2, 4))):
        with pytest.raises(ValueError, match="comparison: reconstruction must have the target's shape"):
            comparison(target, other)


def test_sheets_in_color_are_those_of_each_channel() -> None:
    images = torch.rand(5, 3, 2, 4, generator=seeded(0))
    sheet, pair = contact_sheet(images, gap=1), comparison(images[0], images[1], longest=8)
    for channel in range(3):
        assert torch.equal(sheet[channel], contact_sheet(images[:, channel], gap=1))
        assert torch.equal(pair[channel], comparison(images[0, channel], images[1, channel], longest=8))
