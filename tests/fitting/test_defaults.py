"""Tests of the default settings of `fit` beyond the published ones: start from the mass, learned probabilities."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import IFS, FitConfig, use_backend
from fractalops.fitting.initialization import first_parameters, intensity_start
from tests.support.learning import bar, disc, images_of, targets, tiny
from tests.support.tolerances import assert_matches


def test_the_defaults_learn_better_than_the_published_settings_by_the_same_work() -> None:
    size = {"maps": 6, "points": 100}
    published = fractalops.fit(targets(), FitConfig.paper(**size, steps=150, sequences=10))
    default = fractalops.fit(targets(), FitConfig(**size, steps=300, sequences=5))
    assert default.minimum_mse.mean() < 0.6 * published.minimum_mse.mean()


def test_even_sampling_learns_better_than_independent_draws() -> None:
    """Balanced sampling is for shapes that the points can just fill: here, a disc of 200 square pixels."""
    target = disc(20, 8.0).expand(4, -1, -1)
    config = {"maps": 6, "points": 100, "steps": 300}
    independent = fractalops.fit(target, FitConfig(**config, sampling="independent"))
    even = fractalops.fit(target, FitConfig(**config))
    assert even.minimum_mse.mean() < 0.8 * independent.minimum_mse.mean()


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_learning_goes_on_from_given_systems(batch: int) -> None:
    config = tiny(steps=4, batch_size=batch)
    first = fractalops.fit(targets(), config)
    kept = {name: tensor.clone() for name, tensor in first.system.state_dict().items()}
    none = fractalops.fit(targets(), tiny(steps=0, batch_size=batch), start=first.system)
    for name, tensor in none.system.state_dict().items():
        assert torch.equal(tensor, kept[name])
    more = fractalops.fit(targets(), config, start=first.system)
    assert not torch.equal(more.system.svd, first.system.svd)
    for name, tensor in first.system.state_dict().items():  # unchanged
        assert torch.equal(tensor, kept[name])


@pytest.mark.parametrize(
    ("start", "changes"),
    [
        (IFS(2, 3, probabilities="learned"), {}),
        (IFS(3, 4, probabilities="learned"), {}),
        (IFS(3, 3), {}),
        (IFS(3, 3, probabilities="learned", channels=3), {}),
        (IFS(3, 3, probabilities="learned", parametrization="matrix"), {}),
        (IFS(3, 3, probabilities="learned", singular_values="clamp"), {}),
        (IFS(3, 3, probabilities="learned"), {"objective": "fixed"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_start_of_other_parameters_is_refused(start: IFS, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^fit: start must have the parameters that config learns .*, got "):
        fractalops.fit(targets(), tiny(maps=3, **changes), start=start)
    with pytest.raises(TypeError, match=r"^fit: start must be an IFS, got OrderedDict$"):
        fractalops.fit(targets(), tiny(maps=3), start=start.state_dict())  # type: ignore[arg-type]


def test_learned_probabilities_start_equal_and_draw_the_maps() -> None:
    system = IFS(2, 4, probabilities="learned")
    torch.testing.assert_close(system.probabilities(), torch.full((2, 4), 0.25))
    with torch.no_grad():
        assert system.logit is not None
        system.logit[0] = torch.tensor([0.5, 0.3, 0.2, 0.0]).log()
    expected = torch.tensor([0.5, 0.3, 0.2, 1e-3]) / 1.001
    torch.testing.assert_close(system.probabilities()[0], expected)
    index = system.sample(100, 1000, generator=torch.Generator().manual_seed(0))
    drawn = torch.bincount(index[0].flatten().long(), minlength=4) / 100_000
    torch.testing.assert_close(drawn, expected, rtol=0.05, atol=1e-3)
    other = IFS(2, 4, probabilities="learned")
    other.load_state_dict(system.state_dict())
    torch.testing.assert_close(other.probabilities(), system.probabilities())


def test_an_unknown_kind_of_probabilities_is_named() -> None:
    expected = "IFS: probabilities must be one of determinant, learned, given, got 'uniform'"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        IFS(probabilities="uniform")


@pytest.mark.parametrize("channels", [None, 3])
def test_the_gradient_of_the_logits_is_that_of_points_that_weigh_more(channels: int | None) -> None:
    """Compare with finite differences in float64. Every point of map n has the weight p_n / (initial p_n)."""
    system = IFS(
        2,
        3,
        probabilities="learned",
        channels=channels,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    assert system.logit is not None
    with torch.no_grad():
        system.logit.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)))
    target = disc(8).double()
    arguments: dict[str, Any] = {"viewport": (-2.0, -2.0, 2.0, 2.0), "clamp": False}
    images = system(8, sequences=4, points=20, generator=torch.Generator().manual_seed(2), **arguments)
    (images - target).square().sum().backward()

    index = system.sample(4, 20, generator=torch.Generator().manual_seed(2))
    matrix, offset, joined, start = (tensor.detach() for tensor in system.concatenated(index))
    colors = system.colors()
    color = torch.ones(6, 1, dtype=torch.float64) if colors is None else colors.detach().flatten(0, 1)

    def loss(logit: Tensor) -> Tensor:
        ratio = (logit.softmax(-1) / system.logit.detach().softmax(-1)).flatten()[:, None]  # type: ignore[union-attr]
        drawn = fractalops.render(matrix, offset, joined, 8, start=start, color=color * ratio, **arguments)
        return (drawn - target).square().sum()

    step = 1e-6
    for s in range(2):
        for n in range(3):
            move = torch.zeros(2, 3, dtype=torch.float64)
            move[s, n] = step
            logit = system.logit.detach()
            expected = (loss(logit + move) - loss(logit - move)) / (2 * step)
            assert system.logit.grad is not None
            torch.testing.assert_close(system.logit.grad[s, n], expected, rtol=1e-5, atol=1e-7)


def test_sequences_drawn_once_take_the_probabilities_of_the_determinants() -> None:
    config = tiny(objective="fixed")
    assert config.probabilities == dataclasses.asdict(config)["probabilities"] == "determinant"
    assert fractalops.fit(disc(), config).system.logit is None
    assert FitConfig().probabilities == "learned"
    with pytest.raises(ValueError, match=r"^FitConfig: probabilities must be determinant .*, got 'learned'$"):
        FitConfig(objective="fixed", probabilities="learned")


def one_pixel() -> Tensor:
    image = torch.zeros(16, 16)
    image[3, 12] = 1
    return image


AWKWARD = {
    "one lit pixel": one_pixel(),
    "fewer lit pixels than maps": one_pixel() + one_pixel().T,
    "all lit": torch.ones(16, 16),
    "dark": torch.zeros(16, 16),
    "gray": torch.rand(9, 16, generator=torch.Generator().manual_seed(0)),
    "one row": torch.ones(1, 20),
    "one column": torch.ones(20, 1),
    "one pixel in all": torch.ones(1, 1),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize(
    "changes", [{}, {"viewport": "stretch"}, {"maps": 300}, {"parametrization": "matrix"}], ids=str
)
def test_any_target_has_a_start(name: str, changes: dict[str, Any]) -> None:
    result = fractalops.fit(AWKWARD[name], tiny(**changes))
    assert result.losses.isfinite().all()
    assert result.best_image.isfinite().all()


@pytest.mark.parametrize("color", [False, True])
def test_the_maps_put_the_middle_of_the_light_on_its_parts(color: bool) -> None:
    image = torch.zeros(33, 33)
    image[4:9, 4:9] = 1
    image[24:29, 14:19] = 1  # two squares, around (6, 6) and (26, 16)
    system = IFS(1, 2, generator=torch.Generator().manual_seed(0))
    target = torch.stack([image, 0 * image, 0 * image]) if color else image
    config = FitConfig(viewport=(-16.0, -16.0, 16.0, 16.0))
    intensity_start(system, target[None], config, [torch.Generator().manual_seed(3)])
    middle = torch.tensor([16.0, 11.0]) - 16
    matrix, offset = system.maps()
    places = ((matrix * middle).sum(-1) + offset)[0] + 16  # (2, 2)
    ordered = places[places[:, 0].argsort()]
    torch.testing.assert_close(ordered, torch.tensor([[6.0, 6.0], [26.0, 16.0]]), rtol=0, atol=0.1)
    assert torch.linalg.matrix_norm(matrix, 2).max() < 0.8  # the maps are small


def test_the_start_depends_on_the_target_and_the_seed() -> None:
    offsets = [
        fractalops.fit(image, tiny(steps=0, seed=seed)).system.offset for image in (disc(), bar()) for seed in (0, 1)
    ]
    assert not any(torch.equal(offsets[0], other) for other in offsets[1:])


def starts(images: Tensor, config: FitConfig, seeds: range) -> dict[str, Tensor]:
    return first_parameters(images, config, [torch.Generator().manual_seed(seed) for seed in seeds])


STARTS = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"singular_values": "clamp"},
        {"parametrization": "matrix"},
        {"initialization": "random"},
        {"initialization": "random", "parametrization": "matrix"},
        {"maps": 300},
        {"maps": 3000},
        {"color": True},
    ],
    ids=str,
)


@STARTS
def test_a_start_does_not_depend_on_its_neighbors(changes: dict[str, Any]) -> None:
    config = FitConfig(**({"maps": 7} | changes)).resolve((9, 16))
    images = torch.rand(5, *([3] if config.color else []), 9, 16, generator=torch.Generator().manual_seed(0))
    images[1] = 0
    together = starts(images, config, range(5))
    for place in range(5):
        alone = starts(images[place : place + 1], config, range(place, place + 1))
        for name, tensor in together.items():
            assert torch.equal(tensor[place : place + 1], alone[name])


@STARTS
def test_a_start_is_that_of_the_reference(changes: dict[str, Any]) -> None:
    config = FitConfig(**changes).resolve((16, 16))
    images = images_of(config)
    actual = starts(images, config, range(3))
    with use_backend("reference"):
        expected = starts(images, config, range(3))
    for name, tensor in expected.items():
        assert_matches(actual[name], tensor)
