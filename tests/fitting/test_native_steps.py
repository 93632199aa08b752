"""Tests of the native loop of `fit` against its definition, the loop of tensor operations on the reference backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig, backends, ifs
from fractalops.fitting import learning
from fractalops.fitting.native_steps import NativeSteps, check_native, describe_loop
from fractalops.sampling import LONGEST_BALANCED
from tests.support.learning import bar, disc, images_of, mean_square, quick, tiny

# Relative tolerance of the losses of 50 steps with the same start and draws: sums of 1000 points and 256 pixels in
# float32. The largest error seen is 2.2e-6.
LOSSES = 2e-5
# The learning rate for this tolerance. At the default rate, 0.1, a step changes maps so much that it multiplies the
# difference of two runs by up to 1.5. After 50 steps, rounding errors of float32 grow to percents, for any two orders
# of summation.
RATE = 0.02
# Tolerances of the gradient of one step, of one kind of parameters of one system. The first is relative to its largest
# entry; the largest error seen is 3e-4. The second is absolute, for gradients that are nearly zero: sums of 1000 terms
# of up to 1e-3 that cancel, in float32; the largest error seen is 1.3e-7.
GRADIENT = 6e-4, 2e-7
# The gradient is measured from an SGD step with this learning rate. It is so large that the gradient is not lost in the
# parameters' rounding.
GRADIENT_RATE = 1000.0

pytestmark = pytest.mark.usefixtures("native")

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
    "sgd without momentum": {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1},
    "no clipping": {"gradient_clip": None},
    "clipped": {"gradient_clip": 1e-3},
    "no clamp": {"clamp": False},
    "matrices": {"parametrization": "matrix"},
    "matrices by determinant": {"parametrization": "matrix", "probabilities": "determinant"},
    "clamped values": {"singular_values": "clamp"},
    "determinant": {"probabilities": "determinant"},
    "clamped values by determinant": {"singular_values": "clamp", "probabilities": "determinant"},
    "independent": {"sampling": "independent"},
    "fixed": {"objective": "fixed"},
    "halving": {"schedule": "halving"},
    "random start": {"initialization": "random"},
    "wide bumps": {"bandwidth": 4.0},
    "narrow bumps": {"bandwidth": 0.3},
    "no cutoff": {"cutoff": None},
    "other viewport": {"viewport": (-2.0, -3.0, 4.0, 3.5)},
    "one map": {"maps": 1},
    "two maps": {"maps": 2},
    "17 maps": {"maps": 17},
    "300 maps": {"maps": 300, "sequences": 2},
    "one sequence": {"sequences": 1},
    "63 sequences": {"sequences": 63, "points": 30},
    "one point": {"points": 1},
    "color": {"color": True},
    "color, determinant": {"color": True, "probabilities": "determinant"},
    "color, matrices, sgd": {"color": True, "parametrization": "matrix", "optimizer": "sgd"},
    "color, no clamp": {"color": True, "clamp": False},
    "published": {
        "sequences": 50,
        "initialization": "random",
        "probabilities": "determinant",
        "sampling": "independent",
    },
}
all_settings = pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)


@contextmanager
def recorded_draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Yield a list to which the indices (S, K, T) that systems draw are added."""
    drawn: list[Tensor] = []
    draw = ifs.draw_sequences

    def record(*arguments: Any) -> Tensor:
        drawn.append(draw(*arguments))
        return drawn[-1]

    with monkeypatch.context() as patch:
        patch.setattr(ifs, "draw_sequences", record)
        yield drawn


def native_steps(batch: learning.Batch, config: FitConfig, index: Tensor | None = None) -> NativeSteps:
    given = batch.index if index is None else index
    return NativeSteps(batch.targets, batch.system, batch.optimizer, batch.generators, given, config)


def tensor_losses(batch: learning.Batch, config: FitConfig, steps: int) -> Tensor:
    """Return the losses (steps, S) of steps by tensor operations."""
    with fractalops.use_backend("reference"):
        run = learning.run_steps(batch, config, None, False)
        return torch.cat([next(run) for _ in range(steps)])


