"""`fit` in color: what is learned, its bits, its file, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import fractalops
from fractalops import FitResult, InputError
from fractalops.fitting.learning import Batch
from tests.support.learning import assert_same_result, bar, disc, quick, targets, tiny
from tests.support.tolerances import assert_same_bits

RED, GREEN, WHITE = (torch.tensor(color).view(3, 1, 1) for color in ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (1, 1, 1)))


def colored() -> Tensor:
    """Three images (3, 3, 16, 16): a red disc, a bar half red and half green, a white ring."""
    shape = targets()[:, None]  # (3, 1, 16, 16)
    halves = torch.where(torch.arange(16) < 8, RED, GREEN)  # (3, 1, 16)
    return torch.stack([shape[0] * RED, shape[1] * halves, shape[2] * WHITE])


# What is learned


def test_maps_learn_the_colors_of_their_place(backend: str) -> None:
    """Half of a bar is red and half green: maps of one color for all can't draw that."""
    target = bar() * torch.where(torch.arange(16) < 8, RED, GREEN)  # (3, 16, 16)
    result = fractalops.fit(target, quick(steps=150, points=60, color=True))
    assert result.losses[-5:].mean() < 0.5 * result.losses[0]
    left, right = (
        result.best_image[0, :, 5:11, 2:7].mean(dim=(1, 2)),
        result.best_image[0, :, 5:11, 9:14].mean(dim=(1, 2)),
    )
    assert left[0] > 2 * left[1]
    assert right[1] > 2 * right[0]


def test_shapes_and_meaning_of_the_result() -> None:
    images = colored()[:, :, :12]
    result = fractalops.fit(images, tiny(color=True, snapshots=2))
    assert result.size == (12, 16)
    assert result.best_image.shape == (3, 3, 12, 16)
    assert result.losses.shape == (10, 3)
    assert result.system.channels == 3
    assert result.intensity == 20 / (12 * 16)
    errors = (result.best_image - images).square().mean(dim=(1, 2, 3))  # (S,): over all channels
    torch.testing.assert_close(errors, result.minimum_mse)
    assert result.system(8, points=50).shape == (3, 1, 3, 8, 8)
    assert all(set(snapshot) == {"svd", "offset", "color", "logit"} for snapshot in result.snapshots)
    assert not torch.equal(result.snapshots[0]["color"], result.snapshots[1]["color"])


# With so many maps a system's parameters fill whole steps of torch's loops, which take up to 32 numbers at a time with
# AVX-512: another number of systems then shifts no remainder, and each number is rounded alike.
WHOLE_MAPS = 32


def test_one_image_selected_is_the_image_learned_alone() -> None:
    together = fractalops.fit(colored(), tiny(maps=WHOLE_MAPS, color=True, snapshots=2))
    alone = fractalops.fit(colored()[1], tiny(maps=WHOLE_MAPS, color=True, snapshots=2, seed=1))
    assert_same_result(together.select(1), alone)


def test_a_target_of_one_pixel() -> None:
    assert fractalops.fit(torch.full((2, 3, 1, 1), 0.5), tiny(color=True)).best_image.shape == (2, 3, 1, 1)


def test_all_maps_start_with_the_mean_color_of_what_is_lit() -> None:
    black = torch.zeros(1, 3, 16, 16)
    pixels = torch.zeros(3, 16, 16)
    pixels[:, 3, 4], pixels[:, 5, 6] = 0.3 * WHITE.flatten(), RED.flatten()  # (3,) of light 0.3 and 0.9
    system = Batch.start(torch.cat((colored(), pixels[None], black)), tiny(color=True), range(5)).system
    colors = system.colors()
    assert colors is not None
    assert colors.shape == (5, 3, 3)
    torch.testing.assert_close(colors, colors[:, :1].expand(5, 3, 3))
    first = colors[:, 0]
    torch.testing.assert_close(first[0], RED.flatten())
    torch.testing.assert_close(first[1], ((0.9 * RED + 0.8 * GREEN) / 1.7).flatten())  # a pixel counts by its light
    torch.testing.assert_close(first[2], torch.full((3,), 0.98))  # where the sigmoid's gradient still lives
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


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "fixed"},
        {"optimizer": "sgd", "learning_rate": 1.0},
        {"parametrization": "matrix"},
        {"clamp": False, "points": 40},
        {"gradient_clip": None, "noise": 0.0},
    ],
    ids=str,
)
def test_variants_lower_the_loss(changes: dict[str, Any]) -> None:
    result = fractalops.fit(bar() * RED, quick(color=True, **changes))
    assert result.losses.isfinite().all()
    assert result.losses[-5:].mean() < result.losses[:5].mean()


