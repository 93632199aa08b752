"""`fractalops.fit`: it learns, repeats itself bit for bit, takes other losses and survives interruptions."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig, FitResult
from fractalops.fitting import learning
from tests.support.learning import Interruption, assert_same_result, bar, disc, quick, targets, tiny
from tests.support.tolerances import assert_same_bits

# What is learned


def test_the_loss_falls_far_below_that_of_random_systems(backend: str) -> None:
    result = fractalops.fit(targets(), quick(steps=100, points=60))
    random = fractalops.fit(targets(), quick(steps=0, points=60))
    last = result.losses[-5:].mean(dim=0)  # (S,)
    assert (last < 0.7 * result.losses[0]).all()
    assert (result.minimum_mse < 0.7 * random.minimum_mse).all()
    assert (result.mean_mse < 0.7 * random.mean_mse).all()


@pytest.mark.parametrize(
    "images", [bar(12, 16), bar(12, 16)[None], torch.stack([bar(12, 16)] * 3)], ids=["2", "3", "S=3"]
)
def test_shapes_and_meaning_of_the_result(images: Tensor) -> None:
    result = fractalops.fit(images, tiny(snapshots=3))
    systems = 1 if images.dim() == 2 else len(images)
    assert isinstance(result, FitResult)
    assert (result.system.systems, result.system.maps_per_system) == (systems, 3)
    assert result.size == (12, 16)
    assert result.losses.shape == (10, systems)
    assert result.minimum_mse.shape == result.mean_mse.shape == (systems,)
    assert result.best_image.shape == (systems, 12, 16)
    assert result.seconds > 0
    assert all(tensor.dtype == torch.float32 for tensor in (result.losses, result.best_image, result.minimum_mse))
    assert not result.losses.requires_grad
    assert not result.best_image.requires_grad
    errors = (result.best_image - images).square().mean(dim=(1, 2))  # (S,)
    torch.testing.assert_close(errors, result.minimum_mse)
    assert (result.minimum_mse <= result.mean_mse).all()
    assert result.system(8, points=50).shape == (systems, 1, 8, 8)


def test_no_steps_give_the_random_start() -> None:
    result = fractalops.fit(targets(), tiny(steps=0, snapshots=5))
    assert result.losses.shape == (0, 3)
    assert result.snapshot_steps == [0]
    for name, tensor in result.system.state_dict().items():
        assert_same_bits(result.snapshots[0][name], tensor)


def test_one_image_selected_is_the_image_learned_alone() -> None:
    together = fractalops.fit(targets(), tiny(snapshots=2))
    alone = fractalops.fit(targets()[1], tiny(snapshots=2, seed=1))
    assert_same_result(together.select(1), alone)
    for wrong in (-4, 3):
        with pytest.raises(IndexError, match=r"^FitResult.select: index must lie in \[0, 3\), got -?\d$"):
            together.select(wrong)


def test_targets_in_double_are_taken_as_float_and_stay_as_they_are() -> None:
    image = disc().double().requires_grad_()
    result = fractalops.fit(image, tiny())
    assert result.best_image.dtype == torch.float32
    assert image.grad is None
    assert_same_result(result, fractalops.fit(disc(), tiny()))


def test_learns_where_the_caller_turned_gradients_off() -> None:
    with torch.no_grad():
        result = fractalops.fit(disc(), tiny())
    assert_same_result(result, fractalops.fit(disc(), tiny()))
    assert torch.is_grad_enabled()


def test_learns_in_inference_mode() -> None:
    def loss(images: Tensor, target: Tensor) -> Tensor:
        return (images - target).square().mean(dim=(1, 2, 3))

    expected = fractalops.fit(disc(), tiny()), fractalops.fit(disc(), tiny(), loss=loss)
    with torch.inference_mode():
        image = disc()
        results = fractalops.fit(image, tiny()), fractalops.fit(image, tiny(), loss=loss)
        assert torch.is_inference_mode_enabled()
    for result, other in zip(results, expected, strict=True):
        assert_same_result(result, other)
    results[0].system(8).sum().backward()  # what was learned can be learned on


# The same bits


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first = fractalops.fit(disc(), tiny(snapshots=2))
    torch.manual_seed(7)  # the global generator has no say
    state = torch.get_rng_state()
    assert_same_result(fractalops.fit(disc(), tiny(snapshots=2)), first)
    assert torch.equal(torch.get_rng_state(), state)
    other = fractalops.fit(disc(), tiny(seed=1))
    assert not torch.equal(other.losses, first.losses)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, {"parametrization": "matrix"}, {"objective": "fixed"}])
def test_batches_change_no_bit(changes: dict[str, Any]) -> None:
    results = [
        fractalops.fit(targets(), quick(batch_size=batch, steps=25, snapshots=3, **changes)) for batch in (1, 2, 16)
    ]
    assert_same_result(results[1], results[0])
    assert_same_result(results[2], results[0])


def test_neighbors_change_no_bit() -> None:
    expected = fractalops.fit(targets(), tiny())
    images = targets()
    images[[0, 2]] = 1 - images[[0, 2]]
    changed = fractalops.fit(images, tiny())
    assert_same_result(changed.select(1), expected.select(1))
    many = torch.rand(19, 16, 16, generator=torch.Generator().manual_seed(0))
    many[1] = targets()[1]
    assert_same_result(fractalops.fit(many, tiny(batch_size=19)).select(1), expected.select(1))


@pytest.mark.usefixtures("restored_threads")
def test_threads_change_no_bit() -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(fractalops.fit(targets(), quick(steps=30)))
    assert_same_result(results[1], results[0])
    assert_same_result(results[2], results[0])


# Variants


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
    ],
    ids=str,
)
def test_variants_lower_the_loss(changes: dict[str, Any]) -> None:
    result = fractalops.fit(bar(), quick(**changes))
    assert result.losses.isfinite().all()
    assert result.losses[-5:].mean() < result.losses[:5].mean()


@pytest.mark.parametrize(
    "changes", [{"maps": 1}, {"points": 1}, {"sequences": 1}, {"maps": 300}, {"evaluation_sequences": 1}], ids=str
)
def test_the_least_and_the_odd_run(changes: dict[str, Any]) -> None:
    result = fractalops.fit(torch.stack([disc(1), disc(1)]), tiny(**changes))
    assert result.best_image.shape == (2, 1, 1)
    assert result.losses.isfinite().all()


def test_the_fixed_objective_keeps_its_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert seen[10] is None  # the evaluation is on fresh ones


@pytest.mark.parametrize("learning_rate", [0.05, 3.0, 1e6])
def test_raw_matrices_may_explode_but_never_crash(learning_rate: float) -> None:
    config = quick(parametrization="matrix", learning_rate=learning_rate, gradient_clip=None, noise=3.0)
    result = fractalops.fit(targets(), config)
    assert result.best_image.isfinite().all()
    assert result.minimum_mse.isfinite().all()
    assert result.losses.isfinite().all()


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


# Losses


def mean_square(images: Tensor, target: Tensor) -> Tensor:
    """The default loss, by itself: images (S, K, H, W), targets (S, 1, H, W) -> (S,)."""
    assert images.shape == (len(target), 3, 16, 16)
    assert target.shape[1:] == (1, 16, 16)
    return (images - target).square().mean(dim=(1, 2, 3))


def test_a_loss_that_is_plugged_in_does_what_the_own_one_does() -> None:
    own = fractalops.fit(targets(), tiny())
    plugged = fractalops.fit(targets(), tiny(), loss=mean_square)
    torch.testing.assert_close(plugged.losses, own.losses, rtol=1e-3, atol=1e-5)
    summed = fractalops.fit(targets(), tiny(), loss=lambda images, target: mean_square(images, target).sum())
    torch.testing.assert_close(summed.losses[0], own.losses[0].sum().expand(3))
    torch.testing.assert_close(summed.minimum_mse, own.minimum_mse, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("clamp", [True, False])
def test_a_loss_sees_images_clamped_where_asked(clamp: bool) -> None:
    brightest = []

    def loss(images: Tensor, target: Tensor) -> Tensor:
        brightest.append(images.max().item())
        return mean_square(images, target)

    fractalops.fit(disc(), tiny(points=200, clamp=clamp), loss=loss)
    assert (max(brightest) == 1) == clamp


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


# Targets and interruptions

TARGET_ERRORS: list[tuple[type[Exception], Any]] = [
    (TypeError, None),
    (TypeError, [[0.0]]),
    (TypeError, disc().numpy()),
    (TypeError, disc().long()),
    (TypeError, disc().byte()),
    (TypeError, disc().bool()),
    (TypeError, disc().to(torch.complex64)),
    (ValueError, disc()[0]),
    (ValueError, disc()[None, None]),
    (ValueError, torch.zeros(())),
    (ValueError, torch.zeros(0, 8, 8)),
    (ValueError, torch.zeros(2, 0, 8)),
    (ValueError, disc() * 255),
    (ValueError, disc() - 0.1),
    (ValueError, disc() * math.nan),
    (ValueError, disc() / 0),
]


@pytest.mark.parametrize(("error", "wrong"), TARGET_ERRORS)
def test_wrong_targets_are_named(error: type[Exception], wrong: Any) -> None:
    with pytest.raises(error, match=r"^fit: targets must .+, got .+"):
        fractalops.fit(wrong, tiny())


def test_a_wrong_configuration_is_named() -> None:
    with pytest.raises(TypeError, match=r"^fit: config must be a FitConfig, got dict$"):
        fractalops.fit(disc(), {"steps": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0, 4, 9])
def test_an_interruption_keeps_what_was_learned(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(snapshots=11)
    whole = fractalops.fit(targets(), config)
    monkeypatch.setattr(learning, "make_optimizer", Interruption(step))
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
    monkeypatch.setattr(learning, "make_optimizer", Interruption(17))
    result = fractalops.fit(targets(), config)  # the first image is done, the second under way, the third not begun
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
    evaluate = learning._evaluate
    calls: list[int] = []

    def interrupted(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    config = tiny(batch_size=2, snapshots=3)
    whole = fractalops.fit(targets(), config)
    monkeypatch.setattr(learning, "_evaluate", interrupted)
    result = fractalops.fit(targets(), config)
    assert result.interrupted
    assert result.steps == [10] * 3
    assert_same_bits(result.losses, whole.losses)
    assert len(result.snapshots) == 3
    assert result.minimum_mse.isfinite().all()  # on other fresh sequences, where the first attempt drew some


def test_an_interruption_before_anything_was_begun_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(learning.Batch, "start", interrupted)
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
    """Of all that a step makes, nothing small may stay where its large tensors, of 4 MB here, were."""
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
    assert many < few + 70_000  # 40 more steps make 160 MB of images
