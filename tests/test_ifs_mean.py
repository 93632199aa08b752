"""Tests of `IFS` with the blend "mean": images and gradients by the formula, and settings in copies and `repr`."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops import IFS
from fractalops.reference.affine_chain import affine_chain as reference_chain
from tests.support.cases import seeded
from tests.support.tolerances import TOLERANCES, assert_matches

VIEWPORT = (-2.0, -1.5, 2.0, 2.5)
MEAN: dict[str, Any] = {"blend": "mean", "background": 0.25, "background_weight": 0.3, "viewport": VIEWPORT}


def make(channels: int | None, **options: Any) -> IFS:
    """Return two systems of three maps in float64 with different parameters."""
    settings: dict[str, Any] = {"probabilities": "learned", "dtype": torch.float64} | MEAN | options
    system = IFS(2, 3, channels=channels, generator=seeded(0), **settings)
    with torch.no_grad():
        for number, tensor in enumerate((system.logit, system.color)):
            if tensor is not None:
                tensor.copy_(torch.randn(tensor.shape, generator=seeded(number + 1), dtype=torch.float64))
    return system


def by_hand(system: IFS, index: Tensor, ratio: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (S, K, C, H, W) of bumps with the weights u (c, 1), where `ratio` (S, N) is the u of each map."""
    height, width = size
    matrix, offset, joined, start = system.concatenated(index)
    points = reference_chain(matrix, offset, joined, start)  # (S K, T, 2)
    low, high = points.new_tensor(VIEWPORT[:2]), points.new_tensor(VIEWPORT[2:])
    rows, columns = ((points - low) / (high - low) * (points.new_tensor(size) - 1)).unbind(-1)  # (S K, T) each
    down = (rows[..., None] - torch.arange(height)).square()  # (S K, T, H)
    across = (columns[..., None] - torch.arange(width)).square()  # (S K, T, W)
    bumps = torch.exp(-(down[..., None] + across[:, :, None]) / system.bandwidth)  # (S K, T, H, W)
    colors = system.colors()  # (S, N, C)
    colors = torch.ones_like(system.offset[..., :1]) if colors is None else colors
    share = ratio.flatten()[joined.long()]  # (S K, T)
    color = colors.flatten(0, 1)[joined.long()]  # (S K, T, C)
    sums = torch.einsum("bt,btc,bthw->bchw", share, color, bumps)
    every = torch.einsum("bt,bthw->bhw", share, bumps)[:, None]
    weight = system.background_weight * index.shape[2] * math.pi * system.bandwidth / (height * width)
    image = (sums + weight * system.background) / (every + weight)
    return image.view(*index.shape[:2], *image.shape[1:])


@pytest.mark.parametrize("size", [(9, 6), (1, 7), (8, 8)])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_images_and_gradients_are_those_of_the_formula(
    channels: int | None, size: tuple[int, int], backend: str
) -> None:
    """A point's weight u is its map's probability over its detached probability: 1, but with a gradient."""
    system = make(channels, cutoff=None, bandwidth=1.5)
    upstream = torch.randn(2, 4, *([channels] if channels else []), *size, generator=seeded(3), dtype=torch.float64)
    images = system(size, sequences=4, points=20, generator=seeded(2), clamp=False)
    index = system.sample(4, 20, generator=seeded(2))
    assert system.logit is not None
    probability = system.logit.softmax(-1)  # (S, N)
    dense = by_hand(system, index, probability / probability.detach(), size)
    expected = dense if channels == 3 else dense[:, :, 0]
    if channels == 1:
        images, upstream = images.reshape(expected.shape), upstream[:, :, 0]
    assert_matches(images, expected.detach(), 3 * TOLERANCES[torch.float64])
    parameters = dict(system.named_parameters())
    gradients = torch.autograd.grad(images, list(parameters.values()), upstream)
    others = torch.autograd.grad(expected, list(parameters.values()), upstream)
    assert set(parameters) == {"offset", "svd", "logit"} | ({"color"} if channels else set())
    for name, one, other in zip(parameters, gradients, others, strict=True):
        assert one.any(), name
        assert_matches(one, other, 1e-12)


@pytest.mark.parametrize(("channels", "shape"), [(None, ()), (1, (1,)), (3, (3,))])
def test_shapes(channels: int | None, shape: tuple[int, ...]) -> None:
    system = make(channels)
    assert system((5, 7), sequences=3, points=11).shape == (2, 3, *shape, 5, 7)
    assert make(channels, probabilities="determinant")((5, 7), sequences=3, points=11).shape == (2, 3, *shape, 5, 7)
    index = system.sample(3, 11, generator=seeded(0))
    assert system((5, 7), index=index).shape == (2, 3, *shape, 5, 7)


@pytest.mark.parametrize("channels", [None, 3])
def test_each_sequence_may_have_its_bandwidth(channels: int | None, backend: str) -> None:
    system = make(channels)
    index = system.sample(3, 30, generator=seeded(4))
    bandwidths = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.7, 3.0], dtype=torch.float64)  # (S K,)
    images = system(9, index=index, bandwidth=bandwidths).flatten(0, 1)
    for number, bandwidth in enumerate(bandwidths.tolist()):
        alone = system(9, index=index, bandwidth=bandwidth).flatten(0, 1)
        assert_matches(images[number], alone[number])


def test_nothing_but_white_points_is_white_and_the_background() -> None:
    images = make(None)(12, sequences=2, points=500, generator=seeded(5))
    assert images.min() >= 0.25
    assert 0.8 < images.max() <= 1


def test_copies_and_pickles_keep_the_blend() -> None:
    system = make(3)
    index = system.sample(1, 30, generator=seeded(6))
    expected = system(9, index=index)
    for same in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert (same.blend, same.background, same.background_weight) == ("mean", 0.25, 0.3)
        assert torch.equal(same(9, index=index), expected)
    for change in ({"blend": "add"}, {"background": 0.0}, {"background_weight": 0.1}):
        other = make(3, **change)
        other.load_state_dict(system.state_dict())  # settings are not in the state
        assert not torch.equal(other(9, index=index), expected)


def test_what_a_module_shows() -> None:
    assert repr(IFS(1, 2, blend="mean")).endswith(", blend='mean', background=0)")
    assert repr(IFS(1, 2, blend="mean", background=0.25)).endswith(", blend='mean', background=0.25)")
    shown = repr(IFS(1, 2, blend="mean", background_weight=0.3))
    assert shown.endswith(", blend='mean', background=0, background_weight=0.3)")
    assert "blend" not in repr(IFS(1, 2))


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_points_are_those_that_are_drawn(channels: int | None, backend: str) -> None:
    system = make(channels)
    index = system.sample(3, 11, generator=seeded(7))
    points = system.points(index)
    assert points.shape == (2, 3, 11, 2)
    assert not points.requires_grad
    matrix, offset, joined, start = system.concatenated(index)
    assert_matches(points, reference_chain(matrix, offset, joined, start).detach().view(2, 3, 11, 2))
