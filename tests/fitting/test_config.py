"""Tests of `FitConfig`: its checks, and the schedules of the learning rate, the noise and the snapshots."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import FitConfig
from fractalops.fitting import learning
from fractalops.fitting.optimizers import make_optimizer
from tests.support.learning import Interruption, disc, tiny

NAN, INFINITY = math.nan, math.inf
CHOICES = (
    "objective", "optimizer", "parametrization", "singular_values", "initialization", "schedule", "sampling", "blend",
    "detail",
)  # fmt: skip
VALUE_ERRORS: dict[str, list[Any]] = {
    **{name: [0, -1] for name in ("maps", "points", "sequences", "noise_every", "evaluation_sequences", "batch_size")},
    **{name: [-1] for name in ("steps", "snapshots", "seed", "split_every")},
    **{name: ["Expectation", "uniform", "", None] for name in CHOICES},
    "probabilities": ["uniform", ""],
    "bandwidth": [0, -1.0, NAN, INFINITY],
    "cutoff": [0, 1, -0.1, 1.5, NAN],
    "viewport": ["fill", None, (0, 0, 1), (1, 0, 1, 1), (0, 0, NAN, 1), 5],
    "background": [-0.1, 1.1, NAN],
    "background_weight": [0, -0.1, NAN, INFINITY],
    "learning_rate": [0, -0.1, NAN, INFINITY],
    "offset_rate": [0, -0.1, NAN, INFINITY],
    "momentum": [-0.1, 1.1, NAN],
    "gradient_clip": [0, -1, NAN, INFINITY],
    "noise": [-0.1, NAN, INFINITY],
    "noise_until": [-0.1, 1.1, NAN],
}
WRONG_TYPES: dict[Any, list[Any]] = {  # by the type of a setting
    int: [1.0, "3", None, True, torch.tensor(3)],
    float: ["1", None, True, torch.tensor(0.5)],
    float | None: ["1", True, torch.tensor(0.5)],
    bool: ["no", 1, None],
}
TYPES = get_type_hints(FitConfig)


def test_every_setting_that_has_a_range_is_tried() -> None:
    assert set(TYPES) - set(VALUE_ERRORS) == {"clamp", "color"}
    assert {TYPES[name] for name in ("maps", "noise", "cutoff", "clamp")} == set(WRONG_TYPES)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [(name, value, ValueError) for name in VALUE_ERRORS for value in VALUE_ERRORS[name]]
    + [(name, value, TypeError) for name in TYPES for value in WRONG_TYPES.get(TYPES[name], ())],
)
def test_a_wrong_value_is_named(name: str, value: Any, error: type[Exception]) -> None:
    what = f"be True or False, got {value!r}$" if TYPES[name] is bool else ".+, got "
    with pytest.raises(error, match=rf"^FitConfig: {name} must {what}"):
        FitConfig(**{name: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"cutoff": None, "gradient_clip": None},
        {"steps": 0, "snapshots": 0, "seed": 0},
        {"momentum": 0, "noise": 0, "noise_until": 0},
        {"momentum": 0.999, "noise_until": 1, "bandwidth": 2, "learning_rate": 1},
        {"viewport": [0, 0, 1, 2]},
        {"viewport": "stretch"},
        {"viewport": "fit"},
        {"seed": 2**63 - 1},
        {"seed": 2**64 + 5},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_run(changes: dict[str, Any]) -> None:
    assert fractalops.fit(disc(), tiny(**changes)).best_image.isfinite().all()


def test_the_published_settings_are_kept_and_frozen() -> None:
    config = FitConfig.paper()
    assert (config.maps, config.points, config.sequences, config.steps) == (10, 300, 50, 1000)
    assert (config.learning_rate, config.noise, config.noise_every, config.noise_until) == (0.05, 0.1, 10, 0.6)
    assert (config.initialization, config.schedule) == ("random", "halving")
    assert (config.probabilities, config.sampling) == ("determinant", "independent")
    assert config.viewport == (-5, -5, 5, 5)
    assert FitConfig.paper(maps=4, noise=0.0) == dataclasses.replace(config, maps=4, noise=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3  # type: ignore[misc]


def test_the_defaults_differ_from_the_published_settings_in_the_recipe_alone() -> None:
    default, published = FitConfig().resolve((32, 32)), FitConfig.paper()
    changed = {name for name, value in dataclasses.asdict(default).items() if value != getattr(published, name)}
    assert changed == {
        "sequences", "steps", "viewport", "learning_rate", "schedule", "noise", "initialization", "probabilities",
        "sampling",
    }  # fmt: skip
    # A recipe may cost less, but not more. The problem stays the same.
    assert default.steps * default.sequences <= published.steps * published.sequences


def test_the_learning_rate_is_halved_every_quarter() -> None:
    config = FitConfig.paper()
    rates = [config.learning_rate_at(step) for step in range(1000)]
    assert rates == [0.05] * 250 + [0.025] * 250 + [0.0125] * 250 + [0.00625] * 250
    assert [FitConfig.paper(steps=2).learning_rate_at(step) for step in (0, 1)] == [0.05, 0.0125]
    assert FitConfig.paper(steps=0).learning_rate_at(0) == 0.05


def test_the_learning_rate_falls_along_a_cosine() -> None:
    config = FitConfig(steps=4, learning_rate=1.0)
    expected = [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]
    assert [config.learning_rate_at(step) for step in range(4)] == pytest.approx(expected)
    assert FitConfig(steps=0).resolve((32, 32)).learning_rate_at(0) == 0.1


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizer_follows_the_learning_rate(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Interruption(at=-1).install(monkeypatch)  # it never interrupts
    config = tiny(steps=8, optimizer=optimizer)
    fractalops.fit(disc(), config)
    assert seen.rates == [config.learning_rate_at(step) for step in range(8)]


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0}], ids=str)
def test_the_optimizers_are_those_of_torch(changes: dict[str, Any]) -> None:
    config = FitConfig(**changes)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((2, 3, 6), (2, 3, 2))]
    own = [tensor.clone().requires_grad_() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    step = make_optimizer(own, config)
    expected: torch.optim.Optimizer
    if config.optimizer == "adam":
        expected = torch.optim.Adam(theirs, fused=True)
    else:
        expected = torch.optim.SGD(theirs, momentum=config.momentum, fused=True)
    for number in range(20):
        for one, other in zip(own, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        expected.param_groups[0]["lr"] = 0.05 / (1 + number)
        step(0.05 / (1 + number))
        expected.step()
        for one, other in zip(own, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_noise_comes_every_tenth_step_of_the_first_part() -> None:
    config = FitConfig.paper(steps=100)
    assert [step for step in range(100) if config.adds_noise_at(step)] == [0, 10, 20, 30, 40, 50]
    assert not any(FitConfig.paper(noise=0.0).adds_noise_at(step) for step in range(1000))
    assert not any(FitConfig.paper(noise_until=0).adds_noise_at(step) for step in range(1000))


@pytest.mark.parametrize("parametrization", ["svd", "matrix"])
def test_noise_has_its_deviation_and_leaves_the_offsets_alone(
    parametrization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[tuple[Tensor, Tensor]] = []
    add = learning._add_noise

    def spy(batch: learning.Batch, config: FitConfig) -> None:
        parameter, offset = (tensor.detach() for tensor in list(batch.system.parameters())[:2])
        before = (parameter.clone(), offset.clone())
        add(batch, config)
        added.append((parameter - before[0], offset - before[1]))

    monkeypatch.setattr(learning, "_add_noise", spy)
    fractalops.fit(disc(), tiny(maps=200, noise=0.3, noise_every=3, noise_until=0.5, parametrization=parametrization))
    assert len(added) == 2  # after steps 0 and 3 of 10
    for noise, offset in added:
        assert abs(noise.std().item() - 0.3) < 0.05
        assert abs(noise.mean().item()) < 0.05
        assert not offset.any()


@pytest.mark.parametrize(
    ("snapshots", "steps", "expected"),
    [
        (0, 10, []),
        (1, 10, [10]),
        (2, 10, [0, 10]),
        (3, 10, [0, 5, 10]),
        (4, 10, [0, 3, 7, 10]),
        (99, 3, [0, 1, 2, 3]),
        (5, 0, [0]),
    ],
)
def test_snapshots_are_spread_evenly(snapshots: int, steps: int, expected: list[int]) -> None:
    assert tiny(snapshots=snapshots, steps=steps).snapshot_steps() == expected
    result = fractalops.fit(disc(), tiny(snapshots=snapshots, steps=steps))
    assert result.snapshot_steps == expected
    assert len(result.snapshots) == len(expected)
    for name, tensor in result.system.state_dict().items():
        assert all(snapshot[name].shape == tensor.shape for snapshot in result.snapshots)
        if expected:
            assert torch.equal(result.snapshots[-1][name], tensor)


def test_any_number_of_snapshots_is_ascending_without_repeats() -> None:
    for steps in range(30):
        for snapshots in range(2, 33):
            taken = FitConfig(steps=steps, snapshots=snapshots).snapshot_steps()
            assert taken == sorted(set(taken))
            assert len(taken) == min(snapshots, steps + 1)
            assert taken[-1] == steps
