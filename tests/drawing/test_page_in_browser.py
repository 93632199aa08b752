"""What an interactive page does, in headless Chromium."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from fractalops.drawing.high_resolution import draw_high_resolution
from fractalops.drawing.page import page_parameters, page_text, write_page
from fractalops.ifs import IFS
from tests.support.browser import open_browser
from tests.support.cases import seeded

pytestmark = pytest.mark.slow

# A stage in which the whole picture lies from (52, 12) to (428, 388): the controls take 320 pixels of the width.
SIZE = (800, 400)
LEFT, TOP, SIDE = 52, 12, 376
INTENSITY = 0.1
COLORS = torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 1.0]])
# The means of each channel (0 to 255) over blocks of 16 x 16 pixels, from the stage's upper left corner on.
BLOCKS = """canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data, width, height } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const [rows, columns] = [Math.floor(height / 16), Math.floor(width / 16)];
    const sums = Array.from({ length: rows * columns * 3 }, () => 0);
    for (let y = 0; y < rows * 16; y++) for (let x = 0; x < columns * 16; x++) for (let c = 0; c < 3; c++) {
        sums[((y >> 4) * columns + (x >> 4)) * 3 + c] += data[(y * width + x) * 4 + c] / 256;
    }
    return { rows, columns, sums };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file as a page; at the test's end nothing may have been complained of or asked of the network."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def visit(path: Path, size: tuple[int, int] = SIZE, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        settle(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []


def settle(page: Any) -> None:
    """Wait until the picture is finished."""
    # The frame after the next one: whatever was done is being drawn by then.
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    page.wait_for_selector('#picture[aria-busy="false"]')


def blocks(page: Any) -> numpy.ndarray:
    """The finished picture (rows, columns, 3), coarse, in [0, 1]."""
    settle(page)
    found = page.eval_on_selector("#picture", BLOCKS)
    return numpy.array(found["sums"]).reshape(found["rows"], found["columns"], 3) / 255


def difference(one: numpy.ndarray, other: numpy.ndarray) -> float:
    return float(numpy.abs(one - other).mean())


def triangle(colors: torch.Tensor | None = None) -> IFS:
    """The Sierpinski triangle with its corners at (0, 0), (0, 1) and (1, 0), x downwards, which fills its viewport."""
    channels = None if colors is None else colors.shape[1]
    system = IFS(1, 3, parametrization="matrix", channels=channels, viewport=(0.0, 0.0, 1.0, 1.0))
    offset = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]])
    color = {} if colors is None else {"color": colors.logit()[None]}
    system.load_state_dict({"matrix": 0.5 * torch.eye(2).expand(1, 3, 2, 2), "offset": offset, **color})
    return system


def save(path: Path, colors: torch.Tensor | None = None) -> Path:
    write_page(triangle(colors), path, size=(32, 32), intensity=INTENSITY)
    return path


