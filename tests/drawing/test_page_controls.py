"""Tests of pointers, keys and controls on an interactive page in headless Chromium."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tests.support.pages import (
    COLORS,
    SIDE,
    blocks,
    difference,
    exported,
    on_stage,
    save,
    until_zoom,
)

pytestmark = pytest.mark.slow


def drag(page: Any, begin: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*begin)
    page.mouse.down()
    page.mouse.move(*((a + b) / 2 for a, b in zip(begin, end, strict=True)))
    page.mouse.move(*end)
    page.mouse.up()


@pytest.mark.parametrize("colors", [None, COLORS])
def test_a_map_that_is_dragged_takes_the_picture_along(
    colors: torch.Tensor | None, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    page = visit(save(tmp_path / "a.html", colors))
    before, parameters = blocks(page), exported(page)
    drag(page, on_stage(0.25, 0.75), on_stage(0.5, 0.5))  # the middle of the frame of map 1, lower left
    assert difference(blocks(page), before) > 0.01
    changed = exported(page)
    assert changed["offset"] == [
        pytest.approx([0, 0], abs=1e-9),
        pytest.approx([0.25, 0.25], abs=1e-9),
        pytest.approx([0, 0.5], abs=1e-9),
    ]
    assert numpy.allclose(changed["matrix"], parameters["matrix"])
    page.keyboard.press("r")
    assert difference(blocks(page), before) == 0
    assert exported(page) == parameters


def test_the_handle_scales_and_turns_a_map(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "a.html"))
    before = blocks(page)
    page.mouse.click(*on_stage(0.25, 0.75))
    # Drag the frame's lower right corner halfway from its center to its lower left corner: a quarter turn, half size.
    drag(page, on_stage(0.5, 1.0), on_stage(0.125, 0.875))
    changed = exported(page)
    # x points down and y points right, so a clockwise quarter turn takes y to x.
    assert changed["matrix"][1] == [pytest.approx([0, 0.25], abs=1e-9), pytest.approx([-0.25, 0], abs=1e-9)]
    middle = torch.tensor(changed["matrix"][1]) @ torch.tensor([0.5, 0.5]) + torch.tensor(changed["offset"][1])
    torch.testing.assert_close(middle, torch.tensor([0.75, 0.25]))
    assert changed["probabilities"][1] == pytest.approx(1 / 9)  # its area is a quarter of the old one
    assert difference(blocks(page), before) > 0.01


def test_escape_puts_a_dragged_map_back(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "a.html"))
    before = exported(page)
    page.mouse.move(*on_stage(0.25, 0.75))
    page.mouse.down()
    page.mouse.move(*on_stage(0.6, 0.6))
    page.keyboard.press("Escape")
    page.mouse.move(*on_stage(0.9, 0.6))
    page.mouse.up()
    assert exported(page)["offset"] == [pytest.approx(each, abs=1e-9) for each in before["offset"]]


def test_dragging_beside_the_frames_moves_the_view(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "a.html"))
    before, parameters = blocks(page), exported(page)
    drag(page, on_stage(0.9, 0.9), on_stage(0.9 + 64 / SIDE, 0.9 + 32 / SIDE))
    moved = blocks(page)
    assert numpy.abs(moved[2:, 4:] - before[:-2, :-4]).max() < 0.1
    assert exported(page) == parameters


def test_everything_goes_by_keyboard(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "leaf.html"))
    parameters, before = exported(page), blocks(page)
    page.locator("#picture").focus()
    page.keyboard.press("ArrowRight")
    assert numpy.abs(blocks(page) - before).max() > 0.1
    for _ in range(3):
        page.keyboard.press("+")
    until_zoom(page, 1.5**3)
    page.keyboard.press("-")
    until_zoom(page, 1.5**2)
    page.keyboard.press("0")
    assert difference(blocks(page), before) == 0

    focused = "document.activeElement.getAttribute('aria-label')"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "Map 2 of 3":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator("#chosen-name").text_content() == "Map 2"
    page.keyboard.press("ArrowDown")  # by 0.02 of 400 pixels
    page.keyboard.press("Shift+ArrowLeft")
    changed = exported(page)["offset"]
    assert changed[1] == pytest.approx([0.5 + 8 / SIDE, -40 / SIDE])
    assert changed[2] == pytest.approx(parameters["offset"][2])
    page.keyboard.press("]")
    page.keyboard.press(".")
    turned = torch.tensor(exported(page)["matrix"][1])
    assert turned.det().sqrt() == pytest.approx(0.5 * 1.05)
    assert torch.atan2(turned[0, 1], turned[0, 0]) == pytest.approx(math.pi / 36)
    page.keyboard.press("Escape")
    assert page.locator("#chosen").is_hidden()
    assert page.evaluate("document.activeElement.id") == "picture"
    page.keyboard.press("r")
    assert exported(page) == parameters
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "leaf.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    page.keyboard.press("f")
    assert page.get_by_role("button", name="Frames").get_attribute("aria-pressed") == "false"


def test_colors_can_be_changed(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "a.html", COLORS))
    page.get_by_role("button", name="Map 1 of 3").click()
    page.get_by_label("Color", exact=True).fill("#00ff00")
    found = blocks(page)[1, 4]  # the block at the corner of map 1
    assert found[1] > 0.1
    assert found[0] == found[2] == 0
    assert exported(page)["color"][0] == [0, 1, 0]

    page = visit(save(tmp_path / "one channel.html", COLORS[:, 1:2]))
    page.get_by_role("button", name="Map 2 of 3").click()
    assert page.get_by_label("Color", exact=True).input_value() == "#bfbfbf"
    assert exported(page)["color"] == [pytest.approx(color.tolist()) for color in COLORS[:, 1:2]]

    page = visit(save(tmp_path / "b.html"))
    page.get_by_label("Foreground").fill("#ff0000")
    page.get_by_label("Background").fill("#0000ff")
    found = blocks(page)
    assert found[..., 0].max() > 0.3
    assert not found[..., 1].any()
    assert found[0, 0].tolist() == [0, 0, pytest.approx(1)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_it_fits_a_phone_and_a_desktop(
    size: tuple[int, int], scheme: str, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    page = visit(save(tmp_path / "a.html", COLORS), size, color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert (blocks(page) > 0.1).any()
    assert page.locator("#picture").bounding_box()["width"] == (390 if size[0] == 390 else 960)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    assert page.evaluate("getComputedStyle(document.querySelector('#save')).transitionDuration") == "0s"


def test_two_fingers_zoom_and_one_moves_a_map(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / "a.html"), (390, 844), has_touch=True, is_mobile=True)
    before = exported(page)
    page.evaluate("scrollTo(0, 0)")
    send = page.context.new_cdp_session(page).send

    def touch(kind: str, *points: tuple[float, float]) -> None:
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    touch("touchStart", (160, 200), (240, 200))
    touch("touchMove", (120, 200), (280, 200))
    touch("touchEnd")
    until_zoom(page, 2)
    assert exported(page) == before
    page.evaluate("scrollTo(0, 0)")
    page.locator("#whole").tap()
    begin = 0.03 * 390 + 0.94 * 390 / 4  # the middle of the upper left frame
    touch("touchStart", (begin, begin))
    touch("touchMove", (begin + 20, begin))
    touch("touchMove", (begin + 94 * 0.39, begin))
    touch("touchEnd")
    assert exported(page)["offset"][0] == pytest.approx([0, 0.1], abs=1e-6)


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>&amp;'\"", "{{ script }}", "a b%20ü#?"])
def test_a_hostile_name_does_no_harm(name: str, tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(save(tmp_path / f"{name}.html"))
    assert page.title() == name
    assert page.locator("h1").text_content() == name
    assert page.locator("img").count() == 0