@all_settings
def test_losses_of_50_steps_are_those_of_tensor_operations(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(**({"steps": 500, "learning_rate": RATE} | changes))
    images = images_of(config)
    batch = learning.Batch.start(images, config, range(3))
    state = batch.state()
    with recorded_draws(monkeypatch) as drawn:
        expected = tensor_losses(batch, config, 50)
    native = learning.Batch.restore(images, config, state)
    losses = []
    for step in range(50):
        index = drawn[step] if drawn else None
        losses.append(native_steps(native, config, index)([config.learning_rate_at(step)]))
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(torch.cat(losses), expected, rtol=LOSSES, atol=0.0)
    assert_near_state(native.state(), batch.state())


def assert_near_state(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Assert that two learning states have the same names and shapes, and nearly the same parameters."""
    assert {name: tensor.shape for name, tensor in actual.items() if name != "losses"} == {
        name: tensor.shape for name, tensor in expected.items() if name != "losses"
    }
    for name, tensor in expected.items():
        if name.startswith("system."):
            torch.testing.assert_close(actual[name], tensor, rtol=0.0, atol=1e-3, msg=name)
    assert torch.equal(actual.get("optimizer.step.0", torch.tensor(50.0)), torch.tensor(50.0))


def gradient_of(batch: learning.Batch, run: Any) -> Tensor:
    """Return the gradient (S, P), measured from a step of SGD without momentum."""
    before = batch.optimizer.rows()
    run()
    return (before - batch.optimizer.rows()) / GRADIENT_RATE


def names_of(batch: learning.Batch) -> list[str]:
    return [name for name, _ in batch.system.named_parameters()]


def parts_of(batch: learning.Batch, rows: Tensor) -> list[Tensor]:
    """Return the gradients (S, ...) of each kind of parameters in rows (S, P)."""
    widths = [parameter[0].numel() for parameter in batch.system.parameters()]
    return list(rows[:, : sum(widths)].split(widths, 1))


@all_settings
@pytest.mark.parametrize("age", ["early", "late"])
def test_gradients_of_one_step_are_those_of_tensor_operations(
    changes: dict[str, Any], age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(**changes)
    images = images_of(config)
    batch = learning.Batch.start(images, config, range(3))
    if age == "late":
        native_steps(batch, config)([config.learning_rate_at(0)] * 100)
    sgd: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": GRADIENT_RATE}
    once = replace(config, **sgd, gradient_clip=None, schedule="halving")
    state = {name: tensor for name, tensor in batch.state().items() if not name.startswith("optimizer.")}
    state["optimizer.momentum.0"] = torch.zeros_like(batch.optimizer.rows())
    expected, actual = (learning.Batch.restore(images, once, state) for _ in range(2))
    with recorded_draws(monkeypatch) as drawn:
        wanted = gradient_of(expected, lambda: tensor_losses(expected, once, 1))
    got = gradient_of(actual, lambda: native_steps(actual, once, drawn[0] if drawn else None)([GRADIENT_RATE]))
    assert wanted.abs().sum(1).all()
    for name, own, other in zip(names_of(actual), parts_of(actual, got), parts_of(actual, wanted), strict=True):
        scale = other.abs().amax(1, keepdim=True)  # (S, 1)
        assert ((own - other).abs() <= GRADIENT[0] * scale + GRADIENT[1]).all(), name


@all_settings
def test_draws_are_those_of_tensor_operations(changes: dict[str, Any]) -> None:
    config = quick(**changes)
    images = images_of(config)
    expected, actual = (learning.Batch.start(images, config, range(3)) for _ in range(2))
    wanted = tensor_losses(expected, config, 1)
    got = native_steps(actual, config)([config.learning_rate_at(0)])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0.0)  # other draws differ by percents
    for one, other in zip(actual.generators, expected.generators, strict=True):
        assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("size", [(2, 2), (3, 7), (16, 33), (63, 5)], ids=str)
def test_sizes_of_images(size: tuple[int, int]) -> None:
    config = quick(color=True, points=63)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected, actual = (learning.Batch.start(images, config, range(2)) for _ in range(2))
    wanted = tensor_losses(expected, config, 1)
    torch.testing.assert_close(native_steps(actual, config)([0.1]), wanted, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("targets", "changes", "plugged_in", "reason"),
    [
        (disc(), {}, False, ""),
        (disc(), {}, True, "a custom loss is used"),
        (disc(), {"viewport": "fit"}, False, "the viewport is 'fit'"),
        (disc(), {"blend": "mean"}, False, "the blend is 'mean'"),
        (disc(), {"offset_rate": 0.5}, False, "offsets have their own learning rate"),
        (torch.ones(1, 7), {}, False, "the targets have a side of one pixel"),
        (disc().to("meta"), {}, False, "the targets are on meta"),
    ],
    ids=["native steps", "loss", "viewport", "blend", "offsets", "side", "device"],
)
def test_what_takes_tensor_operations(targets: Tensor, changes: dict[str, Any], plugged_in: bool, reason: str) -> None:
    assert check_native(targets[None], tiny(**changes), plugged_in) == reason


def test_the_reference_backend_takes_tensor_operations(caplog: pytest.LogCaptureFixture) -> None:
    with fractalops.use_backend("reference"), caplog.at_level("INFO", "fractalops"):
        fractalops.fit(disc(), tiny())
    assert "fit: steps use tensor operations: the reference backend was chosen" in caplog.messages


def test_the_loop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(backends.STATE, "forced", "fast")
        assert describe_loop().startswith("fit on the CPU: can't run: learn_steps: FRACTALOPS_BACKEND must be one of ")
    assert describe_loop().startswith("fit on the CPU: native steps; tensor operations for a custom loss, ")
    with fractalops.use_backend("reference"):
        assert describe_loop() == "fit on the CPU: tensor operations: requested"


def test_a_plugged_in_loss_is_called(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "fractalops"):
        fractalops.fit(bar(), tiny(), loss=mean_square)
    assert "fit: steps use tensor operations: a custom loss is used" in caplog.messages


@pytest.mark.parametrize(
    "changes", [{}, {"noise": 0.1, "noise_every": 7}, {"snapshots": 4}, {"optimizer": "sgd"}], ids=str
)
def test_chunks_change_no_bit(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick(**changes)
    sizes = []
    results = []
    for chunk in (0.0, 0.05, 1e9):
        monkeypatch.setattr(learning, "_CHUNK", chunk)
        batch = learning.Batch.start(disc()[None], config, range(1))
        sizes.append([len(losses) for losses in learning.run_steps(batch, config, None, False)])
        results.append(batch.state())
    assert sizes[0] == [1] * config.steps
    assert sum(sizes[2]) == config.steps
    assert max(sizes[2]) > 1
    for result in results[1:]:
        assert all(torch.equal(result[name], tensor) for name, tensor in results[0].items())
    # Stop after the second call, which takes many steps, and resume from the state.
    batch = learning.Batch.start(disc()[None], config, range(1))
    run = learning.run_steps(batch, config, None, False)
    for _ in range(2):
        next(run)
    restored = learning.Batch.restore(disc()[None], config, batch.state())
    assert 1 < restored.step < config.steps
    for _ in learning.run_steps(restored, config, None, False):
        pass
    assert all(torch.equal(restored.state()[name], tensor) for name, tensor in results[0].items())


def test_a_chunk_ends_where_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "_CHUNK", 1e9)
    config = tiny(steps=40, snapshots=3, noise=0.1, noise_every=12, noise_until=0.7)
    batch = learning.Batch.start(disc()[None], config, range(1))
    ends = []
    for _ in learning.run_steps(batch, config, None, False):
        ends.append(batch.step)
    # Noise is added after steps 0, 12 and 24. Snapshots are taken after steps 20 and 40. In between, chunks double.
    assert {1, 13, 20, 25, 40} <= set(ends)


def test_chunks_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 20 ms gets chunks of two. The clock is simulated."""
    now = 0.0

    class Slow(NativeSteps):
        def __call__(self, rates: Any) -> Tensor:
            nonlocal now
            now += 0.02 * len(rates)
            return super().__call__(rates)

    monkeypatch.setattr(learning, "NativeSteps", Slow)
    monkeypatch.setattr("fractalops.fitting.learning.time.perf_counter", lambda: now)
    config = tiny(steps=20)
    batch = learning.Batch.start(disc()[None], config, range(1))
    sizes = [len(losses) for losses in learning.run_steps(batch, config, None, False)]
    assert sizes[:2] == [1, 2]
    assert max(sizes) == 2


def test_what_is_wrong_with_the_raw_op_is_told() -> None:
    config = tiny()
    batch = learning.Batch.start(disc()[None], config, range(1))
    index = torch.full((1, config.sequences, config.points), config.maps, dtype=torch.uint8)
    with pytest.raises(IndexError, match=r"^learn_steps: index must lie in \[0, 3\), got 3"):
        native_steps(batch, config, index)([0.1])
    with pytest.raises(RuntimeError, match="learn_steps: index must have 3 sequences of"):
        native_steps(batch, config, index[:, 1:])([0.1])


def strokes(count: int) -> Tensor:
    """Return pictures (count, 32, 32) of a few thick random strokes each, like digits."""
    generator = torch.Generator().manual_seed(0)
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    images = torch.zeros(count, 32, 32)
    for image in images:
        ends = 6 + 20 * torch.rand(3, 2, 2, generator=generator)  # (strokes, ends, 2)
        for begin, end in ends:
            along = end - begin
            place = torch.stack((row - begin[0], column - begin[1]), -1)  # (32, 32, 2)
            share = ((place * along).sum(-1) / along.square().sum()).clamp(0, 1)
            image[(place - share[..., None] * along).norm(dim=-1) < 2] = 1
    return images


@pytest.mark.slow
def test_quality_is_that_of_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    images = strokes(20)
    config = FitConfig(steps=600, batch_size=20)
    native = [fractalops.fit(images, replace(config, seed=100 * seed)).minimum_mse for seed in range(6)]
    monkeypatch.setattr(learning, "check_native", lambda *_: "for comparison")
    tensors = [fractalops.fit(images, replace(config, seed=100 * seed)).minimum_mse for seed in range(3)]
    actual, expected = torch.stack(native), torch.stack(tensors)  # (seeds, 20)
    spread = actual.std(0).square()  # (20,), the variance over seeds
    error = (spread * (1 / 6 + 1 / 3)).sum().sqrt() / 20  # standard error of the difference of the means
    assert abs(actual.mean() - expected.mean()) < 3 * error


@pytest.mark.parametrize("plugged_in", [False, True])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_longest_sequences_are_drawn_independently(plugged_in: bool, excess: int) -> None:
    losses = []
    for sampling in ("balanced", "independent"):
        config = tiny(
            points=LONGEST_BALANCED + excess, sequences=1, steps=1, sampling=sampling, initialization="random"
        )
        losses.append(fractalops.fit(disc(), config, loss=mean_square if plugged_in else None).losses)
    assert torch.equal(*losses) == bool(excess)
