"""Tests of `fit` with the blend "mean": the loss, given systems, batches, grays and backgrounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import IFS, FitConfig
from tests.support.learning import bar, colored, disc, mean_square, quick, targets, tiny
from tests.support.tolerances import assert_same_bits


def mean(**changes: Any) -> FitConfig:
    return tiny(**({"blend": "mean", "split_every": 2, "initialization": "tiles"} | changes))


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("clamp", [False, True])
def test_the_loss_is_the_mean_squared_error(color: bool, clamp: bool) -> None:
    images = colored() if color else targets()
    config = mean(color=color, clamp=clamp)
    shapes: list[tuple[torch.Size, torch.Size]] = []

    def loss(drawn: Tensor, expected: Tensor) -> Tensor:
        shapes.append((drawn.shape, expected.shape))
        return mean_square(drawn, expected)

    default, plugged = fractalops.fit(images, config), fractalops.fit(images, config, loss=loss)
    channels = (3,) if color else ()
    assert set(shapes) == {((3, 3, *channels, 16, 16), (3, 1, *channels, 16, 16))}
    torch.testing.assert_close(default.losses, plugged.losses, rtol=1e-3, atol=1e-5)
    assert default.best_image.shape == images.shape


@pytest.mark.parametrize("color", [False, True])
def test_learning_goes_on_from_given_systems(color: bool) -> None:
    images = colored() if color else targets()
    first = fractalops.fit(images, mean(color=color)).system
    same = fractalops.fit(images, mean(color=color, steps=0), start=first).system
    for name, tensor in first.state_dict().items():
        assert_same_bits(same.state_dict()[name], tensor)
    assert same.channels == (3 if color else 1)
    without = IFS(3, 3, probabilities="learned", channels=None if color else 3)
    with pytest.raises(ValueError, match=r"^fit: start must have the parameters that config learns .*, got "):
        fractalops.fit(images, mean(color=color), start=without)


@pytest.mark.usefixtures("one_thread")
def test_what_is_learned_hardly_depends_on_the_batch() -> None:
    """Only the rounding of sums differs."""
    together, alone = (fractalops.fit(targets(), mean(batch_size=size)) for size in (3, 1))
    torch.testing.assert_close(together.losses[:5], alone.losses[:5], rtol=1e-3, atol=1e-5)


def test_a_gray_picture_is_learned() -> None:
    """The target has two grays, which no sum of white bumps can show."""
    target = 0.3 + 0.4 * bar()
    settings: dict[str, Any] = {"maps": 16, "points": 300, "sequences": 2, "steps": 150}
    learned = fractalops.fit(target, quick(**settings, blend="mean", initialization="tiles"))
    summed = fractalops.fit(target, quick(**settings))
    assert learned.minimum_mse < 0.1 * target.var()
    assert summed.minimum_mse > target.var()
    colors = learned.system.colors()
    assert colors is not None
    assert colors.min() < 0.4
    assert colors.max() > 0.6


def test_the_background_shows_where_no_map_is() -> None:
    """A black shape on white is learned like a white one on black, in other colors."""
    settings: dict[str, Any] = {"blend": "mean", "initialization": "tiles", "points": 300, "sequences": 2, "steps": 30}
    black, white = (
        fractalops.fit(image, quick(**settings, background=background))
        for image, background in ((1 - disc(), 1.0), (disc(), 0.0))
    )
    torch.testing.assert_close(1 - black.best_image, white.best_image, rtol=0, atol=0.1)
    assert black.minimum_mse.item() == pytest.approx(white.minimum_mse.item(), rel=0.3)
    assert black.best_image[0, 0, 0] > 0.95


def test_a_point_of_no_color_is_the_paper_s_way_still() -> None:
    """With the blend "add", a gray map has no color."""
    assert fractalops.fit(targets(), tiny()).system.color is None
    assert fractalops.fit(targets(), tiny(blend="mean")).system.channels == 1
