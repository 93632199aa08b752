"""Tests of pictures that are drawn in bands of rows, and of zooms."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import avg_pool2d

from fractalops.backends import use_backend
from fractalops.drawing import high_resolution
from fractalops.drawing.canvas import Scene, Zoom, check_zoom, whole_rows
from fractalops.drawing.high_resolution import Picture, default_points, draw, draw_bands, draw_high_resolution
from fractalops.errors import InputError
from fractalops.ifs import IFS
from fractalops.io.progress import progress_bar
from fractalops.ops.rbf_rasterize import rbf_rasterize
from fractalops.systems import System
from tests.drawing.test_high_resolution import right_triangle
from tests.support.cases import seeded

# The published maps of Barnsley's fern: x points right and y points up.
FERN = (
    (0.0, 0.0, 0.0, 0.16, 0.0, 0.0),
    (0.85, 0.04, -0.04, 0.85, 0.0, 1.6),
    (0.2, -0.26, 0.23, 0.22, 0.0, 1.6),
    (-0.15, 0.28, 0.26, 0.24, 0.0, 0.44),
)


def fern() -> System:
    table = torch.tensor(FERN)
    colors = torch.tensor([[1.0, 0.2, 0.1], [0.1, 1.0, 0.2], [0.2, 0.1, 1.0], [1.0, 1.0, 1.0]])
    return System(table[:, :4].view(4, 2, 2), table[:, 4:], torch.tensor([0.01, 0.85, 0.07, 0.07]), colors)


def triangle() -> System:
    return right_triangle().system(0)


def picture(size: tuple[int, int], points: int, **options: Any) -> Picture:
    return Picture(**{"size": size, "points": points, "viewport": (-0.2, -0.2, 1.2, 1.2)} | options)


@pytest.mark.parametrize("colored", [False, True], ids=["gray", "color"])
@pytest.mark.parametrize(("size", "values"), [((63, 40), 500), ((300, 7), 900), ((1, 64), 10), ((5, 1), 3)], ids=str)
def test_bands_have_the_values_of_the_whole(
    size: tuple[int, int], values: int, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = replace(fern(), color=fern().color if colored else None)
    monkeypatch.setattr("fractalops.drawing.canvas._POINTS_AT_ONCE", 1300)
    drawn = picture(size, 5000, viewport="fit", margin=0.1)
    whole = draw(maps, drawn, seeded(3))
    monkeypatch.setattr(high_resolution, "_CANVAS_VALUES", values)
    monkeypatch.setattr(high_resolution, "_BAND_VALUES", 2 * size[1])
    bands = list(draw_bands(maps, drawn, seeded(3)))
    assert sum(band.shape[1] for band in bands) == size[0]
    assert len(bands) >= min(size[0], 3 * colored)
    assert whole.amax() > 0.5
    torch.testing.assert_close(torch.cat(bands, 1), whole, rtol=1e-4, atol=1e-5)


def test_rows_are_cut_evenly() -> None:
    assert whole_rows(10, 4, 12) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert whole_rows(3, 100, 12) == [(0, 1), (1, 2), (2, 3)]
    assert whole_rows(3, 4, 12) == [(0, 3)]


def test_the_bar_counts_all_points_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(high_resolution, "_CANVAS_VALUES", 8 * 32)
    for maps, passes in ((triangle(), 7), (fern(), 16)):  # gray: 4 canvases, 3 of them drawn twice
        with progress_bar(0, "point", "test", shown=True, file=open("/dev/null", "w")) as bar:
            list(draw_bands(maps, picture((32, 32), 100), seeded(0), bar))
            assert bar.total == bar.n == 100 * passes


def test_the_number_of_points_follows_the_size() -> None:
    assert default_points((1, 1), "add") == default_points((1000, 1000), "add") == 1_000_000
    assert default_points((4096, 2048), "add") == 4096 * 2048


def test_points_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.drawing.canvas._POINTS_AT_ONCE", 70)
    scene = Scene(triangle(), (30, 20), 200, (0, 0, 1, 1), generator=seeded(0))
    counts = [0, 1, 1, 69, 70, 71, 200, 200]
    grown = [canvas.clone() for canvas in scene.grow(counts, 0, 30)]
    assert len(grown) == len(counts)
    assert not grown[0].any()
    assert torch.equal(grown[1], grown[2])
    for before, after in itertools.pairwise(grown):
        assert (after >= before).all()
    torch.testing.assert_close(grown[-1], scene.canvas(0, 30))
    assert float(grown[1].sum()) < 5 < float(grown[3].sum())


# Zooms


@pytest.mark.parametrize(
    ("maps", "center"),
    [(fern(), (0.3, 0.45)), (fern(), (0.5, 0.5)), (triangle(), (0.5, 0.25)), (triangle(), (0.0, 0.0))],
    ids=["fern", "fern's stem", "triangle", "triangle's corner"],
)
def test_a_zoom_is_the_part_of_a_larger_picture(maps: System, center: tuple[float, float]) -> None:
    """Compare a zoom with a crop of the whole, drawn at four times the size with as many points per pixel."""
    maps = replace(maps, color=None)
    size = 80, 96
    viewport = (0.0, 0.0, 1.0, 1.0) if len(maps.offset) == 3 else "fit"
    large = Scene(maps, (320, 384), 600_000, viewport, generator=seeded(0)).canvas(0, 320)[0]
    scene = Scene(maps, size, 100_000, viewport, zoom=Zoom(*center, 4), generator=seeded(1))
    zoomed = scene.canvas(0, 80)[0] * (600_000 * scene.share / 100_000)
    # The viewport spans pixel centers in both pictures, so the crop is off by a fraction of a pixel.
    top, left = (round(part * side - side / 8) for part, side in zip(center[::-1], large.shape, strict=True))
    cut = large.new_zeros(size)
    rows, columns = slice(max(0, top), top + 80), slice(max(0, left), left + 96)
    cut[rows.start - top : 80, columns.start - left : 96] = large[rows, columns]
    torch.testing.assert_close(zoomed.mean(), cut.mean(), rtol=0.1, atol=1e-3)
    coarse = [avg_pool2d(image[None], 8)[0] for image in (zoomed, cut)]
    difference = (coarse[0] - coarse[1]).abs().mean() / coarse[1].mean()
    assert difference < 0.25, difference
    correlation = torch.corrcoef(torch.stack([image.flatten() for image in coarse]))[0, 1]
    assert correlation > 0.95, correlation


@pytest.mark.parametrize("exponent", [1, 5, 20, 30])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1)], ids=str)
def test_a_corner_of_the_triangle_looks_alike_at_any_depth(exponent: int, corner: tuple[int, int]) -> None:
    """Zooms by 4 and by 4 * 2^exponent show the same picture with the same number of points."""
    column, row = corner
    # The viewport spans pixel centers. (x, y) is the triangle's corner in shares of the picture.
    x, y = (column * 95 + 0.5) / 96, (row * 63 + 0.5) / 64
    arguments: dict[str, Any] = {"points": 50_000, "viewport": (0, 0, 1, 1)}
    images = [
        draw_high_resolution(right_triangle(), (64, 96), zoom=(x, y, 2.0**depth), generator=seeded(0), **arguments)[0]
        for depth in (2, 2 + exponent)
    ]
    assert float((images[0] > 0).float().mean()) > 0.1
    # The words differ only in length, so the points are the same.
    assert (images[0] - images[1]).abs().mean() < 0.02
    assert ((images[0] > 0.1) == (images[1] > 0.1)).float().mean() > 0.98


def test_a_zoom_by_one_is_the_whole() -> None:
    arguments: dict[str, Any] = {"points": 100_000, "viewport": (-0.5, -0.5, 1.5, 1.5)}
    system = right_triangle(torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.5, 0.5, 0.9]]))
    whole = draw_high_resolution(system, (32, 40), generator=seeded(0), **arguments)[0]
    zoomed = draw_high_resolution(system, (32, 40), zoom=(0.5, 0.5, 1), generator=seeded(1), **arguments)[0]
    assert (whole - zoomed).abs().mean() < 0.02
    assert whole.mean() > 0.1


@pytest.mark.parametrize("factor", [3.0, 1e4, 1e9])
def test_a_zoom_in_color_is_as_bright_as_the_whole(factor: float) -> None:
    """Each point has the color of its last map, which is red at the corner of the first third."""
    system = right_triangle(torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.5, 0.5, 0.9]]))
    arguments: dict[str, Any] = {"points": 100_000, "viewport": (0, 0, 1, 1), "intensity": 0.1}
    whole = draw_high_resolution(system, (64, 64), generator=seeded(0), **arguments)[0]
    zoomed = draw_high_resolution(
        system, (64, 64), zoom=(0.5 / 64, 0.5 / 64, factor), generator=seeded(0), **arguments
    )[0]
    red = zoomed[:, zoomed[0] > 0.2]
    assert red.shape[1] > 100
    assert (red[0] > red[1:].amax(0)).all()
    quantiles = [image.amax(0)[image.amax(0) > 0.02].quantile(0.9) for image in (whole, zoomed)]
    assert 0.5 < quantiles[1] / quantiles[0] < 1.5


def test_what_can_not_be_zoomed_is_refused() -> None:
    system = right_triangle()
    for zoom in ((0.9, 0.9, 10.0), (0.77, 0.27, 1e6)):
        with pytest.raises(InputError, match=r"^cannot draw this zoom: it shows no point of the attractor; ") as error:
            draw_high_resolution(system, (9, 9), viewport=(0, 0, 1, 1), zoom=zoom)
        x, y = (float(part) for part in str(error.value).rpartition(" ")[2].split(","))
        assert math.hypot(x - zoom[0], y - zoom[1]) < 0.6
        shown = draw_high_resolution(system, (9, 9), viewport=(0, 0, 1, 1), zoom=(x, y, zoom[2]), points=1000)
        assert shown.max() == 1
    with pytest.raises(InputError, match=r"^deep zoom: size must be at least 2 pixels"):
        draw_high_resolution(system, (1, 8), viewport=(0, 0, 1, 1), zoom=(0.5, 0.5, 2))
    with torch.no_grad():
        system.get_parameter("matrix").mul_(2.0)
    with pytest.raises(InputError, match=r"^deep zoom: the maps must contract, got a norm of 1 for map 0$"):
        draw_high_resolution(system, (8, 8), viewport=(0, 0, 1, 1), zoom=(0.5, 0.5, 2))
    for zoom, error, message in (
        ((0.5, 0.5), TypeError, r"zoom must be \(x, y, factor\), got \(0.5, 0.5\)"),
        (3.0, TypeError, r"zoom must be \(x, y, factor\), got 3.0"),
        ((1.5, 0.5, 2), ValueError, r"zoom's x must lie in \[0, 1\], got 1.5"),
        ((0.5, -1, 2), ValueError, r"zoom's y must lie in \[0, 1\], got -1"),
        ((0.5, 0.5, 0.5), ValueError, r"zoom's factor must lie in \[1, 100000000000\], got 0.5"),
        ((0.5, 0.5, "2"), TypeError, "zoom's factor must be a number, got str"),
    ):
        with pytest.raises(error, match=f"^draw: {message}$"):
            check_zoom("draw", zoom)


def test_a_system_of_one_map_is_a_point_at_any_depth() -> None:
    system = IFS(1, 1, parametrization="matrix")
    system.load_state_dict({"matrix": torch.eye(2).mul(0.5)[None, None], "offset": torch.tensor([[[0.25, 0.25]]])})
    image = draw_high_resolution(system, (9, 9), viewport=(0, 0, 1, 1), zoom=(0.5, 0.5, 1e6), points=50)[0]
    assert image[4, 4] == image.max() == 1
    assert image[0].max() == 0


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("colored", [False, True], ids=["gray", "color"])
def test_the_reference_gets_few_points_at_a_time(colored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's tables have a row and a column per point: tables of all points would take gigabytes."""
    maps = replace(fern(), color=fern().color if colored else None)
    expected = draw(maps, picture((40, 60), 3001), seeded(3))
    counts = []

    def counted(points: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        counts.append(points.shape[1])
        return rbf_rasterize(points, *arguments, **options)

    monkeypatch.setattr("fractalops.drawing.canvas.rbf_rasterize", counted)
    monkeypatch.setattr("fractalops.drawing.canvas._TABLE_VALUES", 100_000)
    with use_backend("reference"):
        torch.testing.assert_close(draw(maps, picture((40, 60), 3001), seeded(3)), expected, rtol=0, atol=1e-4)
    assert counts == [1000, 1000, 1000, 1]
