"""Tests of views of points in space: projections by hand, brightness by depth, gradients, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops.rendering import Frame, frame_of, in_space
from tests.support.cases import seeded
from tests.support.tolerances import assert_matches, assert_same_bits

AXES = torch.eye(3, dtype=torch.float64)  # a point at the end of each axis


def cloud(points: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(points, 3, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "plane", "depth"),
    [
        # From the end of the first axis: the second points right, and the third up (rows grow downward).
        (0, 0, [[0, 0], [0, 1], [-1, 0]], [-1, 0, 0]),
        # From the end of the second axis: the first points left.
        (90, 0, [[0, -1], [0, 0], [-1, 0]], [0, -1, 0]),
        (180, 0, [[0, 0], [0, -1], [-1, 0]], [1, 0, 0]),
        # From above: the first axis points down.
        (0, 90, [[1, 0], [0, 1], [0, 0]], [0, 0, -1]),
        (0, -90, [[-1, 0], [0, 1], [0, 0]], [0, 0, 1]),
        (0, 30, [[0.5, 0], [0, 1], [-math.sqrt(3) / 2, 0]], [-math.sqrt(3) / 2, 0, -0.5]),
    ],
)
def test_axes_seen_from_known_directions(
    azimuth: float, elevation: float, plane: list[list[float]], depth: list[float]
) -> None:
    seen = fractalops.project(AXES, azimuth, elevation)
    torch.testing.assert_close(seen.plane, torch.tensor(plane, dtype=torch.float64))
    torch.testing.assert_close(seen.depth, torch.tensor(depth, dtype=torch.float64))


@pytest.mark.parametrize("azimuth", [-400.0, 17.0, 123.0])
@pytest.mark.parametrize("elevation", [-75.0, 12.0, 200.0])
def test_lengths_and_handedness_are_kept(azimuth: float, elevation: float) -> None:
    seen = fractalops.project(AXES, azimuth, elevation)
    turned = torch.cat((seen.plane, seen.depth[:, None]), 1)  # (3, 3)
    torch.testing.assert_close(turned @ turned.t(), AXES)
    # Right, down and away from the viewer form a right-handed system, like the axes: nothing is mirrored.
    assert torch.linalg.det(turned[:, [1, 0, 2]]).item() == pytest.approx(1)


def test_leading_shapes_and_the_plane() -> None:
    points = cloud(24).view(2, 3, 4, 3)
    seen = fractalops.project(points, 10, 20)
    assert seen.plane.shape == (2, 3, 4, 2)
    assert seen.depth.shape == (2, 3, 4)
    flat = cloud(5)[:, :2]
    seen = fractalops.project(flat, 0, 0)
    torch.testing.assert_close(seen.plane, torch.stack((-flat[:, 1], flat[:, 0]), 1))
    assert in_space(flat).shape == (5, 3)
    assert (seen.depth == 0).all()


def test_gradients_of_points_and_angles() -> None:
    points = cloud(5).requires_grad_()
    azimuth, elevation = (torch.tensor(angle, dtype=torch.float64, requires_grad=True) for angle in (25.0, -40.0))
    assert torch.autograd.gradcheck(fractalops.project, (points, azimuth, elevation))


def test_a_picture_is_the_bumps_of_the_projected_points_the_nearer_the_brighter() -> None:
    points = cloud()[None]
    frame = Frame(points.new_tensor([0.1, -0.2, 0.3]), points.new_tensor(2.5))
    image = fractalops.render_points(
        points, (20, 31), azimuth=33, elevation=-12, frame=frame, fade=0.5, bandwidth=2.0, clamp=False
    )
    plane, depth = fractalops.project((points - frame.center) / frame.radius, 33, -12)
    expected = fractalops.rbf_rasterize(
        plane * 9.5 + plane.new_tensor([9.5, 15]), (20, 31), bandwidth=2.0, weight=0.75 - depth.clamp(-1, 1) / 4
    )
    assert_matches(image, expected)
    clamped = fractalops.render_points(points, (20, 31), azimuth=33, elevation=-12, frame=frame, fade=0.5, bandwidth=2)
    assert_same_bits(clamped, image.clamp(0, 1))


def test_brightness_in_front_and_at_the_back() -> None:
    ends = torch.tensor([[[1.0, 0, 0]], [[-1.0, 0, 0]], [[-9.0, 0, 0]]])  # nearest, farthest, beyond the frame
    frame = Frame(torch.zeros(3), torch.tensor(1.0))
    images = fractalops.render_points(ends, 9, frame=frame, fade=0.75)
    torch.testing.assert_close(images[:, 4, 4], torch.tensor([1, 0.25, 0.25]))


def test_the_frame_holds_all_finite_points() -> None:
    points = cloud(50)
    broken = torch.cat((points, torch.tensor([[math.nan, 0, 0], [0, math.inf, 0]], dtype=torch.float64)))
    center, radius = frame_of(broken)
    assert ((points - center).norm(dim=1) <= radius * (1 + 1e-12)).all()
    assert_same_bits(center, frame_of(points).center)
    for odd in (broken[50:], points[:1], points[:1].expand(7, 3)):  # no finite point, one, one repeated
        center, radius = frame_of(odd)
        assert radius == 1
        assert fractalops.render_points(odd[None], 8).isfinite().all()


def test_a_system_is_learned_from_pictures_of_it() -> None:
    """Gradients flow from views through the projection and the chain to maps in space."""
    generator = seeded(0)
    matrix = 0.5 * torch.eye(3).repeat(4, 1, 1)
    offset = torch.tensor([[0.5, 0, -0.3], [-0.5, 0, -0.3], [0, 0.5, -0.3], [0, 0, 0.6]])
    index = torch.randint(4, (1, 400), generator=generator)
    frame = Frame(torch.zeros(3), torch.tensor(1.5))

    def views(maps: Tensor, moves: Tensor) -> Tensor:
        points = fractalops.affine_chain(maps, moves, index, torch.zeros(3))
        return torch.cat(
            [
                fractalops.render_points(points, 24, azimuth=azimuth, elevation=20, frame=frame, bandwidth=4.0)
                for azimuth in (0, 60, 120)
            ]
        )

    target = views(matrix, offset)
    learned = [(matrix + 0.05 * torch.randn(4, 3, 3, generator=generator)).requires_grad_(), (0.8 * offset).clone()]
    learned[1].requires_grad_()
    optimizer = torch.optim.Adam(learned, lr=0.01)
    losses = []
    for _ in range(60):
        loss = (views(*learned) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None and (parameter.grad != 0).all() for parameter in learned)
    assert losses[-1] < 0.1 * losses[0]


ARGUMENTS: dict[str, dict[str, Any]] = {
    "project": {"points": torch.ones(5, 3), "azimuth": 0.0, "elevation": 0.0},
    "render_points": {"points": torch.ones(1, 5, 3), "size": 8},
}


@pytest.mark.parametrize(
    ("function", "changes", "error", "message"),
    [
        ("project", {"points": [1.0]}, TypeError, "points must be a tensor, got list"),
        ("project", {"points": torch.ones(3, 3, dtype=torch.int64)}, TypeError, "points must be floating-point"),
        ("project", {"points": torch.ones(3, 4)}, ValueError, r"points must have shape .*, got \(3, 4\)"),
        ("project", {"points": torch.tensor(1.0)}, ValueError, r"points must have shape .*, got \(\)"),
        ("project", {"azimuth": math.nan}, ValueError, "azimuth must be a finite number, got nan"),
        ("project", {"elevation": "up"}, TypeError, "elevation must be a number, got str"),
        ("project", {"azimuth": torch.zeros(2)}, ValueError, r"azimuth must have shape \(\), got \(2,\)"),
        ("project", {"azimuth": torch.zeros(()).double()}, TypeError, "azimuth must have the dtype of points"),
        ("render_points", {"points": torch.ones(5, 3)}, ValueError, r"points must have shape \(B, T, 3\)"),
        ("render_points", {"points": torch.ones(1, 0, 3)}, ValueError, "points must have shape"),
        ("render_points", {"size": 0}, ValueError, "size must lie in"),
        ("render_points", {"fade": 1.5}, ValueError, r"fade must lie in \[0, 1\], got 1.5"),
        ("render_points", {"bandwidth": 0.0}, ValueError, "bandwidth must be finite and above 0"),
    ],
)
def test_errors_name_the_argument(function: str, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{function}: {message}"):
        getattr(fractalops, function)(**ARGUMENTS[function] | changes)
