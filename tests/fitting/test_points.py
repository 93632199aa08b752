"""Tests of `fit_points`: learning, contractive maps, repeatability, odd clouds, interruptions, files, errors."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import fractalops
from fractalops import InputError, PointConfig, PointFitResult, fit_points
from fractalops.fitting.contractions import LARGEST_SINGULAR_VALUE, contraction, contraction_parameters
from fractalops.fitting.distances import chamfer_distance
from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
from fractalops.io.tensor_files import read_tensors, write_tensors
from tests.support.learning import Interruption
from tests.support.tolerances import assert_same_bits

QUICK = PointConfig(maps=4, steps=150, points=256, evaluation_points=500)
TINY = PointConfig(maps=3, steps=4, points=40)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Shorten the search for a start, and use one thread: clouds this small are slower on more."""
    monkeypatch.setattr("fractalops.fitting.copies._CANDIDATES", 300)
    monkeypatch.setattr("fractalops.fitting.copies._PATCHES", 100)


def sierpinski(points: int = 1200) -> Tensor:
    """Return points (P, 3) of a tetrahedron of tetrahedra, the attractor of four maps."""
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    index = torch.randint(4, (1, points), generator=torch.Generator().manual_seed(0))
    return fractalops.affine_chain(0.5 * torch.eye(3).repeat(4, 1, 1), 0.5 * corners, index, corners[0])[0]


def spiral(points: int = 1200) -> Tensor:
    """Return points (P, 2) of a spiral with some noise, which is not an attractor of few maps."""
    generator = torch.Generator().manual_seed(0)
    turn = 3 * math.pi * torch.rand(points, generator=generator).sqrt()
    line = torch.stack((turn * turn.cos(), turn * turn.sin()), 1)
    return line + 0.1 * torch.randn(points, 2, generator=generator)


def gaussian_chamfer(target: Tensor, points: int) -> float:
    """Return the Chamfer distance, in diameters, of `points` points from the Gaussian with the target's moments."""
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(target.T.cov())
    drawn = target.mean(0) + torch.randn(points, target.shape[1], generator=generator) @ root.T
    return float(chamfer_distance(drawn, target[torch.randperm(len(target), generator=generator)[:points]])) / float(
        (target.amax(0) - target.amin(0)).norm()
    )


def assert_same_result(one: PointFitResult, other: PointFitResult) -> None:
    for name in ("matrix", "offset", "probabilities", "losses"):
        assert_same_bits(getattr(one, name), getattr(other, name))
    for name in ("chamfer", "start_chamfer", "halves_chamfer", "diameter"):
        assert getattr(one, name) == getattr(other, name) or math.isnan(getattr(one, name))


@pytest.mark.parametrize("loss", ["kernel", "chamfer"])
@pytest.mark.parametrize("cloud", [sierpinski(), spiral()], ids=["tetrahedron", "spiral"])
def test_the_learned_points_come_near(cloud: Tensor, loss: str) -> None:
    result = fit_points(cloud, replace(QUICK, loss=loss, maps=4 if cloud.shape[1] == 3 else 16))
    assert result.chamfer < 0.85 * result.start_chamfer
    assert result.chamfer < 0.6 * gaussian_chamfer(cloud, 500)
    assert result.chamfer < 3 * result.halves_chamfer
    assert len(result.losses) == QUICK.steps
    assert result.losses[-20:].mean() < result.losses[:5].mean()


