"""Tests of files of animations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.animations import check_animation, save_animation


def moving(channels: int, frames: int = 4) -> Iterator[Tensor]:
    """Yield opaque frames (C, 5, 7) in which a bright column moves."""
    for number in range(frames):
        frame = torch.zeros(channels, 5, 7)
        frame[:, :, number] = 1 - number / 8
        if channels in (2, 4):
            frame[-1] = 1
        yield frame


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [None, 900])
def test_frames_come_back(suffix: str, channels: int, last: int | None, tmp_path: Path) -> None:
    path = tmp_path / f"moving{suffix}"
    save_animation(moving(channels), path, frame_milliseconds=50, last_milliseconds=last)
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.size) == (4, (7, 5))
        assert animation.info.get("loop") == 0
        for number in range(4):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == (last if last and number == 3 else 50)
            row = [animation.convert("L").getpixel((column, 2)) for column in range(7)]
            assert max(range(7), key=row.__getitem__) == number


def test_a_transparent_animation(tmp_path: Path) -> None:
    frames = [torch.cat((torch.ones(3, 4, 4), torch.full((1, 4, 4), level))) for level in (0.2, 0.8)]
    save_animation(frames, tmp_path / "clear.webp")
    with Image.open(tmp_path / "clear.webp") as animation:
        for number, level in enumerate((51, 204)):
            animation.seek(number)
            assert animation.convert("RGBA").getpixel((1, 1))[3] == level


def test_what_can_not_be_saved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"^cannot save a.png: the suffix of an animation must be .gif, .webp or .mp4, got '.png'$"
    ):
        check_animation("a.png")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"^cannot save a.mp4: ffmpeg is not installed; install it, or save a .gif or .webp file$"
    ):
        save_animation(moving(1), "a.mp4")
    for suffix in (".gif", ".webp"):
        with pytest.raises(ValueError, match="frames must not be empty"):
            save_animation([], tmp_path / f"none{suffix}")
    assert list(tmp_path.iterdir()) == []


def pretend(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named ffmpeg first on the path."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_video_is_piped_to_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, f'echo "$@" > {tmp_path}/called; for last in "$@"; do :; done; cat > "$last"', monkeypatch)
    save_animation(moving(1), tmp_path / "a.mp4", frame_milliseconds=40, last_milliseconds=120)
    arguments = (tmp_path / "called").read_text()
    assert "-f rawvideo -pix_fmt rgb24 -s 7x5 -r 25 -i -" in arguments
    assert "-pix_fmt yuv420p" in arguments
    content = torch.frombuffer(bytearray((tmp_path / "a.mp4").read_bytes()), dtype=torch.uint8)
    frames = content.view(6, 5, 7, 3)  # the last frame is shown for three
    assert torch.equal(frames[3], frames[5])
    for number, frame in enumerate(itertools.islice(moving(1), 4)):
        assert torch.equal(frames[number, :, :, 1], (frame[0] * 255).round().to(torch.uint8))


@pytest.mark.parametrize(
    "script", ["cat > /dev/null; echo no such encoder >&2; exit 3", "echo no such encoder; exit 1"]
)
def test_a_failure_of_ffmpeg_is_one_line(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, script, monkeypatch)
    with pytest.raises(InputError, match=r"a.mp4: ffmpeg failed \(no such encoder\)$"):
        save_animation(itertools.chain.from_iterable(moving(3) for _ in range(300)), tmp_path / "a.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"ffmpeg"}
