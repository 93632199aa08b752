"""Shared parts of the tests of interactive pages: systems, and how a browser shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from fractalops.drawing.page import write_page
from fractalops.ifs import IFS

# In this stage the whole picture is from (52, 12) to (428, 388): the controls take 320 pixels of the width.
SIZE = (800, 400)
LEFT, TOP, SIDE = 52, 12, 376
INTENSITY = 0.1
COLORS = torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 1.0]])
# The means of each channel (0 to 255) over blocks of 16 x 16 pixels, from the stage's upper left corner.
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


def settle(page: Any) -> None:
    """Wait until the picture is finished."""
    # Two frames: by then, the effects of earlier actions are being drawn.
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    page.wait_for_selector('#picture[aria-busy="false"]')


def blocks(page: Any) -> numpy.ndarray:
    """Return the block means (rows, columns, 3) of the finished picture, in [0, 1]."""
    settle(page)
    found = page.eval_on_selector("#picture", BLOCKS)
    return numpy.array(found["sums"]).reshape(found["rows"], found["columns"], 3) / 255


def difference(one: numpy.ndarray, other: numpy.ndarray) -> float:
    return float(numpy.abs(one - other).mean())


def triangle(colors: torch.Tensor | None = None) -> IFS:
    """Return the Sierpinski triangle with corners (0, 0), (0, 1) and (1, 0), x downwards. It fills its viewport."""
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
    """Return the current parameters, which the page saves as a file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the current parameters").click()
    found: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return found


def on_stage(u: float, v: float) -> tuple[float, float]:
    """Return the initial position on the stage, in pixels, of a point (right, down) of the picture in [0, 1]."""
    return LEFT + SIDE * u, TOP + SIDE * v


def until_zoom(page: Any, factor: float) -> None:
    """Wait until the view has a zoom of `factor`: pointer events are asynchronous."""
    for _ in range(200):
        if float(page.locator("#zoom").get_attribute("value")) == pytest.approx(factor, rel=1e-3):
            return
        page.wait_for_timeout(10)
    pytest.fail(f"the zoom must become {factor}, got {page.locator('#zoom').text_content()}")