@pytest.mark.parametrize("clamp", [True, False])
def test_a_loss_that_is_plugged_in_sees_the_channels(clamp: bool) -> None:
    def loss(images: Tensor, target: Tensor) -> Tensor:
        assert images.shape == (3, 3, 3, 16, 16)
        assert target.shape == (3, 1, 3, 16, 16)
        assert not clamp or images.max() <= 1
        return (images - target).square().mean(dim=(1, 2, 3, 4))

    own = fractalops.fit(colored(), tiny(color=True, clamp=clamp))
    plugged = fractalops.fit(colored(), tiny(color=True, clamp=clamp), loss=loss)
    torch.testing.assert_close(plugged.losses, own.losses, rtol=1e-3, atol=1e-5)


# The same bits


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, {"parametrization": "matrix"}, {"objective": "fixed"}])
def test_batches_and_runs_change_no_bit(changes: dict[str, Any]) -> None:
    options: dict[str, Any] = {"maps": WHOLE_MAPS, "steps": 25, "snapshots": 3, "color": True, **changes}
    configs = [quick(batch_size=batch, **options) for batch in (1, 2, 16, 16)]
    first, *others = (fractalops.fit(colored(), config) for config in configs)
    for other in others:
        assert_same_result(other, first)


@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_bit() -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(fractalops.fit(colored(), quick(steps=30, points=300, color=True)))
    assert_same_result(results[1], results[0])
    assert_same_result(results[2], results[0])


# Targets

TARGET_ERRORS: list[tuple[bool, Tensor]] = [
    (True, disc()),
    (True, targets()[:2]),
    (True, disc()[None]),
    (True, targets()[:2, None]),
    (True, colored()[:, :, None]),
    (True, colored().movedim(1, 3)),
    (True, colored()[:0]),
    (True, colored()[:, :0]),
    (True, colored()[:, :, :0]),
    (True, colored() * 255),
    (False, colored()),
]


@pytest.mark.parametrize(("color", "wrong"), TARGET_ERRORS)
def test_wrong_targets_are_named(color: bool, wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^fit: targets must .+, got .+"):
        fractalops.fit(wrong, tiny(color=color))


# The file


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "system.safetensors"
    fractalops.fit(colored()[:2], tiny(color=True, snapshots=3)).save(path)
    return path


@pytest.mark.parametrize("changes", [{"snapshots": 3}, {"parametrization": "matrix"}, {"steps": 0}], ids=str)
def test_comes_back_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    result = fractalops.fit(colored(), tiny(color=True, **changes))
    result.save(tmp_path / "system")
    loaded = FitResult.load(tmp_path / "system")
    assert_same_result(loaded, result)
    assert loaded.config == result.config
    index = result.system.sample(2, 30)
    assert torch.equal(loaded.system(16, index=index), result.system(16, index=index))


def rewritten(path: Path, settings: dict[str, object | None], tensors: dict[str, Tensor | None]) -> None:
    """The file with some settings and tensors replaced, or left out where None."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    config = {name: value for name, value in (json.loads(metadata["config"]) | settings).items() if value is not None}
    kept = {name: tensor for name, tensor in (load_file(path) | tensors).items() if tensor is not None}
    save_file(kept, path, metadata | {"config": json.dumps(config)})


BROKEN: dict[str, Callable[[Path], object]] = {
    "gray by its settings": lambda path: rewritten(path, {"color": False}, {}),
    "without settings of color": lambda path: rewritten(path, {"color": None}, {}),
    "a word": lambda path: rewritten(path, {"color": "red"}, {}),
    "no colors": lambda path: rewritten(path, {}, {"system.color": None}),
    "colors of two channels": lambda path: rewritten(path, {}, {"system.color": torch.ones(2, 3, 2)}),
    "colors of fewer maps": lambda path: rewritten(path, {}, {"system.color": torch.ones(2, 2, 3)}),
    "colors of another dtype": lambda path: rewritten(path, {}, {"system.color": torch.ones(2, 3, 3).double()}),
    "a gray image": lambda path: rewritten(path, {}, {"best_image": torch.ones(2, 16, 16)}),
    "a snapshot without colors": lambda path: rewritten(path, {}, {"snapshot.1.color": None}),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_does_not_fit_together_is_refused(spoil: Callable[[Path], object], saved: Path) -> None:
    FitResult.load(saved)
    spoil(saved)
    with pytest.raises(InputError, match=rf"^cannot read {saved}: it is damaged \(\S"):
        FitResult.load(saved)
