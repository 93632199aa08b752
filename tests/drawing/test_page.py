"""Tests of the text of interactive pages. `test_page_pictures` and `test_page_controls` test them in a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import fractalops
from fractalops.drawing.page import page_parameters, page_text, write_page
from fractalops.errors import InputError
from fractalops.ifs import IFS
from fractalops.placement import Viewport
from fractalops.sampling import sample_attractor
from tests.support.cases import seeded


class Reader(HTMLParser):
    """A parser that collects the text of elements by id or tag, and counts start tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.within = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within:
            self.texts[self.within] = self.texts.get(self.within, "") + data


def parameters_of(text: str) -> dict[str, Any]:
    """Return the parameters that a page contains."""
    found: dict[str, Any] = json.loads(Reader(text).texts["system"])
    return found


@pytest.mark.parametrize("maps", [1, 3, 63, 300])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_parameters_read_back_are_equal(
    maps: int, channels: int | None, dtype: torch.dtype, tmp_path: Path
) -> None:
    system = IFS(1, maps, channels=channels, viewport=(-1.5, -2.0, 3.0, 2.5), generator=seeded(maps), dtype=dtype)
    if system.color is not None:
        torch.nn.init.normal_(system.color, generator=seeded(1))
    write_page(system, tmp_path / "leaf.html", size=(7, 30), intensity=0.3)
    text = (tmp_path / "leaf.html").read_text(encoding="utf-8")
    found = parameters_of(text)
    matrix, offset = system.maps()
    expected = {"matrix": matrix, "offset": offset, "probabilities": system.probabilities(), "color": system.colors()}
    for name, tensor in expected.items():
        if tensor is None:
            assert found[name] is None
        else:
            assert torch.equal(torch.tensor(found[name], dtype=tensor.dtype), tensor[0])
    assert (found["size"], found["viewport"]) == ([7, 30], [-1.5, -2.0, 3.0, 2.5])
    assert (found["blend"], found["intensity"], found["format"]) == ("add", 0.3, "fractalops.page.1")
    assert Reader(text).texts["title"] == "leaf"


def test_a_page_needs_no_network(tmp_path: Path) -> None:
    write_page(IFS(1, 5, generator=seeded(0)), tmp_path / "a.html", size=(8, 8), intensity=0.3)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert re.findall(r"https?:|//\w|@import|url\(", text) == []
    assert "default-src 'none'" in text
    assert "{{" not in text


@pytest.mark.parametrize(
    "title",
    [
        "</title><script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        '" onfocus=alert(1) autofocus="',
        "&amp; & &lt;b> {{ script }} {{ parameters }} \\u003c $& \\1",
        "<!--",
        "Blätter 葉 \u2028",
        "",
    ],
)
def test_a_hostile_title_stays_text(title: str) -> None:
    parameters = page_parameters(IFS(1, 2, generator=seeded(0)), size=(8, 8), intensity=0.3)
    plain, hostile = (Reader(page_text(parameters, each)) for each in ("leaf", title))
    assert hostile.tags == plain.tags
    assert hostile.texts.get("title", "") == title
    assert hostile.texts["script"] == plain.texts["script"]
    assert hostile.texts["system"] == plain.texts["system"]


def test_a_name_that_is_not_text_is_replaced() -> None:
    parameters = page_parameters(IFS(1, 2, generator=seeded(0)), size=(8, 8), intensity=0.3)
    assert "<title>caf?</title>" in page_text(parameters, "caf\udce9")


def test_no_value_ends_the_element_of_the_parameters() -> None:
    parameters = {"blend": "</script><script>alert(1)</script><!--"}
    assert parameters_of(page_text(parameters, "leaf")) == parameters


@pytest.mark.parametrize("size", [(20, 20), (12, 40)])
@pytest.mark.parametrize("viewport", ["stretch", "fit"])
def test_a_viewport_that_follows_the_points_becomes_numbers(viewport: Viewport, size: tuple[int, int]) -> None:
    system = IFS(1, 4, viewport=viewport, generator=seeded(3))
    found = page_parameters(system, size=size, intensity=0.3)
    x_min, y_min, x_max, y_max = found["viewport"]
    generator = seeded(7)
    sample = sample_attractor(*system.maps(), system.probabilities(), 50_000, generator=generator)
    low, high = sample.points.flatten(0, 2).aminmax(dim=0)
    margin = 0.02 * (high - low)
    # No point is outside the picture, and points touch both of its sides along at least one axis.
    gaps = torch.stack((low - torch.tensor([x_min, y_min]), torch.tensor([x_max, y_max]) - high))  # (2, 2)
    assert bool((gaps > -margin).all())
    touched = (gaps < margin).all(dim=0)
    assert bool(touched.all() if viewport == "stretch" else touched.any())
    if viewport == "fit":
        assert (x_max - x_min) / (y_max - y_min) == pytest.approx((size[0] - 1) / (size[1] - 1), rel=1e-4)


@pytest.mark.parametrize("what", ["systems", "channels", "size"])
def test_what_no_page_can_hold_is_refused(what: str, tmp_path: Path) -> None:
    system = IFS(2 if what == "systems" else 1, 3, channels=2 if what == "channels" else None, generator=seeded(0))
    with pytest.raises(ValueError, match=rf"^write_page: {'size' if what == 'size' else 'system'} must "):
        write_page(system, tmp_path / "a.html", size=(0 if what == "size" else 8, 8), intensity=0.3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    system = IFS(1, 3, parametrization="matrix", generator=seeded(0))
    with torch.no_grad():
        system.offset[0, 1, 0] = value
    with pytest.raises(InputError, match=r"^cannot draw the system: some of its parameters are NaN or infinite$"):
        write_page(system, tmp_path / "a.html", size=(8, 8), intensity=0.3)
    assert list(tmp_path.iterdir()) == []


def test_points_that_give_the_viewport_no_size_are_refused() -> None:
    system = IFS(1, 2, parametrization="matrix", viewport="stretch", generator=seeded(0))
    with torch.no_grad():
        system.get_parameter("matrix").zero_()
        system.offset.zero_()
    with pytest.raises(InputError, match="its points have no finite extent for the viewport 'stretch'"):
        page_parameters(system, size=(8, 8), intensity=0.3)


def test_a_result_of_one_image_saves_its_page(tmp_path: Path) -> None:
    config = fractalops.FitConfig(maps=3, points=20, sequences=2, steps=0)
    result = fractalops.fit(torch.eye(4, 8).expand(2, 4, 8), config)
    with pytest.raises(ValueError, match=r"^FitResult.save_page: the result must have one image, got 2$"):
        result.save_page(tmp_path / "a.html")
    result[1].save_page(tmp_path / "a.html")
    found = parameters_of((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert torch.equal(torch.tensor(found["offset"]), result.system.offset[1])
    assert (found["size"], found["intensity"]) == ([4, 8], 20 / 32)
