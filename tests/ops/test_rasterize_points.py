"""Tests of `fractalops.rasterize_points` alone, on every backend. Others: test_every_op.py, test_op_errors.py."""

from __future__ import annotations

import math

import pytest
import torch

import fractalops
from tests.support.case_tables import COUNT
from tests.support.tolerances import TOLERANCES, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def test_binary_is_the_default_and_x_runs_along_rows(backend: str) -> None:
    image = fractalops.rasterize_points(torch.tensor([[[2.0, 5.0], [2.0, 5.0]]]), (4, 7), backend=backend)
    assert image.nonzero().tolist() == [[0, 2, 5]]
    assert image.sum() == 1


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_ties_go_to_the_even_pixel(dtype: torch.dtype, backend: str) -> None:
    x = torch.tensor([-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, -0.75, 4.75], dtype=dtype)  # 4.75 and -0.75 are outside the image
    points = torch.stack([x, torch.zeros_like(x)], dim=-1)[None]
    image = fractalops.rasterize_points(points, (5, 1), mode="density", backend=backend)
    assert image.flatten().tolist() == [2, 0, 2, 0, 2]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_far_end_of_the_largest_image(dtype: torch.dtype, backend: str) -> None:
    side = 2**22 - 1
    x = torch.tensor([side - 1.25, side - 1.5, side - 0.5, side + 6, side + 7, 2.0**23, 2.0**24], dtype=dtype)
    points = torch.stack([x, torch.zeros_like(x)], dim=-1)[None]
    patch = torch.zeros(15, 1, dtype=torch.bool)
    patch[0] = True
    image = fractalops.rasterize_points(points, (side, 1), mode="density", backend=backend)
    assert image.nonzero()[:, 1].tolist() == [side - 1]
    assert image.sum() == 3  # 4194301.5 and 4194302.5 are ties: both go to 4194302
    image = fractalops.rasterize_points(points, (side, 1), mode="density", patch=patch, backend=backend)
    assert image.nonzero()[:, 1].tolist() == [side - 8, side - 1]
    assert image.sum() == 4


BAD = [math.nan, math.inf, -math.inf, 1e30, -1e30, 2.0**31, -(2.0**32), 2.0**63, 2.0**23, -(2.0**22), 4e6, -12.0, 21.0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("sides", [None, (15, 15)], ids=["points", "patches"])
def test_a_point_that_reaches_no_pixel_adds_nothing(
    sides: tuple[int, int] | None, dtype: torch.dtype, bad: float, backend: str
) -> None:
    for position in ((bad, 3.0), (3.0, bad), (bad, bad), (-bad, bad)):
        points = torch.tensor([[position, (2.0, 2.0)]], dtype=dtype)
        patch = None if sides is None else torch.ones(sides, dtype=torch.bool)
        image = fractalops.rasterize_points(points, 9, mode="density", patch=patch, backend=backend)
        assert_same_bits(image, fractalops.rasterize_points(points[:, 1:], 9, mode="density", patch=patch))


# Patches


def test_a_patch_is_drawn_as_it_is(backend: str) -> None:
    patch = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 255]], dtype=torch.uint8)
    points = torch.tensor([[[2.0, 2.0], [-1.0, -1.0], [5.0, 3.0], [6.0, 0.0]]])
    image = fractalops.rasterize_points(points, (5, 4), patch=patch, backend=backend)
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.uint8)
    assert_same_bits(image[0], expected)


@pytest.mark.parametrize("sides", [(1, 1), (3, 3)], ids=str)
def test_an_empty_patch_stamps_nothing(sides: tuple[int, int], backend: str) -> None:
    points, _ = COUNT.inputs()
    patch = torch.ones(4, *sides, dtype=torch.bool)
    patch[1] = False
    image = fractalops.rasterize_points(points, (9, 6), mode="density", patch=patch, backend=backend)
    assert image.flatten(1).any(1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)], ids=["default", "given"])
def test_random_patches_are_never_empty_and_take_every_form(generator: torch.Generator | None) -> None:
    torch.manual_seed(0)
    patches = fractalops.random_patches(20_000, 3, generator)
    assert patches.shape == (20_000, 3, 3)
    assert patches.dtype == torch.bool
    number = (patches.flatten(1) * 2 ** torch.arange(9)).sum(1)
    counts = number.bincount(minlength=512)
    assert counts[0] == 0
    assert counts[1:].min() > 10  # each of the 511 is expected 39 times
    assert fractalops.random_patches(50, 1).all()
    assert fractalops.random_patches(0).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, (-1, 3)),
        (ValueError, (2, 0)),
        (ValueError, (2, 4)),
        (ValueError, (2, 17)),
        (TypeError, (2.0, 3)),
        (TypeError, (2, "3")),
    ],
)
def test_random_patches_names_the_argument(error: type[Exception], arguments: tuple[int, int]) -> None:
    with pytest.raises(error, match=r"^random_patches: (count|size) must .+, got .+"):
        fractalops.random_patches(*arguments)


def test_there_are_no_gradients(backend: str) -> None:
    points, patch = COUNT.inputs()
    image = fractalops.rasterize_points(points.requires_grad_(), COUNT.size, patch=patch, backend=backend)
    assert not image.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_reference_takes_half_precision(dtype: torch.dtype) -> None:
    points = torch.tensor([[[2.0, 256.0], [0.5, 1.5]]], dtype=dtype)
    image = fractalops.rasterize_points(points, (3, 257), backend="reference")
    assert image.nonzero().tolist() == [[0, 0, 2], [0, 2, 256]]


@pytest.mark.parametrize(
    ("message", "points", "patch", "size"),
    [
        (r"points must have shape \(B, T, 2\), got \(1, 5, 3\)", (1, 5, 3), (1, 1, 1), (9, 9)),
        (r"patch must have shape \(1, H, W\), got \(2, 1, 1\)", (1, 5, 2), (2, 1, 1), (9, 9)),
        ("patch must have odd sides up to 15, got 2", (1, 5, 2), (1, 3, 2), (9, 9)),
        ("patch must have odd sides up to 15, got 17", (1, 5, 2), (1, 17, 1), (9, 9)),
        (r"size must lie in \[1, 2\^22\), got 0", (1, 5, 2), (1, 1, 1), (9, 0)),
        (r"size must lie in \[1, 2\^22\), got 4194304", (0, 5, 2), (0, 1, 1), (2**22, 9)),
        (r"points must be at most 2\^31 - 1 per image, got 2147483648", (0, 2**31, 2), (0, 1, 1), (9, 9)),
    ],
)
def test_the_raw_op_checks_what_it_relies_on(
    message: str, points: tuple[int, ...], patch: tuple[int, ...], size: tuple[int, int], native: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.rasterize_points(torch.zeros(points), torch.ones(patch, dtype=torch.uint8), *size, True)
