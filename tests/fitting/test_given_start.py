"""Tests of learning that starts from given systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.fitting import FitConfig, FitResult, fit
from fractalops.ifs import IFS
from fractalops.systems import System
from tests.support.cases import seeded
from tests.test_given_systems import COLOR, HALF, MATRIX, OFFSET, PROBABILITIES, turn


def fern(color: bool = False, **settings: Any) -> IFS:
    return IFS.from_maps(MATRIX, OFFSET, PROBABILITIES, COLOR if color else None, **settings)


def config(**changes: Any) -> FitConfig:
    return FitConfig(**({"points": 100, "sequences": 2, "steps": 0, "evaluation_sequences": 2} | changes))


def target(channels: int | None = None) -> Tensor:
    shape = (9, 14) if channels is None else (channels, 9, 14)
    return torch.rand(shape, generator=seeded(0))


@pytest.mark.parametrize("parametrization", ["svd", "matrix"])
@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
def test_the_start_is_the_given_system(parametrization: Any, singular_values: Any) -> None:
    settings = config(parametrization=parametrization, singular_values=singular_values, viewport="fit")
    result = fit(target(), settings, start=fern())
    assert result.config.maps == 4
    learned = result.system.system()
    given = fern().system()
    # The stem's second singular value is 0, which the sigmoid does not reach.
    exact = parametrization == "matrix" or singular_values == "clamp"
    torch.testing.assert_close(learned.matrix.double(), given.matrix, rtol=0, atol=1e-6 if exact else 1.01e-3)
    torch.testing.assert_close(learned.offset.double(), given.offset, rtol=0, atol=1e-6)
    torch.testing.assert_close(learned.probabilities.double(), given.probabilities, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("viewport", "height", "width"),
    [("fit", 32, 32), ("fit", 9, 14), ("stretch", 32, 32), ("stretch", 9, 14), ("stretch", 1, 8)],
)
def test_a_system_with_its_own_bounding_box_is_moved_into_the_viewport(viewport: Any, height: int, width: int) -> None:
    """The system is a triangle with the bounding box (0, 0, 1, 2)."""
    given = IFS.from_maps(
        torch.eye(2).repeat(3, 1, 1) / 2, torch.tensor([[0.0, 0], [0.5, 0], [0, 1]]), viewport=viewport
    )
    settings = config(viewport=(-2.0, -1.0, 4.0, 3.0), parametrization="matrix")
    result = fit(torch.rand(height, width, generator=seeded(0)), settings, start=given).system
    points = result.points(result.sample(1, 100_000, generator=seeded(0))).flatten(0, 2)
    size = torch.tensor([6.0, 4.0])  # of the box
    if viewport == "fit":
        pixels = min((height - 1) / 1, (width - 1) / 2)  # per unit
        size = torch.tensor([pixels / (height - 1) * 6, pixels * 2 / (width - 1) * 4])
    middle, axes = torch.tensor([1.0, 1.0]), slice(0 if height > 1 else 1, 2)  # a side of one pixel determines nothing
    torch.testing.assert_close(points.amin(0)[axes], (middle - size / 2)[axes], rtol=0, atol=0.02)
    torch.testing.assert_close(points.amax(0)[axes], (middle + size / 2)[axes], rtol=0, atol=0.02)
    assert points.isfinite().all()


def test_the_start_shows_what_the_given_system_shows() -> None:
    given = fern()
    index = given.sample(1, 4000, generator=seeded(0))
    image = given((24, 16), index=index)[0, 0].detach().float()
    learned = fit(image, config(parametrization="matrix"), start=given).system
    shown = learned((24, 16), index=index)[0, 0].detach()
    # With another sample of points, the box differs by a fraction of a pixel.
    torch.testing.assert_close(shown, image, rtol=0, atol=0.25)
    assert float((shown - image).abs().mean()) < 0.02


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("with_colors", [False, True])
def test_colors_of_the_start(channels: int | None, with_colors: bool) -> None:
    settings = config(color=channels == 3, blend="add" if channels is None else "mean")
    color = torch.tensor(COLOR[:, : channels or 3]) if with_colors else None
    given = IFS.from_maps(MATRIX, OFFSET, PROBABILITIES, color)
    picture = target(3 if channels == 3 else None)
    if channels is None and with_colors:
        with pytest.raises(
            ValueError, match="fit: start must have no colors, because config learns none, got 3 channels"
        ):
            fit(picture, settings, start=given)
        return
    learned = fit(picture, settings, start=given).system.colors()
    assert (learned is None) == (channels is None)
    if learned is None:
        return
    if color is not None:
        torch.testing.assert_close(learned[0].double(), color.clamp(0.02, 0.98), rtol=0, atol=1e-6)
    elif channels == 3:  # the mean color
        assert (learned[0] == learned[0, 0]).all()
    else:
        assert bool((learned == 0.5).all())


def test_learning_goes_on_and_is_saved(tmp_path: Path) -> None:
    picture = fern()(16, points=2000, generator=seeded(0))[0, 0].detach().float()
    first = fit(picture, config(sequences=5, points=200), start=fern())
    result = fit(picture, config(steps=60, sequences=5, points=200), start=fern())
    assert float(result.minimum_mse) < float(first.minimum_mse)
    result.save(tmp_path / "fern.safetensors")
    loaded = FitResult.load(tmp_path / "fern.safetensors")
    assert loaded.config.maps == 4
    for name, tensor in result.system.state_dict().items():
        assert torch.equal(loaded.system.state_dict()[name], tensor)


def test_several_systems_of_different_numbers_of_maps() -> None:
    several = IFS.from_systems([fern().system(), System(HALF[None], torch.ones(1, 2).double(), torch.ones(1))])
    result = fit(torch.stack((target(), target())), config(steps=2), start=several)
    assert result.config.maps == 4
    assert result.system.svd.isfinite().all()
    assert result.system.logit is not None
    assert result.system.logit.isfinite().all()


@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        (fern(), {"maps": 5}, "one system of 5 maps for each of 1 targets, got 1 systems of 4 maps"),
        (
            IFS.from_systems([fern().system()] * 2),
            {},
            "one system of 4 maps for each of 1 targets, got 2 systems of 4 maps",
        ),
        (
            IFS.from_maps(torch.stack((HALF, turn(30))), OFFSET[:2] + 1, viewport=(-1, -1, 1, 1)),
            {},
            "maps with a norm below 1 if config.parametrization is 'svd', got 1 for map 1 of system 0; 'matrix' allows",
        ),
        (
            IFS.from_maps(1.25 * HALF[None] * 2, OFFSET[:1] + 1, viewport=(-1, -1, 1, 1)),
            {"singular_values": "clamp"},
            "maps with a norm of at most 1 if .*, got 1.25 for map 0 of system 0",
        ),
        (
            fern(),
            {"probabilities": "determinant"},
            r"probabilities proportional to \|det A\| if config.probabilities is 'determinant', got \[0.01, 0.85",
        ),
    ],
    ids=["maps", "systems", "isometry", "expanding", "determinant"],
)
def test_a_start_that_cannot_be_converted_is_refused(start: IFS, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^fit: start must have {message}"):
        fit(target(), config(**changes), start=start)


def test_starts_that_only_some_settings_hold() -> None:
    turned = IFS.from_maps(torch.stack((HALF, turn(30))), OFFSET[:2] + 1, viewport=(-1, -1, 1, 1))
    for changes in ({"singular_values": "clamp"}, {"parametrization": "matrix"}):
        learned = fit(target(), config(**changes), start=turned).system.maps()[0][0]
        torch.testing.assert_close(learned.double(), turned.maps()[0][0], rtol=0, atol=1e-6)
    by_determinant = IFS.from_maps(MATRIX, OFFSET)
    result = fit(target(), config(probabilities="determinant"), start=by_determinant).system
    torch.testing.assert_close(result.probabilities()[0].double(), by_determinant.probabilities()[0], rtol=0, atol=2e-3)


@pytest.mark.parametrize("blend", ["add", "mean"])
def test_the_automatic_blend_is_that_of_the_start(blend: str) -> None:
    channels = 1 if blend == "mean" else None
    start = IFS(1, 3, blend=blend, channels=channels, probabilities="learned", generator=seeded(0))
    side = 16 if blend == "mean" else 128  # for which the blend without a start is the other one
    result = fit(torch.rand(side, side), FitConfig(steps=0, points=20), start=start)
    assert result.config.blend == blend
    assert result.system.blend == blend
