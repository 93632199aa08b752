"""Tests of orbits and masks as in FractalDB's generator: every pixel equals that of its rules in plain Python."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fractalops.data.rules.fractaldb import published_palette, published_uniform
from fractalops.ops.draw_masks import draw_masks
from fractalops.ops.rasterize_orbit import rasterize_orbit
from tests.support import published_fractaldb
from tests.support.published_fractaldb import Map, color_of, draw

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHAPES = [(2, (13, 13)), (3, (63, 20)), (63, (20, 63)), (300, (14, 300)), (1000, (60, 47))]


def random_class(seed: int, largest: float = 1.0) -> list[Map]:
    """Draw a class of 2 to 7 maps."""
    generator = random.Random(seed)
    return published_fractaldb.random_class(generator, generator.randrange(2, 8), largest)


def inputs(classes: list[list[Map]], points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return matrix (B, N, 2, 2), offset (B, N, 2), probabilities (B, N) and uniform (B, T - 1) of `classes`."""
    maps = max(map(len, classes))
    padded = [[*rows, *[(0.0,) * 7] * (maps - len(rows))] for rows in classes]
    table = torch.tensor(padded, dtype=torch.float64)  # (B, N, 7)
    uniform = published_uniform(points).expand(len(classes), -1)
    return table[..., :4].unflatten(-1, (2, 2)), table[..., 4:6], table[..., 6], uniform


def expected(rows: list[Map], points: int, size: tuple[int, int], seed: int | None) -> Tensor:
    """Return the levels (H, W) of the published generator's image in color."""
    kind = "point_color" if seed is None else "patch_color"
    image = draw(rows, kind, points=points, size=size, seed=seed or 0)
    levels = {(0, 0, 0): 0} | {color_of(number): number + 1 for number in range(128)}
    assert len(levels) == 129
    return torch.tensor([[levels[tuple(pixel)] for pixel in row] for row in image.tolist()], dtype=torch.uint8)


@pytest.mark.parametrize("largest", [0.5, 1.0, 1.6], ids="up to {}".format)
@pytest.mark.parametrize("patches", [False, True], ids=["points", "patches"])
@pytest.mark.parametrize(("points", "size"), SHAPES, ids=str)
def test_images_are_those_of_the_published_generator(
    points: int, size: tuple[int, int], patches: bool, largest: float, backend: str
) -> None:
    classes = [random_class(seed, largest) for seed in range(3)]
    mask = draw_masks(torch.arange(3, 6), points, backend=backend) if patches else None
    levels = rasterize_orbit(*inputs(classes, points), size, padding=6, mask=mask, backend=backend)
    for number, rows in enumerate(classes):
        wanted = expected(rows, points, size, 3 + number if patches else None)
        assert torch.equal(levels[number], wanted)


def test_expanding_orbits_end_100_points_before_the_first_nan(backend: str) -> None:
    # x grows to infinity and y to minus infinity, so their sum becomes NaN.
    growing: list[Map] = [(2.0, 1.0, -1.0, 2.0, 0.5, 0.25, 0.6), (-1.5, 1.0, 1.0, 1.5, -0.5, 0.1, 0.4)]
    faster: list[Map] = [tuple(1e4 * value for value in row[:6]) + row[6:] for row in growing]  # type: ignore[misc]
    mask = draw_masks(torch.tensor([1, 2]), 3000, backend=backend)
    for chosen in (None, mask):
        levels = rasterize_orbit(*inputs([growing, faster], 3000), (40, 50), padding=6, mask=chosen, backend=backend)
        assert torch.equal(levels[0], expected(growing, 3000, (40, 50), None if chosen is None else 1))
        assert levels[0].any()
        assert not levels[1].any()  # NaN within 100 points: the generator fails and draws nothing


def test_a_point_stays_where_no_map_is_chosen(backend: str) -> None:
    rows = [(*row[:6], 0.3 * row[6]) for row in random_class(5)]
    levels = rasterize_orbit(*inputs([rows], 2000), 33, padding=6, backend=backend)
    assert torch.equal(levels[0], expected(rows, 2000, (33, 33), None))


