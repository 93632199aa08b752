"""Tests of animations and files with several pages: the choice of a frame, which is read as a viewer shows it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops.data.targets import TensorTargets, open_targets
from fractalops.errors import InputError
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from tests.support.pictures import Frame, gif_bytes, read_with_notices

FORMATS = ["gif", "png", "webp", "tif"]


def save_frames(path: Path, frames: list[Image.Image]) -> None:
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True, duration=100)


def bars(count: int) -> list[Image.Image]:
    """Return frames of 6 x 4 pixels with a white column that moves to the right."""
    frames = []
    for number in range(count):
        frame = Image.new("L", (6, 4))
        frame.paste(255, (number, 0, number + 1, 4))
        frames.append(frame)
    return frames


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_are_counted_from_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    save_frames(path, bars(5))
    for number in range(1, 6):
        target, notices = read_with_notices(path, PictureOptions(frame=number))
        assert torch.equal(target[:, number - 1], torch.ones(4))
        assert target.sum() == 4
        assert notices == []
    first, notices = read_with_notices(path)
    assert torch.equal(first, read_image(path, PictureOptions(frame=1)))
    assert notices == ["5 frames: frame 1 is used (frame=N selects another one)"]
    with pytest.raises(InputError) as raised:
        read_image(path, PictureOptions(frame=6))
    assert str(raised.value) == f"cannot read {path}: frame must be at most 5, got 6"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_blank_frame_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    save_frames(path, [Image.new("L", (6, 4)), *bars(2)])
    with pytest.raises(InputError) as raised:
        read_image(path)
    text = str(raised.value)
    assert text.startswith(f"cannot use {path}: image must not be blank")
    assert text.endswith("; it has 3 frames, and frame=N selects another one")
    assert read_image(path, PictureOptions(frame=2)).sum() == 4


def test_what_has_no_frames_has_one(tmp_path: Path) -> None:
    bars(1)[0].save(tmp_path / "still.png")
    numpy.save(tmp_path / "stack.npy", numpy.ones((2, 4, 4), dtype=numpy.float32))
    assert read_image(tmp_path / "still.png", PictureOptions(frame=1)).sum() == 4
    second = PictureOptions(frame=2)
    stack = open_targets(tmp_path / "stack.npy", second)
    reads = [
        lambda: read_image(tmp_path / "still.png", second),
        lambda: stack[1],
        lambda: TensorTargets.from_iterable([numpy.ones((4, 4))], second),
        lambda: TensorTargets.from_iterable(bars(1), second),
    ]
    for read in reads:
        with pytest.raises(InputError, match=r"^cannot read .*: frame must be at most 1, got 2$"):
            read()


def test_an_open_picture_keeps_its_frame(tmp_path: Path) -> None:
    save_frames(tmp_path / "moving.gif", bars(3))
    with Image.open(tmp_path / "moving.gif") as picture:
        picture.seek(2)
        assert TensorTargets.from_iterable([picture])[0][:, 2].sum() == 4
        assert TensorTargets.from_iterable([picture], PictureOptions(frame=2))[0][:, 1].sum() == 4


def test_pages_have_their_own_size_and_bits(tmp_path: Path) -> None:
    deep = Image.fromarray(numpy.full((3, 5), 65535, dtype=numpy.uint16))
    save_frames(tmp_path / "pages.tif", [Image.new("RGB", (6, 4), (255, 0, 0)), deep, Image.new("1", (2, 2), 1)])
    shapes = [read_image(tmp_path / "pages.tif", PictureOptions(frame=number)).shape for number in (1, 2, 3)]
    assert shapes == [(4, 6), (3, 5), (2, 2)]
    assert read_image(tmp_path / "pages.tif", PictureOptions(frame=2)).min() == 1.0


PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
OTHER = ((255, 255, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))


def composed(size: tuple[int, int], frames: list[Frame]) -> list[numpy.ndarray]:
    """Return what a viewer shows at each frame over white, (H, W, 3), by the specification of GIF89a."""
    width, height = size
    canvas = numpy.zeros((height, width, 4), dtype=int)  # transparent
    shown = []
    for frame in frames:
        left, top = frame.corner
        inside = (slice(top, top + frame.indices.shape[0]), slice(left, left + frame.indices.shape[1]))
        before = canvas.copy()
        drawn = frame.indices != frame.transparent
        colors = numpy.array(frame.palette or PALETTE)[frame.indices]
        canvas[inside][drawn] = numpy.concatenate([colors, numpy.full((*drawn.shape, 1), 255)], axis=-1)[drawn]
        shown.append(numpy.where(canvas[..., 3:] > 0, canvas[..., :3], 255))
        if frame.disposal == 2:
            canvas[inside] = 0
        elif frame.disposal == 3:
            canvas = before
    return shown


@pytest.mark.parametrize("own", [False, True], ids=["one palette", "palettes"])
@pytest.mark.parametrize("disposals", list(product([0, 1, 2, 3], repeat=2)))
def test_partial_frames_are_composed_as_a_viewer_does(tmp_path: Path, disposals: tuple[int, int], own: bool) -> None:
    random = numpy.random.default_rng(sum(disposals))
    size = (9, 7)
    frames = [Frame((0, 0), random.integers(0, 4, (7, 9)), 1, transparent=0)]
    for number, disposal in enumerate((*disposals, 1)):  # 0: unspecified, the frame stays
        corner = (number + 1, 2 - number)
        palette = OTHER if own and number == 1 else None
        frames.append(Frame(corner, random.integers(0, 4, (4, 5)), disposal, transparent=2, palette=palette))
    path = tmp_path / "partial.gif"
    path.write_bytes(gif_bytes(size, PALETTE, frames))
    for number, expected in enumerate(composed(size, frames), 1):
        target = read_image(path, PictureOptions(frame=number, color=True, background="white"))
        torch.testing.assert_close(target, torch.from_numpy(expected / 255).float().permute(2, 0, 1))
