"""Tests that `fractalops.fit` gives the same bits for any neighbors, batches, threads and modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import fractalops
from tests.support.learning import assert_same_result, disc, images_of, mean_square, quick, targets, tiny

IN_COLOR = {"color": True}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first = fractalops.fit(disc(), tiny(snapshots=2))
    torch.manual_seed(7)  # the global generator has no effect
    state = torch.get_rng_state()
    assert_same_result(fractalops.fit(disc(), tiny(snapshots=2)), first)
    assert torch.equal(torch.get_rng_state(), state)
    other = fractalops.fit(disc(), tiny(seed=1))
    assert not torch.equal(other.losses, first.losses)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd"},
        {"parametrization": "matrix"},
        {"objective": "fixed"},
        {"probabilities": "determinant"},
        {"initialization": "random"},
        {"schedule": "halving"},
        {"sampling": "independent"},
        {"singular_values": "clamp"},
        IN_COLOR,
        IN_COLOR | {"optimizer": "sgd"},
        IN_COLOR | {"parametrization": "matrix"},
        IN_COLOR | {"objective": "fixed"},
    ],
    ids=str,
)
def test_batches_and_runs_change_no_bit(changes: dict[str, Any]) -> None:
    config = quick(**({"maps": 5, "steps": 25, "snapshots": 3} | changes))
    first, *others = (fractalops.fit(images_of(config), replace(config, batch_size=batch)) for batch in (1, 2, 16, 16))
    for other in others:
        assert_same_result(other, first)


def test_neighbors_change_no_bit() -> None:
    expected = fractalops.fit(targets(), tiny())
    images = targets()
    images[[0, 2]] = 1 - images[[0, 2]]
    changed = fractalops.fit(images, tiny())
    assert_same_result(changed.select(1), expected.select(1))
    many = torch.rand(19, 16, 16, generator=torch.Generator().manual_seed(0))
    many[1] = targets()[1]
    assert_same_result(fractalops.fit(many, tiny(batch_size=19)).select(1), expected.select(1))


@pytest.mark.parametrize("changes", [{}, IN_COLOR], ids=str)
def test_one_image_selected_is_the_image_learned_alone(changes: dict[str, Any]) -> None:
    config = tiny(snapshots=2, **changes)
    together = fractalops.fit(images_of(config), config)
    assert_same_result(together.select(1), fractalops.fit(images_of(config)[1], replace(config, seed=1)))


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("color", [False, True])
def test_threads_change_no_bit(color: bool) -> None:
    config = quick(steps=30, points=300, color=color)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(fractalops.fit(images_of(config), config))
    assert_same_result(results[1], results[0])
    assert_same_result(results[2], results[0])


def test_targets_in_double_are_taken_as_float_and_stay_as_they_are() -> None:
    image = disc().double().requires_grad_()
    result = fractalops.fit(image, tiny())
    assert result.best_image.dtype == torch.float32
    assert image.grad is None
    assert_same_result(result, fractalops.fit(disc(), tiny()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_mode_of_the_caller_changes_no_bit(mode: Callable[[], Any]) -> None:
    losses = (None, mean_square)
    expected = [fractalops.fit(disc(), tiny(), loss=loss) for loss in losses]
    with mode():
        image = disc()
        results = [fractalops.fit(image, tiny(), loss=loss) for loss in losses]
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    for result, other in zip(results, expected, strict=True):
        assert_same_result(result, other)
    results[0].system(8).sum().backward()  # learning can continue from the result
