"""Tests of `fit` in color: the first and the learned colors of maps."""

from __future__ import annotations

import torch

import fractalops
from fractalops.fitting.learning import Batch
from tests.support.learning import GREEN, RED, WHITE, bar, colored, quick, targets, tiny
from tests.support.tolerances import assert_same_bits


def test_maps_learn_the_colors_of_their_place(backend: str) -> None:
    """Half of the bar is red and half is green. Maps that all have one color cannot draw it."""
    target = bar() * torch.where(torch.arange(16) < 8, RED, GREEN)  # (3, 16, 16)
    result = fractalops.fit(target, quick(steps=150, points=60, color=True))
    assert result.losses[-5:].mean() < 0.5 * result.losses[0]
    left, right = (result.best_image[0, :, 5:11, half].mean(dim=(1, 2)) for half in (slice(2, 7), slice(9, 14)))
    assert left[0] > 2 * left[1]
    assert right[1] > 2 * right[0]


def test_all_maps_start_with_the_mean_color_of_what_is_lit() -> None:
    black = torch.zeros(1, 3, 16, 16)
    pixels = torch.zeros(3, 16, 16)
    pixels[:, 3, 4], pixels[:, 5, 6] = 0.3 * WHITE.flatten(), RED.flatten()  # (3,), with light 0.3 and 0.9
    system = Batch.start(torch.cat((colored(), pixels[None], black)), tiny(color=True), range(5)).system
    colors = system.colors()
    assert colors is not None
    assert colors.shape == (5, 3, 3)
    torch.testing.assert_close(colors, colors[:, :1].expand(5, 3, 3))
    first = colors[:, 0]
    torch.testing.assert_close(first[0], RED.flatten())
    torch.testing.assert_close(first[1], ((0.9 * RED + 0.8 * GREEN) / 1.7).flatten())  # a pixel's weight is its light
    torch.testing.assert_close(first[2], torch.full((3,), 0.98))  # where the sigmoid still has a gradient
    torch.testing.assert_close(first[3], ((0.3 * 0.3 * WHITE + 0.9 * RED) / 1.2).flatten())
    torch.testing.assert_close(first[4], torch.full((3,), 0.02))


def test_the_maps_are_drawn_as_for_a_gray_image() -> None:
    """Colors draw no random numbers."""
    gray, color = (
        Batch.start(images, tiny(initialization="random", color=images.dim() == 4), range(3))
        for images in (targets(), colored())
    )
    for name, tensor in gray.system.state_dict().items():
        assert_same_bits(color.system.state_dict()[name], tensor)
    assert torch.equal(gray.generators[0].get_state(), color.generators[0].get_state())