def exported(page: Any) -> dict[str, Any]:
    """The parameters as they are now, which the page saves as a file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save them as they are now").click()
    found: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return found


def on_stage(u: float, v: float) -> tuple[float, float]:
    """Where a point of the picture, to the right and downwards in [0, 1], is on the stage at first, in pixels."""
    return LEFT + SIDE * u, TOP + SIDE * v


def drag(page: Any, begin: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*begin)
    page.mouse.down()
    page.mouse.move(*((a + b) / 2 for a, b in zip(begin, end, strict=True)))
    page.mouse.move(*end)
    page.mouse.up()


def until_zoom(page: Any, factor: float) -> None:
    """Wait until the view has come to a zoom: pointer events come on their own time."""
    for _ in range(200):
        if float(page.locator("#zoom").get_attribute("value")) == pytest.approx(factor, rel=1e-3):
            return
        page.wait_for_timeout(10)
    pytest.fail(f"the zoom must become {factor}, got {page.locator('#zoom').text_content()}")


def zoom_in(page: Any, doublings: int, at: tuple[float, float]) -> None:
    page.mouse.move(*at)
    for _ in range(doublings):
        page.mouse.wheel(0, -math.log(2) / 0.002)
    until_zoom(page, 2**doublings)


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
    corners = {(1, 4): COLORS[0], (22, 4): COLORS[1], (1, 25): COLORS[2]}  # blocks of one map alone, by row and column
    for (row, column), color in corners.items():
        lit = found[row, column] - 0.5  # against the background, which shows through the holes
        ratio = lit / (color.numpy() - 0.5)
        assert ratio == pytest.approx(numpy.full(3, ratio[0]), abs=0.02)
        assert ratio[0] > 0.3
    assert found[22, 25] == pytest.approx(numpy.full(3, 0.5), abs=0.005)


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
    # From the lower right corner of the frame halfway to the lower left one: a quarter turn, at half the size.
    drag(page, on_stage(0.5, 1.0), on_stage(0.125, 0.875))
    changed = exported(page)
    # x is downwards: a quarter turn by the clock takes y, to the right, to x.
    assert changed["matrix"][1] == [pytest.approx([0, 0.25], abs=1e-9), pytest.approx([-0.25, 0], abs=1e-9)]
    middle = torch.tensor(changed["matrix"][1]) @ torch.tensor([0.5, 0.5]) + torch.tensor(changed["offset"][1])
    torch.testing.assert_close(middle, torch.tensor([0.75, 0.25]))
    assert changed["probabilities"][1] == pytest.approx(1 / 9)  # a quarter of the plane that it had
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


@pytest.mark.parametrize(("doublings", "colors"), [(10, None), (20, COLORS), (38, None), (38, COLORS)])
def test_a_deep_zoom_shows_what_the_system_has_there(
    doublings: int, colors: torch.Tensor | None, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    """The triangle is the same at every power of two about its corners."""
    page = visit(save(tmp_path / "a.html", colors))
    zoom_in(page, 3, on_stage(0, 0))
    near = blocks(page)
    assert near.mean() > 0.03
    page.keyboard.press("0")
    zoom_in(page, doublings, on_stage(0, 0))
    deep = blocks(page)
    assert difference(deep, near) < 0.01
    assert page.locator("#points").text_content() not in ("0", "")


def similarities(*maps: tuple[float, float, float, float]) -> IFS:
    """Maps of a scale, an angle and an offset, seen in a square around the origin."""
    system = IFS(1, len(maps), parametrization="matrix", viewport=(-1.0, -1.0, 1.0, 1.0))
    turns = [[[s * math.cos(a), -s * math.sin(a)], [s * math.sin(a), s * math.cos(a)]] for s, a, _, _ in maps]
    system.load_state_dict({"matrix": torch.tensor([turns]), "offset": torch.tensor([[m[2:] for m in maps]])})
    return system


def zoom_by_keys(page: Any, presses: int) -> numpy.ndarray:
    """The picture after so many zooms by 1.5 about the middle of the stage."""
    page.keyboard.press("0")
    for _ in range(presses):
        page.keyboard.press("+")
    until_zoom(page, 1.5**presses)
    return blocks(page)


def test_a_deep_zoom_into_a_spiral_shows_it_turned(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The first map keeps the middle, scales by 1 / 1.5 and makes a fifth of a turn: five zooms show the same again."""
    system = similarities((1 / 1.5, 2 * math.pi / 5, 0.0, 0.0), (0.4, 1.0, 0.5, 0.3))
    write_page(system, tmp_path / "a.html", size=(32, 32), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    near, deep = zoom_by_keys(page, 10), zoom_by_keys(page, 65)  # to 2.8 x 10^11
    assert 0.01 < near.mean() < 0.5
    assert difference(near, deep) < 0.02


def test_a_deep_zoom_into_maps_that_overlap_is_full(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """Four maps that fill a square twice over: at this depth more words than anybody can count meet each window."""
    system = similarities(
        *((0.7, 0.1 * i, x, y) for i, (x, y) in enumerate(((0.2, 0.2), (-0.2, 0.2), (0.2, -0.2), (-0.2, -0.2))))
    )
    write_page(system, tmp_path / "a.html", size=(32, 32), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    for presses in (20, 60):
        assert (zoom_by_keys(page, presses) > 0.1).mean() > 0.95


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
    page.keyboard.press("ArrowDown")  # two hundredths of 400 pixels
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
    found = blocks(page)[1, 4]  # at the corner of map 1
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
    """The points of the first system run away; those of the second, one of whose maps grows, mostly stay near."""
    system = triangle()
    with torch.no_grad():
        system.get_parameter("matrix")[0, : 3 if scale > 2 else 1].mul_(2 * scale)
    write_page(system, tmp_path / "a.html", size=(20, 30), intensity=INTENSITY)
    page = visit(tmp_path / "a.html")
    for _ in range(10):
        page.keyboard.press("+")
    assert (blocks(page) > 0.02).any() or scale > 2
