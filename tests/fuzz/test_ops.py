"""Random calls of every op, forward and backward, compared with the reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.fitting import FitConfig, learning
from fractalops.op_table import OPS
from tests.fitting.test_native_steps import LOSSES, RATE, native_steps, recorded_draws, tensor_losses
from tests.support.cases import Inputs, Result, exact, value_and_gradients
from tests.support.op_calls import CALLS, Call, Draw
from tests.support.tolerances import TOLERANCES, assert_same_bits

pytestmark = pytest.mark.usefixtures("native", "restored_threads")

# Calls of each op in the slow suite, fewer for expensive ops. The fast suite makes a fiftieth of them.
COUNTS = {
    **{"affine_chain": 4500, "rbf_rasterize": 5000, "rasterize_points": 3000, "svd_matrix": 1500},
    **{"clamped_squared_error": 2000, "draw_index": 1500, "draw_balanced_index": 500, "fixed_point": 1500},
    **{"k_means": 1000, "draw_masks": 300, "rasterize_orbit": 500},
}
RUNS = 300  # of `learn_steps`


def assert_within(actual: Tensor, expected: Tensor, magnitude: Tensor, spreads: bool) -> None:
    """Assert that errors are within the dtype's tolerance times `magnitude`, if it is in the dtype's range."""
    assert actual.shape == expected.shape == magnitude.shape
    known = magnitude < torch.finfo(actual.dtype).max / 1024
    error, allowed = (actual.double() - expected).abs(), TOLERANCES[actual.dtype] * magnitude
    bad = known & ~(error <= allowed)
    assert not bad.any(), f"{float((error / allowed)[bad].max()):.3g} times the tolerance"
    if spreads:
        assert not (actual.isfinite() & ~expected.isfinite()).any()


def check(op: str, number: int) -> None:
    seed = f"{op} {number}"
    draw = Draw(seed)
    call = CALLS[op](draw)
    torch.set_num_threads(draw.random.choice((1, 1, 1, 1, 2, 3)))
    try:
        _check(call, draw)
    except Exception as error:
        raise AssertionError(f"{error}; the call: CALLS[{op!r}](Draw({seed!r}))") from error


def _check(call: Call, draw: Draw) -> None:
    def on(backend: str, inputs: Inputs, upstream: Tensor | None) -> Result:
        run = lambda *tensors: call.run(*tensors, backend=backend)  # noqa: E731
        return value_and_gradients(run, inputs, upstream, call.differentiable)

    shape = call.run(*call.inputs, backend="native").shape
    upstream = draw.numbers(*shape) if call.differentiable else None
    value, gradients = on("native", call.inputs, upstream)
    if not call.defined:
        return
    if call.magnitudes is None:
        return assert_same_bits(value, call.run(*call.inputs, backend="reference"))
    inputs = exact(call.inputs)
    wanted, wanted_gradients = on("reference", inputs, None if upstream is None else upstream.double())
    largest, largest_gradients = call.magnitudes(inputs, upstream.double() if upstream is not None else wanted)
    assert_within(value, wanted, largest, call.spreads)
    for each in zip(gradients, wanted_gradients, largest_gradients, strict=True):
        assert_within(*each, call.spreads)


@pytest.mark.parametrize("op", CALLS)
def test_random_calls_are_those_of_the_reference(op: str) -> None:
    for number in range(COUNTS[op] // 50):
        check(op, number)


@pytest.mark.slow
@pytest.mark.parametrize("op", CALLS)
def test_many_random_calls_are_those_of_the_reference(op: str) -> None:
    for number in range(COUNTS[op] // 50, COUNTS[op]):
        check(op, number)


def _off(run: Callable[..., Tensor], part: str) -> Callable[..., Tensor]:
    """Return an op whose native value, or whose native gradients, are off by one part in 10,000."""

    def call(*tensors: Tensor | None, backend: str) -> Tensor:
        result = run(*tensors, backend=backend)
        value = result.detach()
        return result if backend == "reference" else result + 1e-4 * (value if part == "value" else result - value)

    return call


_DIFFERENTIABLE = ("affine_chain", "rbf_rasterize", "svd_matrix", "clamped_squared_error")


@pytest.mark.parametrize(
    ("op", "part"),
    [("fixed_point", "value"), *((op, part) for op in _DIFFERENTIABLE for part in ("value", "gradients"))],
)
def test_an_error_of_a_ten_thousandth_is_found(op: str, part: str) -> None:
    found = 0
    for number in range(12):  # without the error they pass: the test above checks these calls
        draw = Draw(f"{op} {number}")
        call = CALLS[op](draw)
        try:
            _check(replace(call, run=_off(call.run, part)), draw)
        except AssertionError:
            found += 1
    assert found >= 3


def random_config(random: Random) -> FitConfig:
    """Return settings of a small run that native code supports."""
    by_factors, clamp = random.random() < 0.6, random.random() < 0.7
    settings: dict[str, Any] = {
        "maps": random.choice((1, 2, 3, 10, 17, 300)),
        "points": random.choice((1, 2, 20, 63)),
        "sequences": random.choice((1, 2, 5)),
        "steps": 100,
        "learning_rate": RATE,
        "optimizer": random.choice(("adam", "sgd")),
        "momentum": random.choice((0.0, 0.9)),
        "parametrization": "svd" if by_factors else "matrix",
        "singular_values": random.choice(("sigmoid", "clamp")) if by_factors else "sigmoid",
        "probabilities": random.choice(("learned", "determinant")),
        "initialization": random.choice(("intensity", "random")),
        "sampling": random.choice(("balanced", "independent")),
        "blend": "add",
        "offset_rate": 1.0,
        "split_every": 0,
        "clamp": clamp,
        "color": random.random() < 0.4,
        # Without limits, steps amplify the rounding errors of float32.
        "gradient_clip": random.choice((None, 1.0, 1e-3) if clamp else (1.0, 1e-3)),
        "bandwidth": random.choice((0.1, 0.7, 1.0, 4.0, 50.0)),
        "cutoff": random.choice((None, 1e-6, 1e-2)),
        "viewport": random.choice(((-5.0, -5.0, 5.0, 5.0), (-2.0, -3.0, 4.0, 3.5))),
        "seed": random.getrandbits(20),
    }
    return FitConfig(**settings)


def check_learning(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare three steps of the native loop with those of tensor operations, for the same drawn sequences."""
    random = Random(f"learn_steps {number}")
    config, size = random_config(random), (random.choice((2, 3, 9, 16)), random.choice((2, 5, 16, 33)))
    shape = (random.choice((1, 2, 3)), *([3] if config.color else []), *size)
    targets = torch.rand(shape, generator=torch.Generator().manual_seed(number))
    config = config.resolve(size)
    batch = learning.Batch.start(targets, config, range(len(targets)))
    state = batch.state()
    with recorded_draws(monkeypatch) as drawn:
        expected = tensor_losses(batch, config, 3)  # (3, S)
    native = learning.Batch.restore(targets, config, state)
    torch.set_num_threads(random.choice((1, 1, 2)))
    rates = [[config.learning_rate_at(step)] for step in range(3)]
    losses = torch.cat([native_steps(native, config, index)(rate) for rate, index in zip(rates, drawn, strict=True)])
    assert expected.isfinite().all()
    torch.testing.assert_close(losses, expected, rtol=LOSSES, atol=1e-12, msg=lambda text: f"run {number}: {text}")


def test_random_steps_are_those_of_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(RUNS // 50):
        check_learning(number, monkeypatch)


@pytest.mark.slow
def test_many_random_steps_are_those_of_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(RUNS // 50, RUNS):
        check_learning(number, monkeypatch)


def test_every_op_is_called() -> None:
    assert {*CALLS, "learn_steps"} == OPS.keys()
    assert COUNTS.keys() == CALLS.keys()
    assert sum(COUNTS.values()) >= 20_000
