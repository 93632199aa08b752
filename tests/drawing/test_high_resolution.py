"""Tests of high-resolution pictures of systems."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fractalops.drawing.high_resolution import Picture, draw, draw_high_resolution, proportional_size
from fractalops.drawing.palettes import PALETTES, apply_palette, read_palette
from fractalops.errors import InputError
from fractalops.ifs import IFS
from tests.support.cases import seeded


def right_triangle(colors: torch.Tensor | None = None) -> IFS:
    """Return the Sierpinski triangle with corners (0, 0), (0, 1) and (1, 0), and colors (3, C)."""
    system = IFS(1, 3, parametrization="matrix", channels=None if colors is None else colors.shape[1])
    offset = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]])
    color = {} if colors is None else {"color": colors.logit()[None]}
    system.load_state_dict({"matrix": 0.5 * torch.eye(2).expand(1, 3, 2, 2), "offset": offset, **color})
    return system


def test_a_high_resolution_picture_shows_the_attractor_where_the_viewport_puts_it() -> None:
    arguments: dict[str, Any] = {"points": 20_000, "viewport": (0, 0, 1, 2), "generator": seeded(0)}
    picture = draw_high_resolution(right_triangle(), (65, 129), **arguments)[0]
    assert picture.shape == (65, 129)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert not picture.requires_grad
    lit = picture > 0.2
    assert bool(lit[0, 0])
    assert bool(lit[-1, 0])
    assert bool(lit[0, 64])
    assert not bool(lit[:, 70:].any())  # y > 1
    assert not bool(lit[20:30, 20:26].any())  # the hole in the middle


def test_a_fitted_viewport_keeps_proportions_and_shows_everything() -> None:
    arguments: dict[str, Any] = {"points": 20_000, "viewport": "fit", "margin": 0.04, "generator": seeded(0)}
    picture = draw_high_resolution(right_triangle(), (40, 80), **arguments)[0]
    rows, columns = (picture > 0.05).nonzero().unbind(1)
    height, width = int(rows.max() - rows.min()), int(columns.max() - columns.min())
    assert 34 <= height <= 40
    assert abs(height - width) <= 2
    assert abs(int(columns.max() + columns.min()) - 79) <= 2  # centered


def test_each_system_has_its_picture_and_the_seed_decides_it() -> None:
    system = IFS(3, 4, generator=seeded(1))
    one, two = (
        draw_high_resolution(system, (16, 16), points=777, viewport="fit", generator=seeded(5)) for _ in range(2)
    )
    assert one.shape == (3, 16, 16)
    assert torch.equal(one, two)
    assert bool((one.amax(dim=(1, 2)) > 0.0).all())


def test_a_high_resolution_picture_shows_each_map_in_its_color() -> None:
    """Each third of the triangle is the image of one map: red with some blue, black, and blue."""
    colors = torch.tensor([[1.0, 0.0, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    arguments: dict[str, Any] = {"points": 20_000, "viewport": (0, 0, 1, 1), "intensity": 0.1}
    picture = draw_high_resolution(right_triangle(colors), (64, 64), **arguments)[0]
    assert picture.shape == (3, 64, 64)
    assert not picture.requires_grad
    red, green, blue = picture
    near, far, right = (slice(0, 28), slice(0, 28)), (slice(36, 64), slice(0, 28)), (slice(0, 28), slice(36, 64))
    assert red[near].max() == 1
    unlimited = red[near] < 1
    torch.testing.assert_close(blue[near][unlimited], 0.25 * red[near][unlimited])
    assert blue[right].max() == 1
    assert red[right].max() < 0.01
    assert picture[:, far[0], far[1]].max() < 0.01
    assert not green.any()


@pytest.mark.parametrize("batch", [1_000_000, 3000])
@pytest.mark.parametrize("size", [(48, 48), (96, 64), (200, 200)])
def test_a_high_resolution_picture_in_color_is_as_bright_as_the_learned_image(
    size: tuple[int, int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is true for any size, number of points and color. Here no pixel is bright enough to be limited."""
    monkeypatch.setattr("fractalops.drawing.canvas._POINTS_AT_ONCE", batch)
    color = torch.tensor([0.9, 0.4])
    system = right_triangle(color.expand(3, 2))
    learned = system(24, sequences=40, points=50, viewport=(-2.0, -2.0, 3.0, 3.0), bandwidth=0.5, clamp=False)
    picture = draw_high_resolution(
        system, size, points=7000, viewport=(-2.0, -2.0, 3.0, 3.0), intensity=0.01 * 50 * 0.5 / 24**2
    )
    assert picture.max() < 1
    # Bumps are cut off below 0.01 of their maximum, which changes their sum by at most 1 %.
    torch.testing.assert_close(picture[0].mean(dim=(1, 2)), 0.01 * learned.mean(dim=(0, 1, 3, 4)), rtol=0.01, atol=0)


