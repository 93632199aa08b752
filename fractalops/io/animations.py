"""Animations as files: GIF and WebP by Pillow, MP4 by an installed ffmpeg."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from PIL import Image
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import atomic_path
from fractalops.io.images import format_of, saving, to_picture

_SUFFIXES = (".gif", ".webp", ".mp4")


def check_animation(path: str | Path) -> None:
    """Raise `InputError` unless an animation can be saved in the format that the suffix of `path` names."""
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"cannot save {path}: an animation is a {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file")
    if suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise InputError(f"cannot save {path}: ffmpeg is not installed (.gif and .webp need none)")


def save_animation(
    frames: Iterable[Tensor],
    path: str | Path,
    *,
    frame_milliseconds: float = 120,
    last_milliseconds: float | None = 2000,
) -> None:
    """Save images, each (H, W) or (C, H, W) with values in [0, 1], as an endless GIF or WebP or as an MP4.

    The second and the fourth channel are opacity, which WebP keeps, and GIF as all or nothing. The last frame rests
    for `last_milliseconds`, and for as long as the others if that is None. GIF counts in hundredths of a second.

    Raises `InputError` for another suffix, where ffmpeg is missing or fails, and for frames that the format can't hold;
    `ValueError` without frames.
    """
    check_animation(path)
    pictures = map(to_picture, frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("save_animation: frames must not be empty, got 0 frames")
    if Path(path).suffix.lower() == ".mp4":
        rest = 0 if last_milliseconds is None else round(last_milliseconds / frame_milliseconds) - 1
        _save_video(itertools.chain([first], pictures), path, 1000 / frame_milliseconds, max(0, rest))
        return
    duration: int | list[int] = round(frame_milliseconds)
    others: Iterable[Image.Image] = pictures
    if last_milliseconds is not None:
        others = list(pictures)
        duration = [round(frame_milliseconds)] * len(others) + [round(last_milliseconds)]
    with saving(path) as file:
        first.save(file, format_of(path), save_all=True, append_images=others, duration=duration, loop=0)


def _save_video(pictures: Iterable[Image.Image], path: str | Path, fps: float, rest: int) -> None:
    """Save an MP4 of H.264, its last picture repeated `rest` times."""
    program = shutil.which("ffmpeg")
    assert program is not None
    pictures = iter(pictures)
    first = next(pictures)
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # which the usual players ask for, like the format of pixels
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as messages:
        command = [program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{first.width}x{first.height}", "-r", f"{fps:g}", "-i", "-"]
        command += ["-vf", even, "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(temporary)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=messages, stderr=messages) as process:
            assert process.stdin is not None
            try:
                for picture in itertools.chain([first], pictures):
                    content = picture.convert("RGB").tobytes()
                    process.stdin.write(content)
                process.stdin.write(content * rest)
            except BrokenPipeError:
                pass  # ffmpeg has said why
            except BaseException:
                process.kill()
                raise
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            code = process.wait()
        if code != 0:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").split("\n")
            raise InputError(f"cannot save {path}: ffmpeg failed ({next(filter(None, lines), f'code {code}')})")