def test_maps_are_contractive_and_probabilities_are_some() -> None:
    for seed in range(3):
        result = fit_points(spiral(200), replace(TINY, learning_rate=3.0, steps=30, seed=seed))  # a much too large rate
        assert torch.linalg.svdvals(result.matrix.double()).max() <= LARGEST_SINGULAR_VALUE * (1 + 1e-6)
        assert result.probabilities.sum().item() == pytest.approx(1, abs=1e-5)
        assert result.probabilities.min() > 0
        assert result.sample(100).isfinite().all()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_contraction_has_parameters(dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = 3 * torch.randn(200, dimensions, dimensions, generator=generator, dtype=torch.float64)
    matrix = contraction(parameters)
    assert torch.linalg.svdvals(matrix).max() < LARGEST_SINGULAR_VALUE
    assert (torch.linalg.det(matrix) > 0).any()
    assert (torch.linalg.det(matrix) < 0).any()
    torch.testing.assert_close(contraction_parameters(matrix), parameters)
    singular = torch.linalg.svdvals(parameters)
    torch.testing.assert_close(
        torch.linalg.svdvals(matrix), LARGEST_SINGULAR_VALUE * singular / (1 + singular**2).sqrt()
    )
    assert (contraction(torch.zeros(2, dimensions, dimensions)) == 0).all()
    assert torch.autograd.gradcheck(contraction, parameters[:4].requires_grad_())
    huge = contraction(1e6 * torch.randn(200, dimensions, dimensions, generator=generator))
    assert torch.linalg.svdvals(huge.double()).max() < 1


def test_a_seed_gives_the_same_bits_and_another_one_others() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fit_points(sierpinski(300), TINY)
    assert_same_bits(torch.get_rng_state(), state)
    with torch.inference_mode():
        assert_same_result(fit_points(sierpinski(300), TINY), first)
    other = fit_points(sierpinski(300), replace(TINY, seed=1))
    assert not torch.equal(other.matrix, first.matrix)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert_same_bits(first.sample(70, generator=generators[0]), first.sample(70, generator=generators[1]))


def test_the_target_may_lie_anywhere_in_any_units() -> None:
    cloud = sierpinski(300)
    first = fit_points(cloud, TINY)
    moved = fit_points(4 * cloud + torch.tensor([64.0, -32.0, 16.0]), TINY)
    torch.testing.assert_close(moved.matrix, first.matrix, rtol=1e-3, atol=1e-3)
    assert moved.diameter == pytest.approx(4 * first.diameter, rel=1e-4)
    assert moved.chamfer == pytest.approx(first.chamfer, rel=1e-2)


EASTING = torch.tensor([388_104.0, 3_949_004.0, 305.0], dtype=torch.float64)


@pytest.mark.parametrize("cloud", [sierpinski(300).double(), spiral(300).double()], ids=["tetrahedron", "spiral"])
def test_projected_coordinates_keep_their_digits(cloud: Tensor, tmp_path: Path) -> None:
    """float32 resolves only a quarter of a meter here. The result equals that of the centered cloud, to about 1e-6."""
    center = EASTING[: cloud.shape[1]]
    near, far = fit_points(cloud, TINY), fit_points(cloud + center, TINY)
    assert far.matrix.dtype == far.offset.dtype == torch.float64
    torch.testing.assert_close(far.matrix, near.matrix, rtol=0, atol=1e-5)
    assert far.diameter == pytest.approx(near.diameter, rel=1e-6)
    far.save(tmp_path / "system.safetensors")
    loaded = PointFitResult.load(tmp_path / "system.safetensors")
    assert_same_result(loaded, far)
    points, moved = (each.sample(500, generator=torch.Generator().manual_seed(0)) for each in (near, loaded))
    torch.testing.assert_close(moved - center, points, rtol=0, atol=1e-4)
    save_point_cloud(moved, tmp_path / "learned.ply")
    assert_same_bits(read_point_cloud(tmp_path / "learned.ply")[:, : cloud.shape[1]], moved)


@pytest.mark.parametrize(
    ("dtype", "learned"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_the_maps_have_the_precision_of_the_target(dtype: torch.dtype, learned: torch.dtype) -> None:
    result = fit_points(sierpinski(100).to(dtype), TINY)
    assert result.matrix.dtype == result.offset.dtype == result.sample(5).dtype == learned
    assert result.probabilities.dtype == result.losses.dtype == torch.float32


@pytest.mark.parametrize("loss", ["kernel", "chamfer"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("points", [3, 4, 63])
def test_odd_clouds(points: int, dimensions: int, loss: str) -> None:
    cloud = torch.randn(points, dimensions, generator=torch.Generator().manual_seed(0))
    assert_learned(cloud, loss)
    assert_learned(torch.cat((cloud[:1].expand(points, dimensions), cloud)), loss)


def test_a_target_that_requires_grad_is_taken_without_a_warning() -> None:
    target = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    config = PointConfig(maps=2, steps=1, points=20)
    expected = fit_points(target, config)
    torch.set_warn_always(True)  # otherwise torch warns only once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = fit_points(target.clone().requires_grad_(), config)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(result.matrix, expected.matrix)


def test_a_plane_in_space_is_learned() -> None:
    cloud = torch.randn(63, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cloud[:, 2] = cloud[:, 0] - 2 * cloud[:, 1]
    for points in (cloud, cloud + EASTING, 1e-20 * cloud, 1e29 * cloud / cloud.abs().max()):
        assert_learned(points, "chamfer")


def assert_learned(cloud: Tensor, loss: str) -> None:
    result = fit_points(cloud, replace(TINY, maps=5, loss=loss))
    for name in ("matrix", "offset", "losses"):
        assert getattr(result, name).isfinite().all()
    assert result.sample(7).shape == (7, cloud.shape[1])
    for name in ("chamfer", "start_chamfer", "halves_chamfer"):
        assert math.isfinite(getattr(result, name))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_degenerate_clouds_are_refused_at_once(
    dimensions: int, center: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractalops.fitting.points._Learning", None)
    generator = torch.Generator().manual_seed(0)
    start, along = 100 * torch.randn(2, dimensions, generator=generator, dtype=torch.float64)  # each (D,)
    line = start + torch.rand(40, 1, generator=generator, dtype=torch.float64) * along  # (P, D)
    for points, got in (
        (line[:1], "one point"),
        (line[:1].expand(40, dimensions), "40 points that coincide"),
        (torch.zeros(9, dimensions), "9 points that coincide"),
        (line[:2], "2 points on a line"),
        (line, "40 points on a line"),
        (line.round(decimals=3), "40 points on a line"),
        (1e6 * line, "40 points on a line"),
        (torch.cat((line[:1].expand(40, dimensions), line[1:2])), "41 points on a line"),
    ):
        with pytest.raises(ValueError, match=rf"^fit_points: target must span a plane or space, got {got}$"):
            fit_points((points + center * EASTING[:dimensions]).to(dtype), PointConfig())


def test_more_maps_than_points_no_steps_and_one_map() -> None:
    assert fit_points(torch.rand(3, 3), replace(TINY, maps=9)).matrix.shape == (9, 3, 3)
    untouched = fit_points(sierpinski(100), replace(TINY, steps=0))
    assert untouched.losses.shape == (0,)
    assert untouched.chamfer == pytest.approx(untouched.start_chamfer, rel=0.2)
    assert fit_points(sierpinski(100), replace(TINY, maps=1, length=1, points=1)).probabilities.tolist() == [1]


def test_an_interruption_gives_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.fitting.points.make_optimizer", Interruption(2).make_optimizer)
    result = fit_points(sierpinski(100), TINY)
    assert result.interrupted
    assert result.losses.shape == (2,)
    assert math.isfinite(result.chamfer)
    distance = f"Chamfer distance {result.chamfer:.4f}"
    assert repr(result) == f"PointFitResult(3 maps in 3 dimensions, 2 steps, {distance}, interrupted)"
    assert len(result) == 1
    assert result[0] is result[-1] is result
    with pytest.raises(IndexError, match=r"^PointFitResult: index must lie in \[-1, 1\), got 1$"):
        result[1]
    result.save(tmp_path / "system.safetensors")
    assert PointFitResult.load(tmp_path / "system.safetensors").interrupted


def test_a_file_gives_the_same_result(tmp_path: Path) -> None:
    result = fit_points(sierpinski(100), TINY)
    result.save(tmp_path / "system.safetensors")
    loaded = PointFitResult.load(tmp_path / "system.safetensors")
    assert_same_result(loaded, result)
    assert loaded.config == TINY
    assert loaded.seconds == result.seconds
    assert os.listdir(tmp_path) == ["system.safetensors"]


def test_files_that_are_not_one(tmp_path: Path) -> None:
    path = tmp_path / "system.safetensors"
    fit_points(sierpinski(100), TINY).save(path)
    tensors, metadata = read_tensors(path, "fractalops.points.1")

    def refused(reason: str) -> None:
        with pytest.raises(InputError, match=rf"^cannot read {path}: .*{reason}") as caught:
            PointFitResult.load(path)
        assert "\n" not in str(caught.value)

    for broken in (
        {"matrix": torch.ones(2, 3, 3)},
        {"offset": torch.ones(3)},
        {"losses": torch.ones(4).double()},
        {"offset": tensors["offset"].double()},
    ):
        write_tensors(path, tensors | broken, metadata)
        refused("it is damaged")
    for damage in ({"config": "{}"}, {"measures": "{}"}, {"interrupted": "{"}):
        write_tensors(path, tensors, metadata | damage)
        refused("it is damaged")
    save_file(tensors, path, metadata)
    refused("it is damaged: it has no checksum")
    save_file({"a": torch.ones(1)}, path)
    refused("its format must be fractalops.points.1, got none")
    path.write_bytes(b"no")
    refused("")
    path.unlink()
    refused("")


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([[0.0, 0, 0]], TypeError, "fit_points: target must be a tensor, got list"),
        (torch.ones(4, 3, dtype=torch.int64), TypeError, "fit_points: target must be floating-point, got torch.int64"),
        (torch.ones(3), ValueError, r"fit_points: target must have shape \(P, 3\) or \(P, 2\) .*, got \(3,\)"),
        (torch.ones(0, 3), ValueError, "fit_points: target must have shape"),
        (torch.ones(4, 4), ValueError, "fit_points: target must have shape"),
        (torch.tensor([[0, math.nan, 0], [0, 0, 0]]), ValueError, "fit_points: target must be finite, got 1 points"),
        (torch.tensor([[0, math.inf], [0, 0]]), ValueError, "fit_points: target must be finite, got 1 points"),
        (
            2e30 * torch.eye(3),
            ValueError,
            r"fit_points: target must have coordinates in \[-1e\+30, 1e\+30\], got 2e\+30",
        ),
    ],
)
def test_targets_that_can_not_be_learned(target: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit_points(target, TINY)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"loss": "emd"}, ValueError, "PointConfig: loss must be one of kernel, chamfer, got 'emd'"),
        ({"maps": 0}, ValueError, "PointConfig: maps must be at least 1, got 0"),
        ({"steps": 1.5}, TypeError, "PointConfig: steps must be an int, got float"),
        ({"learning_rate": math.nan}, ValueError, "PointConfig: learning_rate must be a finite number above 0"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PointConfig(**setting)
    with pytest.raises(TypeError, match="fit_points: config must be a PointConfig, got dict"):
        fit_points(torch.eye(3), setting)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"PointFitResult\.sample: points must be at least 1, got 0"):
        fit_points(torch.eye(3), TINY).sample(0)
