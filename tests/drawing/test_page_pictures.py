"""Tests of the pictures of an interactive page in headless Chromium."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.drawing.page import page_parameters, page_text, write_page
from fractalops.ifs import IFS
from fractalops.sampling import sample_attractor
from tests.support.cases import seeded
from tests.support.pages import (
    COLORS,
    INTENSITY,
    LEFT,
    SIDE,
    TOP,
    blocks,
    difference,
    on_stage,
    save,
    settle,
    triangle,
    until_zoom,
)

pytestmark = pytest.mark.slow


def zoom_in(page: Any, doublings: int, at: tuple[float, float]) -> None:
    page.mouse.move(*at)
    for _ in range(doublings):
        page.mouse.wheel(0, -math.log(2) / 0.002)
    until_zoom(page, 2**doublings)


def similarities(*maps: tuple[float, float, float, float]) -> IFS:
    """Return maps, each given by a scale, an angle and an offset, with a viewport around the origin."""
    system = IFS(1, len(maps), parametrization="matrix", viewport=(-1.0, -1.0, 1.0, 1.0))
    turns = [[[s * math.cos(a), -s * math.sin(a)], [s * math.sin(a), s * math.cos(a)]] for s, a, _, _ in maps]
    system.load_state_dict({"matrix": torch.tensor([turns]), "offset": torch.tensor([[m[2:] for m in maps]])})
    return system


def zoom_by_keys(page: Any, presses: int) -> numpy.ndarray:
    """Return the picture after zooming by 1.5 about the middle of the stage `presses` times."""
    page.keyboard.press("0")
    for _ in range(presses):
        page.keyboard.press("+")
    until_zoom(page, 1.5**presses)
    return blocks(page)


@pytest.mark.parametrize("colors", [None, COLORS])
def test_the_picture_is_that_of_the_large_drawing(
    colors: torch.Tensor | None, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    page = visit(save(tmp_path / "a.html", colors))
    drawn = draw_high_resolution(
        triangle(colors), (SIDE, SIDE), points=1_000_000, generator=seeded(0), intensity=INTENSITY
    )
    whole = numpy.zeros((400, 480, 3))
    whole[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = (
        (drawn[0] if colors is None else drawn[0].permute(1, 2, 0)).numpy().reshape(SIDE, SIDE, -1)
    )
    expected = whole.reshape(25, 16, 30, 16, 3).mean(axis=(1, 3))
    found = blocks(page)
    assert expected.max() > 0.3
    assert numpy.abs(found - expected).max() < 0.08
    assert difference(found, expected) < 0.01


def test_blended_by_the_mean_each_part_has_the_color_of_its_map(tmp_path: Path, visit: Callable[..., Any]) -> None:
    parameters = page_parameters(triangle(COLORS), size=(32, 32), intensity=INTENSITY)
    parameters |= {"blend": "mean", "background": [0.5, 0.5, 0.5], "background_weight": 1e-3}
    (tmp_path / "a.html").write_text(page_text(parameters, "a"), encoding="utf-8")
    page = visit(tmp_path / "a.html")
    found = blocks(page)
    corners = {(1, 4): COLORS[0], (22, 4): COLORS[1], (1, 25): COLORS[2]}  # (row, column) of a block: color
    for (row, column), color in corners.items():
        lit = found[row, column] - 0.5  # relative to the background, which shows through the holes
        ratio = lit / (color.numpy() - 0.5)
        assert ratio == pytest.approx(numpy.full(3, ratio[0]), abs=0.02)
        assert ratio[0] > 0.3
    assert found[22, 25] == pytest.approx(numpy.full(3, 0.5), abs=0.005)


@pytest.mark.parametrize(("size", "filled"), [(32, True), (376, False)])
def test_gaps_between_tiles_narrower_than_a_learned_pixel_are_filled(
    size: int, filled: bool, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    corners = [(0.49, 0.0, x, y) for x in (-0.51, 0.51) for y in (-0.51, 0.51)]  # gaps of 1 % of the side
    parameters = page_parameters(similarities(*corners), size=(size, size), intensity=INTENSITY)
    white, blue = [[1.0, 1.0, 1.0]] * 4, [0.0, 0.0, 1.0]
    parameters |= {"color": white, "blend": "mean", "background": blue, "background_weight": 0.03}
    (tmp_path / "a.html").write_text(page_text(parameters, "a"), encoding="utf-8")
    page = visit(tmp_path / "a.html")
    found = blocks(page)
    middle = found[12, 15]  # gaps cross the block in the middle
    assert middle[2] > 0.99
    assert (middle[0] > 0.97) == filled
    assert (middle[0] < 0.8) == (not filled)
    assert found[12, 1] == pytest.approx(numpy.array(blue), abs=0.01)  # outside
    # Gaps that are large on the screen show the background.
    assert zoom_by_keys(page, 12)[12, 15] == pytest.approx(numpy.array(blue), abs=0.01)


@pytest.mark.parametrize(("doublings", "colors"), [(10, None), (20, COLORS), (38, None), (38, COLORS)])
def test_a_deep_zoom_shows_what_the_system_has_there(
    doublings: int, colors: torch.Tensor | None, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    """Zooms into a corner of the triangle by powers of two show the same picture."""
    page = visit(save(tmp_path / "a.html", colors))
    zoom_in(page, 3, on_stage(0, 0))
    near = blocks(page)
    assert near.mean() > 0.03
    page.keyboard.press("0")
    zoom_in(page, doublings, on_stage(0, 0))
    deep = blocks(page)
    assert difference(deep, near) < 0.01
    assert page.locator("#points").text_content() not in ("0", "")


def test_a_deep_zoom_into_a_spiral_shows_it_turned(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The first map fixes the middle, scales by 1 / 1.5 and turns by 72 degrees: five zooms give the same picture."""
    system = similarities((1 / 1.5, 2 * math.pi / 5, 0.0, 0.0), (0.4, 1.0, 0.5, 0.3))
    write_page(system, tmp_path / "a.html", size=(32, 32), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    near, deep = zoom_by_keys(page, 10), zoom_by_keys(page, 65)  # to 2.8 x 10^11
    assert near.mean() > 0.01
    assert difference(near, deep) < 0.2 * near.mean()


def test_a_deep_zoom_into_maps_that_overlap_is_full(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """Four maps cover a square about twice: at this depth, too many words to enumerate touch the window."""
    system = similarities(
        *((0.7, 0.1 * i, x, y) for i, (x, y) in enumerate(((0.2, 0.2), (-0.2, 0.2), (0.2, -0.2), (-0.2, -0.2))))
    )
    write_page(system, tmp_path / "a.html", size=(32, 32), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    for presses in (20, 60):
        assert (zoom_by_keys(page, presses) > 0.1).mean() > 0.95


def test_a_sample_of_words_is_fair(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The colors show each map's share of the points in the window, which is that of a plain sample of points."""
    system = similarities((0.8, 0.3, 0.0, 0.05), (0.7, -0.5, -0.05, 0.1), (0.6, 2.0, 0.05, -0.05))
    parameters = page_parameters(system, size=(32, 32), intensity=0.005)
    parameters |= {"color": (torch.eye(3) / 4).tolist()}
    (tmp_path / "a.html").write_text(page_text(parameters, "a"), encoding="utf-8")
    page = visit(tmp_path / "a.html")
    found = zoom_by_keys(page, 10)
    assert found.max() < 0.9
    half = torch.tensor([400, 480]) / SIDE / 1.5**10  # half the window's size in the plane
    expected = torch.zeros(3)
    for seed in range(4):
        sample = sample_attractor(*system.maps(), system.probabilities(), 4_000_000, generator=seeded(seed))
        inside = (sample.points.abs() < half).all(dim=-1)
        expected += sample.maps[inside].bincount(minlength=3)
    share = found.sum(axis=(0, 1)) / found.sum()
    assert share == pytest.approx((expected / expected.sum()).numpy(), abs=0.01)


def test_many_maps_and_one(tmp_path: Path, visit: Callable[..., Any]) -> None:
    for maps in (1, 300):
        system = IFS(
            1, maps, channels=3, viewport="fit" if maps > 1 else (-2.0, -2.0, 2.0, 2.0), generator=seeded(maps)
        )
        write_page(system, tmp_path / "a.html", size=(20, 30), intensity=INTENSITY)
        page = visit(tmp_path / "a.html")
        assert (blocks(page) > 0.01).any() or maps == 1
        assert page.locator("#maps button").count() == maps
        page.locator("#maps button").last.click()
        page.keyboard.press("]")
        settle(page)


@pytest.mark.parametrize("scale", [3.0, 1.3])
def test_maps_that_do_not_contract_do_no_harm(scale: float, tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The points of the first system diverge. One map of the second expands, but most points stay near."""
    system = triangle()
    with torch.no_grad():
        system.get_parameter("matrix")[0, : 3 if scale > 2 else 1].mul_(2 * scale)
    write_page(system, tmp_path / "a.html", size=(20, 30), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    for _ in range(10):
        page.keyboard.press("+")
    assert (blocks(page) > 0.02).any() or scale > 2