def test_a_place_without_extent_is_in_the_corner(backend: str) -> None:
    still: list[Map] = [(0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 1.0)]
    levels = rasterize_orbit(*inputs([still], 10), 13, padding=6, backend=backend)
    assert levels[0].nonzero().tolist() == [[12, 0]]
    assert torch.equal(levels[0], expected(still, 10, (13, 13), None))


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("count", [1, 3, 63, 623, 624, 1300])
def test_masks_are_those_of_python(seed: int, count: int, backend: str) -> None:
    random.seed(seed)
    wanted = [random.randrange(1, 512) for _ in range(count)]
    masks = draw_masks(torch.tensor([5, seed]), count, backend=backend)
    assert masks.dtype == torch.int16
    assert masks[1].tolist() == wanted


def test_colors_and_numbers_are_the_published_ones() -> None:
    assert published_palette().tolist() == [[0, 0, 0], *(list(color_of(number)) for number in range(128))]
    words = np.random.RandomState(100).randint(0, 2**32, 2000, dtype=np.uint32).tolist()
    pairs = zip(words[::2], words[1::2], strict=True)
    wanted = [((high >> 5) * 2**26 + (low >> 6)) / 2**53 for high, low in pairs]
    assert published_uniform(1000).tolist() == wanted[:-1]


def test_no_image_gives_none(backend: str) -> None:
    levels = rasterize_orbit(
        *(torch.zeros(0, *shape, dtype=torch.float64) for shape in ((2, 2, 2), (2, 2), (2,), (9,))),
        (13, 20),
        padding=6,
        mask=draw_masks(torch.zeros(0, dtype=torch.int64), 10, backend=backend),
        backend=backend,
    )
    assert levels.shape == (0, 13, 20)


RIGHT: dict[str, Any] = {
    **dict(zip(("matrix", "offset", "probabilities", "uniform"), inputs([random_class(0)], 10), strict=True)),
    "size": 13,
    "padding": 6,
}


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (TypeError, "matrix must be float64, got torch.float32", {"matrix": RIGHT["matrix"].float()}),
        (ValueError, r"matrix must have shape (B, N, 2, 2) with N >= 1, got", {"matrix": RIGHT["matrix"][0]}),
        (ValueError, "offset must have shape", {"offset": RIGHT["offset"][:, 1:]}),
        (ValueError, "probabilities must have shape", {"probabilities": RIGHT["probabilities"][0]}),
        (ValueError, "uniform must have shape", {"uniform": RIGHT["uniform"][:, :0]}),
        (TypeError, "mask must be int16, got torch.int64", {"mask": torch.ones(1, 10, dtype=torch.int64)}),
        (ValueError, "mask must have shape (1, 10), got", {"mask": torch.ones(1, 9, dtype=torch.int16)}),
        (ValueError, "size must lie in [13, 2^16), got (12, 14)", {"size": (12, 14)}),
        (ValueError, "padding must be at least 1, got 0", {"padding": 0}),
    ],
)
def test_an_error_names_what_is_wrong(
    error: type[Exception], message: str, changes: dict[str, Any], backend: str
) -> None:
    with pytest.raises(error, match=rf"^rasterize_orbit: {re.escape(message)}"):
        rasterize_orbit(**(RIGHT | changes), backend=backend)


@pytest.mark.parametrize(
    ("error", "message", "seed", "count"),
    [
        (TypeError, "seed must be int64, got torch.float32", torch.zeros(2), 3),
        (ValueError, "seed must have shape (B,), got", torch.zeros(2, 1, dtype=torch.int64), 3),
        (ValueError, "seed must be at least 0, got -4", torch.tensor([1, -4]), 3),
        (ValueError, "count must be at least 1, got 0", torch.tensor([1]), 0),
    ],
)
def test_a_wrong_seed_or_count_is_an_error(error: type[Exception], message: str, seed: Tensor, count: int) -> None:
    with pytest.raises(error, match=rf"^draw_masks: {re.escape(message)}"):
        draw_masks(seed, count)


def test_products_are_not_fused_with_sums(backend: str) -> None:
    """If the product were fused with the sum, the second map would map (1 / 3, 1) to the product's rounding error."""
    large = 2.0**60
    rows: list[Map] = [(0.0, 0.0, 0.0, 0.0, 1 / 3, 1.0, 0.5), (3 * large, -large, 0.0, 1.0, 0.0, 0.0, 0.5)]
    matrix, offset, probabilities, _ = inputs([rows], 3)
    uniform = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    levels = rasterize_orbit(matrix, offset, probabilities, uniform, 20, padding=6, backend=backend)
    assert levels[0].nonzero().tolist() == [[5, 6], [5, 14], [13, 6]]
