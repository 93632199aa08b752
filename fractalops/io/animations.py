"""Write animations: GIF and WebP with Pillow, MP4 with an installed ffmpeg."""

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
    """Raise `InputError` unless an animation can be saved in the format given by the suffix of `path`."""
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        expected = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
        raise InputError(f"cannot save {path}: the suffix of an animation must be {expected}, got {suffix!r}")
    if suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise InputError(f"cannot save {path}: ffmpeg is not installed; install it, or save a .gif or .webp file")


def save_animation(
    frames: Iterable[Tensor],
    path: str | Path,
    *,
    frame_milliseconds: float = 120,
    last_milliseconds: float | None = 2000,
) -> None:
    """Save images as an animation: a GIF or WebP file that repeats forever, or an MP4 file.

    An MP4 file is encoded with H.264 by ffmpeg, which must be installed. A GIF file stores durations in hundredths of
    a second.

    Args:
        frames: The images, each (H, W) or (C, H, W) with values in [0, 1]. C is 1 (gray), 2 (gray and opacity), 3 (red,
            green and blue) or 4 (red, green, blue and opacity). WebP keeps the opacity. GIF makes each pixel either
            opaque or transparent. MP4 ignores it.
        path: The file to write. Its suffix is .gif, .webp or .mp4.
        frame_milliseconds: How long each frame is shown, in milliseconds. Default: 120.
        last_milliseconds: How long the last frame is shown, in milliseconds. None shows it as long as the others.
            Default: 2000.

    Raises:
        InputError: If the suffix is not supported, ffmpeg is missing or fails, or the format can't store the frames.
        ValueError: If `frames` is empty.

    Examples:
        >>> import torch
        >>> from fractalops.io.animations import save_animation
        >>> save_animation([torch.full((64, 64), level / 9) for level in range(10)], "fade.gif")
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
    """Save an H.264 video as MP4, with `rest` more copies of the last picture."""
    program = shutil.which("ffmpeg")
    assert program is not None
    pictures = iter(pictures)
    first = next(pictures)
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # common players need even sides and yuv420p
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
                pass  # ffmpeg has written the reason to `messages`
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