@pytest.mark.parametrize("viewport", ["stretch", "fit", (-5.0, -5.0, 5.0, 5.0)])
def test_a_diverging_system_gives_a_black_picture(viewport: object) -> None:
    system = right_triangle()
    with torch.no_grad():
        system.get_parameter("matrix").fill_(float("nan"))
    with pytest.warns(UserWarning, match="draw: points that are NaN or infinite are not drawn: the maps expand"):
        picture = draw_high_resolution(system, (8, 8), points=10, viewport=viewport)  # type: ignore[arg-type]
    assert bool((picture == 0.0).all())


def test_a_picture_beside_the_attractor_says_that_it_is_empty() -> None:
    with pytest.warns(UserWarning, match="draw: the picture is empty: no point of the attractor is in its viewport"):
        assert not draw_high_resolution(right_triangle(), (8, 8), points=10, viewport=(7.0, 7.0, 8.0, 8.0)).any()


def test_a_single_point_and_many_batches_of_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractalops.drawing.canvas._POINTS_AT_ONCE", 100)
    assert draw_high_resolution(right_triangle(), (8, 8), points=1, viewport="fit").shape == (1, 8, 8)
    assert float(draw_high_resolution(right_triangle(), (8, 8), points=250, viewport=(0, 0, 1, 1)).max()) > 0.0
    with pytest.raises(ValueError, match="draw_high_resolution: points must be at least 1, got 0"):
        draw_high_resolution(right_triangle(), (8, 8), points=0)
    with pytest.raises(ValueError, match=r"draw_high_resolution: size must lie in \[1, .*\], got \(0, 8\)"):
        draw_high_resolution(right_triangle(), (0, 8))


@pytest.mark.parametrize(
    ("size", "expected"), [((32, 32), (1024, 1024)), ((16, 32), (512, 1024)), ((5000, 1), (1024, 1))]
)
def test_proportional_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert proportional_size(size, 1024) == expected


def picture(**options: Any) -> Picture:
    return Picture(size=(1, 5), points=1, viewport="fit", **options)


@pytest.mark.parametrize(("gamma", "power"), [(None, 0.4), (1.0, 1.0), (2.5, 2.5)])
def test_gray_is_raised_to_gamma(gamma: float | None, power: float) -> None:
    canvas = torch.tensor([0.0, 1.0, 2.0, 4.0, 9.0]).view(1, 1, 5)
    expected = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0]) ** power
    torch.testing.assert_close(picture(gamma=gamma).develop(canvas, 0.25)[0, 0], expected)


