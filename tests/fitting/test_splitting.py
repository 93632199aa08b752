"""Tests of `split_maps`: which maps are split and given up, what the halves draw, and that nothing else changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import IFS, FitConfig
from fractalops.fitting import learning
from fractalops.fitting.optimizers import Optimizer, make_optimizer
from fractalops.fitting.splitting import _choose, split_maps
from fractalops.systems import svd_parameters
from tests.support.cases import seeded
from tests.support.learning import colored, targets, tiny

SIZE = (32, 32)
VIEWPORT = (-1.0, -1.0, 1.0, 1.0)
# Maps of a square that fills the viewport: its quarters, and a tiny map in the last quarter, with its color.
CENTERS = [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, 0.5]]
SCALES = [0.5, 0.5, 0.5, 0.5, 0.05]
COLORS = [[0.2, 0.9, 0.5], [0.4, 0.1, 0.5], [0.7, 0.5, 0.1], [0.9, 0.3, 0.8], [0.9, 0.3, 0.8]]


def square(maps: int = 5, **options: Any) -> IFS:
    """Return the system of the first `maps` of these maps, with probabilities proportional to their areas."""
    settings: dict[str, Any] = {"channels": 3, "viewport": VIEWPORT, "blend": "mean", "probabilities": "learned"}
    system = IFS(1, maps, **(settings | options), generator=seeded(0))
    matrix = torch.tensor(SCALES[:maps])[:, None, None] * torch.eye(2)  # (N, 2, 2)
    with torch.no_grad():
        if system.parametrization == "svd":
            system.svd[0] = svd_parameters(matrix, system.singular_values)
        else:
            system.matrix[0] = matrix
        system.offset[0] = torch.tensor(CENTERS[:maps])
        if system.color is not None:
            system.color[0] = torch.tensor(COLORS[:maps])[:, : system.channels].logit()
        if system.logit is not None:
            system.logit[0] = torch.tensor(SCALES[:maps]).square().log()
    return system


def drawn(system: IFS, points: int = 100_000) -> Tensor:
    """Return the images (S, ...) of new points."""
    with torch.no_grad():
        images: Tensor = system(SIZE, sequences=1, points=points, generator=seeded(9))[:, 0]
    return images


def striped(image: Tensor) -> Tensor:
    """Return an image (S, C, H, W) with stripes in its first quarter and the same mean."""
    target = image.clone()
    stripes = torch.where(torch.arange(16) % 4 < 2, 0.1, -0.1)
    target[..., :16, :16] += stripes
    return target.clamp(0, 1)


def optimizer_of(system: IFS) -> Optimizer:
    optimizer = make_optimizer(list(system.parameters()), FitConfig())
    for tensors in optimizer.state.values():
        for tensor in tensors:
            tensor.copy_(torch.rand(tensor.shape, generator=seeded(1)))
    return optimizer


def split(system: IFS, target: Tensor, optimizer: Optimizer | None = None, points: int = 20_000) -> int:
    optimizer = optimizer_of(system) if optimizer is None else optimizer
    return split_maps(system, target, points, [seeded(number) for number in range(len(target))], optimizer)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parametrization": "matrix"},
        {"singular_values": "clamp"},
        {"probabilities": "determinant"},
        {"channels": 1},
    ],
    ids=str,
)
def test_two_halves_draw_what_the_map_drew(options: dict[str, Any]) -> None:
    system = square(**options)
    before = drawn(system)
    kept = {name: tensor.clone() for name, tensor in system.state_dict().items()}
    target = before.reshape(1, -1, *SIZE)
    assert split(system, striped(target)) == 1
    assert system.maps_per_system == 5
    changed = (system.offset != kept["offset"]).any(-1)[0]
    assert changed.tolist() == [True, False, False, False, True]  # the striped quarter, and the tiny map
    assert (drawn(system) - before).square().mean() < 1e-3
    with torch.no_grad():
        matrix, offset = (tensor.detach() for tensor in system.maps())
    for number in (0, 4):  # halves of the first quarter
        lengths = torch.linalg.vector_norm(matrix[0, number], dim=0)
        assert sorted(lengths.tolist()) == pytest.approx([0.25, 0.5], abs=1e-5)
    center = offset[0, [0, 4]].mean(0)
    torch.testing.assert_close(center, torch.tensor([-0.5, -0.5]), rtol=0, atol=1e-5)
    assert (offset[0, 0] - offset[0, 4]).norm().item() == pytest.approx(0.5, abs=1e-5)
    if system.color is not None:
        torch.testing.assert_close(system.color[0, 4], kept["color"][0, 0])
    if system.logit is not None:
        torch.testing.assert_close(system.logit[0, [0, 4]], kept["logit"][0, [0, 0]] - math.log(2))
    for name, tensor in system.state_dict().items():
        assert torch.equal(tensor[0, 1:4], kept[name][0, 1:4])


@pytest.mark.parametrize("viewport", [(0.0, 2.0, 4.0, 6.0), (-1.0, -1.0, 1.0, 3.0)])
def test_the_box_whose_image_is_cut_is_the_viewport(viewport: Any) -> None:
    """The same square is drawn elsewhere in the plane, or larger along one axis."""
    low, high = torch.tensor(viewport[:2]), torch.tensor(viewport[2:])
    system = square(viewport=viewport)
    with torch.no_grad():
        matrix, offset = system.maps()
        scale, shift = (high - low) / 2, (high + low) / 2
        system.offset.copy_(scale * offset + shift - (matrix * shift).sum(-1))
    before = drawn(system)
    assert (before - drawn(square())).square().mean() < 1e-3
    assert split(system, striped(before)) == 1
    assert (drawn(system) - before).square().mean() < 1e-3


def test_a_map_is_cut_across_its_longer_side() -> None:
    system = square()
    with torch.no_grad():
        halves = torch.tensor([[1.0, 0.5], [1.0, 0.5]])[:, :, None] * torch.eye(2)  # upright, side by side
        system.svd[0, :2] = svd_parameters(halves, "sigmoid")
        system.offset[0, :2] = torch.tensor([[0.0, -0.5], [0.0, 0.5]])
        system.offset[0, 2:4] = 9.0  # outside the image
    target = torch.zeros(1, 3, *SIZE)
    target[..., :16] = 1  # the area of the first map, which therefore has the largest error
    assert split(system, target) == 1
    with torch.no_grad():
        matrix = system.maps()[0][0, 0]
    assert torch.linalg.vector_norm(matrix, dim=0).tolist() == pytest.approx([0.5, 0.5], abs=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_split_where_there_is_nothing_to_gain(channels: int) -> None:
    """The target is what the system draws, so that errors are only noise, and each quarter is needed."""
    system = square(4, channels=channels)
    target = drawn(system).reshape(1, -1, *SIZE)
    kept = {name: tensor.clone() for name, tensor in system.state_dict().items()}
    optimizer = optimizer_of(system)
    state = [tensor.clone() for tensors in optimizer.state.values() for tensor in tensors]
    assert split(system, target, optimizer) == 0
    assert all(torch.equal(tensor, kept[name]) for name, tensor in system.state_dict().items())
    now = [tensor for tensors in optimizer.state.values() for tensor in tensors]
    assert all(torch.equal(one, other) for one, other in zip(state, now, strict=True))


@pytest.mark.parametrize("needed", [True, False])
def test_a_map_that_is_needed_is_not_given_up(needed: bool) -> None:
    """A small map with its own color is kept. Without that color it is given up."""
    system = square()
    with torch.no_grad():
        assert system.color is not None
        assert system.logit is not None
        system.svd[0, 4] = svd_parameters(0.3 * torch.eye(2))
        if needed:
            system.color[0, 4] = torch.tensor([0.05, 0.95, 0.05]).logit()
            system.logit[0, 4] = math.log(2.0)  # it gets most of the points, so that nothing else is visible there
    target = drawn(system)
    target[..., :16, :16] += torch.where(torch.arange(16) % 4 < 2, 0.1, -0.1)
    place = system.offset[0, 4].clone()
    split(system, target.clamp(0, 1))
    assert torch.equal(system.offset[0, 4], place) == needed


@pytest.mark.parametrize("maps", [1, 2, 3])
def test_few_maps(maps: int) -> None:
    system = square(maps)
    count = split(system, torch.rand(1, 3, *SIZE, generator=seeded(2)))
    assert count <= maps // 2
    assert all(tensor.isfinite().all() for tensor in system.state_dict().values())


@pytest.mark.parametrize(
    ("error", "use", "expected"),
    [
        ([4.0], [1.0], []),
        ([4.0, 1.0], [9.0, 1.9], [(0, 1)]),
        ([4.0, 1.0], [9.0, 2.1], []),
        ([4.0, 3.0, 1.0], [0.0, 1.0, 0.5], [(0, 2)]),
        ([4.0, 3.0, 1.0], [0.0, 0.1, 0.5], [(0, 1)]),  # 0 has the least use, but it is the map to be split
        ([0.0, 0.0], [0.0, 0.0], []),
    ],
)
def test_which_maps_are_chosen(error: list[float], use: list[float], expected: list[tuple[int, int]]) -> None:
    chosen = _choose(torch.tensor(error), torch.tensor(use))
    assert list(zip(*(each.tolist() for each in chosen), strict=True)) == expected


def test_a_twentieth_of_the_maps_is_chosen_at_most() -> None:
    split_, given_up = _choose(torch.arange(100.0), torch.zeros(100))
    assert split_.tolist() == [99, 98, 97, 96, 95]
    assert len(set(given_up.tolist()) - set(split_.tolist())) == 5


def test_systems_are_split_by_themselves() -> None:
    one, other = square(), square()
    system = IFS(2, 5, channels=3, viewport=VIEWPORT, blend="mean", probabilities="learned", generator=seeded(0))
    state = {name: torch.cat((tensor, other.state_dict()[name])) for name, tensor in one.state_dict().items()}
    system.load_state_dict(state)
    image = drawn(one)
    striped_second = torch.cat((image, striped(image)))
    assert split(system, striped_second) >= 1
    alone = square()
    optimizer = optimizer_of(alone)
    split_maps(alone, striped(image), 20_000, [seeded(1)], optimizer)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(system.state_dict()[name][1:], tensor)


# The optimizer


def test_the_optimizer_forgets_the_maps_and_nothing_else() -> None:
    parameters = [torch.rand(2, 4, 6), torch.rand(2, 4, 2)]
    optimizer = make_optimizer(parameters, FitConfig())
    for name in ("mean", "square"):
        optimizer.state[name][0].copy_(torch.rand(optimizer.state[name][0].shape, generator=seeded(3)))
    before = {name: optimizer.state[name][0].clone() for name in ("mean", "square")}
    optimizer.forget(1, torch.tensor([0, 3]))
    for name, (rows,) in ((name, optimizer.state[name]) for name in before):
        assert torch.equal(rows[0], before[name][0])
        begin = 0
        for width in (6, 2):
            own, old = (each[1, begin : begin + 4 * width].view(4, width) for each in (rows, before[name]))
            assert torch.equal(own[1:3], old[1:3])
            expected = old.mean(0) if name == "square" else torch.zeros(width)
            torch.testing.assert_close(own[[0, 3]], expected.expand(2, -1))
            begin += 4 * width
        assert torch.equal(rows[1, begin:], before[name][1, begin:])


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0}], ids=str)
def test_a_rate_of_one_half_moves_half_as_far(changes: dict[str, Any]) -> None:
    """This is true for each step: the optimizer's state depends on the gradients, but not on the rate."""
    config = FitConfig(**changes)
    start = [torch.randn(shape, generator=seeded(4)) for shape in ((2, 3, 6), (2, 3, 2))]
    whole, half = ([tensor.clone().requires_grad_() for tensor in start] for _ in range(2))
    steps = make_optimizer(whole, config), make_optimizer(half, config, [1.0, 0.5])
    for number in range(5):
        before = [[tensor.detach().clone() for tensor in each] for each in (whole, half)]
        for one, other in zip(whole, half, strict=True):
            one.grad = torch.randn(one.shape, generator=seeded(10 + number))
            other.grad = one.grad.clone()
        for step in steps:
            step(0.1)
        moved = [
            [now.detach() - then for now, then in zip(each, old, strict=True)]
            for each, old in zip((whole, half), before, strict=True)
        ]
        torch.testing.assert_close(moved[1][0], moved[0][0], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(moved[1][1], moved[0][1] / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("blend", ["add", "mean"])
def test_the_offsets_have_a_rate_of_their_own(blend: Any, optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "check_native", lambda *_: "for comparison")
    settings = {"blend": blend, "optimizer": optimizer}
    first = fractalops.fit(targets(), tiny(**settings, steps=0)).system
    whole, half = (fractalops.fit(targets(), tiny(**settings, steps=1, offset_rate=rate)).system for rate in (1, 0.5))
    assert (whole.offset - first.offset).abs().max() > 1e-3
    torch.testing.assert_close(half.offset - first.offset, (whole.offset - first.offset) / 2, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(half.svd, whole.svd)


@pytest.mark.parametrize("changes", [{}, {"color": True}, {"parametrization": "matrix"}], ids=str)
def test_fit_splits_at_the_steps_that_the_configuration_says(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also shows that the cases of test_interruptions.py split maps."""
    counts: list[int] = []

    def spy(*arguments: Any) -> int:
        counts.append(split_maps(*arguments))
        return counts[-1]

    monkeypatch.setattr(learning, "split_maps", spy)
    images = colored() if changes.get("color") else targets()
    config = tiny(blend="mean", split_every=2, initialization="tiles", **changes)
    result = fractalops.fit(images, config)
    assert len(counts) == 3  # after steps 1, 3 and 5 of 10
    assert sum(counts) > 0
    assert result.losses.isfinite().all()
