"""Tests of `fractalops.fit`: learning, other losses, wrong arguments, interruptions."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig, FitResult
from fractalops.fitting import learning
from tests.support.learning import (
    RED,
    Interruption,
    assert_same_result,
    at_call,
    bar,
    colored,
    disc,
    images_of,
    mean_square,
    quick,
    targets,
    tiny,
)
from tests.support.tolerances import assert_same_bits

# The evaluation draws without gradients, and then `render` warns.
EXPLODES = pytest.mark.filterwarnings("ignore:render. points that are NaN or infinite are not drawn")


def test_the_loss_falls_far_below_that_of_random_systems(backend: str) -> None:
    result = fractalops.fit(targets(), quick(steps=100, points=60))
    random = fractalops.fit(targets(), quick(steps=0, points=60))
    last = result.losses[-5:].mean(dim=0)  # (S,)
    assert (last < 0.7 * result.losses[0]).all()
    assert (result.minimum_mse < 0.7 * random.minimum_mse).all()
    assert (result.mean_mse < 0.7 * random.mean_mse).all()


@pytest.mark.parametrize(
    ("images", "systems", "channels"),
    [
        (bar(12, 16), 1, ()),
        (bar(12, 16)[None], 1, ()),
        (torch.stack([bar(12, 16)] * 3), 3, ()),
        (bar(12, 16) * RED, 1, (3,)),
        (colored()[:, :, :12], 3, (3,)),
    ],
    ids=["2", "3", "S=3", "color", "color, S=3"],
)
def test_shapes_and_meaning_of_the_result(images: Tensor, systems: int, channels: tuple[int, ...]) -> None:
    result = fractalops.fit(images, tiny(snapshots=3, color=bool(channels)))
    assert isinstance(result, FitResult)
    assert (result.system.systems, result.system.maps_per_system) == (systems, 3)
    assert result.system.channels == (3 if channels else None)
    assert result.size == (12, 16)
    assert result.intensity == 20 / (12 * 16)
    assert result.losses.shape == (10, systems)
    assert result.minimum_mse.shape == result.mean_mse.shape == (systems,)
    assert result.best_image.shape == (systems, *channels, 12, 16)
    assert result.seconds > 0
    assert all(tensor.dtype == torch.float32 for tensor in (result.losses, result.best_image, result.minimum_mse))
    assert not result.losses.requires_grad
    assert not result.best_image.requires_grad
    errors = (result.best_image - images).square().flatten(1).mean(1)  # (S,): over all channels
    torch.testing.assert_close(errors, result.minimum_mse)
    assert (result.minimum_mse <= result.mean_mse).all()
    assert result.system(8, points=50).shape == (systems, 1, *channels, 8, 8)
    names = {"svd", "offset", "logit"} | ({"color"} if channels else set())
    assert all(set(snapshot) == names for snapshot in result.snapshots)
    assert not any(torch.equal(result.snapshots[0][name], result.snapshots[1][name]) for name in names)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "fixed"},
        {"optimizer": "sgd", "learning_rate": 1.0},
        {"singular_values": "clamp"},
        {"clamp": False, "points": 40},
        {"bandwidth": 2.0, "cutoff": None},
        {"viewport": "stretch", "steps": 300},
        {"viewport": (-3.0, -4.0, 3.0, 4.0)},
        {"gradient_clip": None, "noise": 0.0},
        {"color": True, "objective": "fixed"},
        {"color": True, "optimizer": "sgd", "learning_rate": 1.0},
        {"color": True, "parametrization": "matrix"},
        {"color": True, "clamp": False, "points": 40},
        {"color": True, "gradient_clip": None, "noise": 0.0},
    ],
    ids=str,
)
def test_variants_lower_the_loss(changes: dict[str, Any]) -> None:
    config = quick(**changes)
    result = fractalops.fit(bar() * RED if config.color else bar(), config)
    assert result.losses.isfinite().all()
    assert result.losses[-5:].mean() < result.losses[:5].mean()


@pytest.mark.parametrize(
    "changes",
    [{"maps": 1}, {"points": 1}, {"sequences": 1}, {"maps": 300}, {"evaluation_sequences": 1}, {"color": True}],
    ids=str,
)
def test_the_least_and_the_odd_run(changes: dict[str, Any]) -> None:
    channels = (3,) if "color" in changes else ()
    result = fractalops.fit(torch.full((2, *channels, 1, 1), 0.5), tiny(**changes))
    assert result.best_image.shape == (2, *channels, 1, 1)
    assert result.losses.isfinite().all()


def test_the_fixed_objective_keeps_its_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "check_native", lambda *_: "to look at its steps")
    seen: list[Tensor | None] = []
    render = learning.Batch.render

    def spy(self: learning.Batch, sequences: int, index: Tensor | None, *arguments: Any) -> Tensor:
        seen.append(index)
        return render(self, sequences, index, *arguments)

    monkeypatch.setattr(learning.Batch, "render", spy)
    fractalops.fit(disc(), tiny(objective="fixed"))
    assert len(seen) == 11
    assert seen[0] is not None
    assert seen[0].shape == (1, 3, 20)
    assert all(index is seen[0] for index in seen[:10])
    assert seen[10] is None  # the evaluation draws fresh ones


@EXPLODES
@pytest.mark.parametrize("learning_rate", [0.05, 3.0, 1e6])
def test_raw_matrices_may_explode_but_never_crash(learning_rate: float) -> None:
    config = quick(parametrization="matrix", learning_rate=learning_rate, gradient_clip=None, noise=3.0)
    result = fractalops.fit(targets(), config)
    assert result.best_image.isfinite().all()
    assert result.minimum_mse.isfinite().all()
    assert result.losses.isfinite().all()


@EXPLODES
def test_a_system_that_explodes_leaves_its_neighbors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fractalops.fit(targets(), tiny(parametrization="matrix"))
    start = learning.Batch.start.__func__  # type: ignore[attr-defined]

    def spoilt(cls: type[learning.Batch], *arguments: Any) -> learning.Batch:
        batch: learning.Batch = start(cls, *arguments)
        with torch.no_grad():
            batch.system.matrix[1] = math.nan
        return batch

    monkeypatch.setattr(learning.Batch, "start", classmethod(spoilt))
    result = fractalops.fit(targets(), tiny(parametrization="matrix"))
    for image in (0, 2):
        assert_same_result(result.select(image), expected.select(image))


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("color", [True, False])
def test_a_loss_that_is_plugged_in_does_what_the_own_one_does(color: bool, clamp: bool) -> None:
    config = tiny(color=color, clamp=clamp, points=200)
    targets = images_of(config)
    brightest = []

    def loss(images: Tensor, target: Tensor) -> Tensor:
        assert images.shape == (3, 3, *targets.shape[1:])
        assert target.shape == (3, 1, *targets.shape[1:])
        brightest.append(images.max().item())
        return mean_square(images, target)

    own = fractalops.fit(targets, config)
    plugged = fractalops.fit(targets, config, loss=loss)
    torch.testing.assert_close(plugged.losses, own.losses, rtol=1e-3, atol=1e-5)
    assert (max(brightest) == 1) == clamp
    summed = fractalops.fit(targets, config, loss=lambda images, target: loss(images, target).sum())
    torch.testing.assert_close(summed.losses[0], own.losses[0].sum().expand(3))
    torch.testing.assert_close(summed.minimum_mse, own.minimum_mse, rtol=1e-2, atol=1e-4)


WRONG_LOSSES: list[tuple[type[Exception], str, Any]] = [
    (ValueError, r"\(3, 3\)", lambda images, target: (images - target).square().mean(dim=(2, 3))),
    (ValueError, r"\(1,\)", lambda images, target: images.mean().view(1)),
    (ValueError, "one without a gradient", lambda images, target: images.detach().mean(dim=(1, 2, 3))),
    (ValueError, "one without a gradient", lambda images, target: (images > target).sum()),
    (TypeError, "float", lambda images, target: images.mean().item()),
    (TypeError, "NoneType", lambda images, target: None),
]


@pytest.mark.parametrize(("error", "got", "loss"), WRONG_LOSSES)
def test_a_wrong_loss_is_named(error: type[Exception], got: str, loss: Any) -> None:
    with pytest.raises(error, match=rf"^fit: loss must return a tensor of shape \(3,\) or \(\).*, got {got}$"):
        fractalops.fit(targets(), tiny(), loss=loss)


WRONG_TARGETS: dict[tuple[type[Exception], bool], list[Any]] = {  # by the error and `color`
    (TypeError, False): [
        None,
        [[0.0]],
        disc().numpy(),
        *(disc().to(dtype) for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64)),
    ],
    (ValueError, False): [
        disc()[0],
        disc()[None, None],
        *(torch.zeros(shape) for shape in ((), (0, 8, 8), (2, 0, 8))),
        disc() * 255,
        disc() - 0.1,
        disc() * math.nan,
        disc() / 0,
        colored(),
    ],
    (ValueError, True): [
        disc(),
        targets()[:2],
        disc()[None],
        targets()[:2, None],
        colored()[:, :, None],
        colored().movedim(1, 3),
        colored()[:0],
        colored()[:, :0],
        colored()[:, :, :0],
        colored() * 255,
    ],
}


@pytest.mark.parametrize(
    ("error", "color", "wrong"), [(*key, wrong) for key in WRONG_TARGETS for wrong in WRONG_TARGETS[key]]
)
def test_wrong_targets_are_named(error: type[Exception], color: bool, wrong: Any) -> None:
    with pytest.raises(error, match=r"^fit: targets must .+, got .+"):
        fractalops.fit(wrong, tiny(color=color))


def test_a_wrong_configuration_is_named() -> None:
    with pytest.raises(TypeError, match=r"^fit: config must be a FitConfig, got dict$"):
        fractalops.fit(disc(), {"steps": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0, 4, 9])
def test_an_interruption_keeps_what_was_learned(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(snapshots=11)
    whole = fractalops.fit(targets(), config)
    Interruption(step).install(monkeypatch)
    result = fractalops.fit(targets(), config)
    assert result.interrupted
    assert not whole.interrupted
    assert result.steps == [step] * 3
    assert result.minimum_mse.isfinite().all()
    assert result.best_image.shape == (3, 16, 16)
    assert_same_bits(result.losses, whole.losses[:step])
    assert result.snapshot_steps == list(range(step + 1))
    states = (result.system.state_dict(), whole.snapshots[step])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_an_interruption_leaves_finished_images_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(batch_size=1, snapshots=3)
    whole = fractalops.fit(targets(), config)
    Interruption(17).install(monkeypatch)
    result = fractalops.fit(targets(), config)  # the first image is done, the second unfinished, the third not started
    assert result.steps == [10, 7]
    assert result.system.systems == 2
    assert result.losses.isnan().sum(dim=0).tolist() == [0, 3]
    assert result.snapshot_steps == [0, 5, 10]
    assert_same_result(result[0], whole[0])
    partial = result[1]
    assert (result.interrupted, result[0].interrupted, partial.interrupted) == (True, False, True)
    assert_same_bits(partial.losses, whole.losses[:7, 1:2])
    assert partial.snapshot_steps == [0, 5]
    for snapshot, expected in zip(partial.snapshots, whole.select(1).snapshots, strict=False):
        assert all(torch.equal(snapshot[name], expected[name]) for name in expected)
    assert partial.minimum_mse.isfinite().all()


def test_an_interruption_of_the_evaluation_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(batch_size=2, snapshots=3)
    whole = fractalops.fit(targets(), config)
    monkeypatch.setattr(learning, "_evaluate", at_call(2, learning._evaluate, KeyboardInterrupt()))
    result = fractalops.fit(targets(), config)
    assert result.interrupted
    assert result.steps == [10] * 3
    assert_same_bits(result.losses, whole.losses)
    assert len(result.snapshots) == 3
    assert result.minimum_mse.isfinite().all()  # on other fresh sequences if the first attempt drew some


def test_an_interruption_before_anything_was_begun_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning.Batch, "start", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fractalops.fit(targets(), tiny(batch_size=2))


def test_progress_shows_the_loss(capfd: pytest.CaptureFixture[str]) -> None:
    fractalops.fit(disc(), FitConfig(maps=2, points=5, sequences=2, steps=40, evaluation_sequences=1), progress=True)
    shown = capfd.readouterr().err
    assert "40/40" in shown
    assert "loss=0." in shown
    fractalops.fit(disc(), tiny())
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_steps() -> None:
    """No small object of a step may stay in the memory of its large tensors, of 4 MB here."""
    code = """
import resource
import torch
from fractalops import FitConfig, fit

torch.set_num_threads(1)
for steps in (5, 45):
    config = FitConfig.paper(steps=steps, sequences=20, points=50, clamp=False, batch_size=50, evaluation_sequences=1)
    fit(torch.full((50, 32, 32), 0.5), config)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    few, many = (int(kilobytes) for kilobytes in printed.split())
    assert many < few + 70_000  # 40 more steps create 160 MB of images


def test_learns_from_a_start_in_inference_mode() -> None:
    first = fractalops.fit(disc(), tiny())
    with torch.inference_mode():
        inside = fractalops.fit(disc(), tiny(), start=first.system)
    assert_same_bits(inside.losses, fractalops.fit(disc(), tiny(), start=first.system).losses)


def test_a_gradient_whose_square_overflows_is_limited_too() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    parameter.grad = torch.tensor([[3e25, 0.0, -4e25], [0.3, 0.0, -0.4]])
    learning.clip_gradients([parameter], 1.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([[0.6, 0.0, -0.8], [0.3, 0.0, -0.4]]))