@pytest.mark.parametrize("palette", [None, "fire", "#102030,#fedcba", "viridis"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_picture_over_its_background_is_the_opaque_one(channels: int, palette: str | None) -> None:
    if palette is not None and channels == 3:
        return
    canvas = torch.rand(channels, 1, 5, generator=seeded(0))
    canvas[:, 0, 0] = 0
    table = None if palette is None else read_palette(palette)
    opaque = picture(palette=table).develop(canvas, 1.3)
    *colors, opacity = picture(palette=table, transparent=True).develop(canvas, 1.3)
    color = torch.stack(colors)
    assert 0 <= color.min() <= color.max() <= 1
    assert opacity[0, 0] == 0
    background = torch.zeros(3) if table is None else table[0]
    over = opacity * color + (1 - opacity) * background[: len(color), None, None]
    torch.testing.assert_close(over, opaque, rtol=0, atol=1e-2)


def test_two_colors_are_background_and_foreground() -> None:
    table = read_palette("#112233, ffcc00")
    brightness = torch.tensor([[0.0, 0.5, 1.0]])
    first, last = torch.tensor([0x11, 0x22, 0x33]) / 255, torch.tensor([0xFF, 0xCC, 0x00]) / 255
    expected = torch.stack((first, (first + last) / 2, last), 1)[:, None]  # (3, 1, 3)
    torch.testing.assert_close(apply_palette(table, brightness), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", PALETTES)
def test_a_palette_grows_brighter_from_its_anchors(name: str) -> None:
    table = read_palette(name)
    luma = table @ torch.tensor([0.299, 0.587, 0.114])
    assert (luma.diff() >= -1e-6).all()
    assert luma[-1] > 0.7
    assert (table[0] * 255).round().int().tolist() == list(bytes.fromhex(PALETTES[name].split()[0]))


@pytest.mark.parametrize("text", ["", "lava", "#112233", "#112233,#44", "fire,#112233"])
def test_other_palettes_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"^palette must be one of fire, ice, .*, or colors such as #112233,#ffcc00, got "
    ):
        read_palette(text)


def mean_system(color: bool = True) -> IFS:
    """Return four maps that tile a square. The first tile is the brightest."""
    system = IFS(
        1, 4, parametrization="matrix", channels=3 if color else None, blend="mean", viewport=(0.0, 0.0, 1.0, 1.0)
    )
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    with torch.no_grad():
        system.matrix.copy_(0.5 * torch.eye(2).expand(1, 4, 2, 2))
        system.offset.copy_(0.5 * corners[None])
        if system.color is not None:
            system.color.copy_(torch.tensor([0.9, 0.6, 0.4, 0.2])[:, None].expand(4, 3).logit()[None])
    return system


@pytest.mark.parametrize("points", [200_000, 800_000])
def test_means_are_drawn_as_they_were_learned(points: int) -> None:
    system, generator = mean_system(), torch.Generator().manual_seed(0)
    drawn = draw_high_resolution(system, (64, 64), points=points, generator=generator)[0]  # (3, 64, 64)
    with torch.no_grad():
        learned = system(64, points=points, generator=generator)[0, 0]  # (3, 64, 64)
    inside = slice(6, -6)  # at the edge the bumps' tails count more, and drawings cut them off earlier
    # A few hundred points per pixel leave noise of a few hundredths.
    torch.testing.assert_close(drawn[:, inside, inside], learned[:, inside, inside], atol=0.06, rtol=0)
    # Points are spread evenly, so the background has weight 0.03 against 1.
    quarters = drawn[0, inside, inside].view(2, 26, 2, 26).mean((1, 3))  # (2, 2)
    torch.testing.assert_close(quarters, torch.tensor([[0.9, 0.6], [0.4, 0.2]]) / 1.03, atol=0.02, rtol=0)


def test_a_zoom_into_means_has_the_same_tones() -> None:
    system = mean_system()
    zoomed = draw_high_resolution(system, (48, 48), points=400_000, zoom=(0.25, 0.25, 4.0))[0]
    assert abs(float(zoomed.mean()) - 0.9 / 1.03) < 0.03


def test_gaps_show_the_picture_of_the_learned_size() -> None:
    system = mean_system(color=False)
    with torch.no_grad():
        system.matrix.mul_(0.96)  # leaves a cross, about 1 pixel wide at 32 x 32 and 8 at 256 x 256
    gaps, filled = (
        draw_high_resolution(system, (256, 256), points=2_000_000, learned=learned)[0] for learned in (None, (32, 32))
    )
    assert gaps.shape == (256, 256)
    assert float(gaps.mean()) < float(filled.mean()) - 0.05
    # The background has little weight in pixels with points.
    lit = gaps > 0.9
    torch.testing.assert_close(filled[lit], gaps[lit], atol=0.1, rtol=0)
    assert (filled >= gaps - 1e-6).all()
    parts = draw_high_resolution(system, (128, 128), points=500_000, learned=(32, 32), zoom=(0.25, 0.25, 2.0))[0]
    assert (parts - filled[:128, :128]).abs().mean() < 0.05


@pytest.mark.parametrize(("factor", "filled"), [(4.0, 1.0), (11.3, 0.5), (32.0, 0.0), (1000.0, 0.0)])
def test_gaps_open_as_they_are_zoomed_into(factor: float, filled: float) -> None:
    system = mean_system(color=False)
    with torch.no_grad():
        system.matrix.mul_(0.96)
    x = 0.5 + 4 / (256 * factor)  # the cross ends just above the window's center
    shown = [
        draw_high_resolution(system, (64, 64), points=100_000, learned=learned, zoom=(0.5, x, factor))[0]
        for learned in (None, (32, 32))
    ]
    gap = shown[0] < 0.05  # pixels without points
    assert gap.any()
    assert float(shown[1][gap].mean()) == pytest.approx(0.9 * filled, abs=0.15)


def test_what_is_no_background_of_a_mean_is_opaque() -> None:
    picture = Picture(size=(64, 64), points=200_000, viewport=(-1.0, -1.0, 1.0, 1.0), transparent=True, blend="mean")
    image = draw(mean_system().system(0), picture, torch.Generator().manual_seed(0))  # (4, 64, 64)
    opacity = image[3]
    assert float(opacity[:30, :30].max()) == 0  # outside the square
    assert float(opacity[40:60, 40:60].min()) > 0.9
    assert float((image[:3, 36:44, 36:44] - 0.9).abs().mean()) < 0.02  # the background does not darken colors
