"""Tests of huge and hostile pictures, and of special files: bounded memory, short errors, no program started."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import EpsImagePlugin, Image

from fractalops.data.targets import open_targets
from fractalops.data.targets.pictures import is_picture
from fractalops.errors import InputError
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from fractalops.io.memory import VARIABLE
from tests.support.pictures import read_with_notices


def png_bytes(width: int, height: int, bits: int = 8, kind: int = 0, content: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


# Large pictures


def scene(height: int, width: int) -> numpy.ndarray:
    """Return values (H, W, 3) like those of a photograph: smooth shades, hard edges and noise."""
    random = numpy.random.default_rng(0)
    y, x = numpy.mgrid[:height, :width]
    shade = 90 + 80 * numpy.sin(x / width * 9) * numpy.cos(y / height * 7)
    shade[(x // (width // 5) + y // (height // 4)) % 2 == 0] += 70
    values = shade[..., None] * [1.0, 0.8, 0.6] + random.normal(0, 25, (height, width, 3))
    return values.clip(0, 255).astype(numpy.uint8)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "F", "array", "floats", "turned"])
@pytest.mark.parametrize("options", [{"size": 9}, {"fit_to": 10}], ids=["Lanczos", "bilinear"])
def test_strips_of_large_pictures_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, color: bool, options: dict[str, Any]
) -> None:
    values = scene(301, 203)  # (H, W, 3), not a multiple of a strip
    gray = values[..., 0]
    picture: Any = Image.fromarray(values)
    suffix = "tif" if kind == "F" else "png"
    exif = Image.Exif()
    if kind in ("array", "floats"):
        suffix = "npy"
        numpy.save(
            tmp_path / "large.npy", values[None] if kind == "array" else values[None].astype(numpy.float32) / 255
        )
    elif kind == "turned":
        exif[0x0112] = 6
    elif kind == "P":
        picture = picture.quantize(60)
    elif kind == "I;16":
        picture = Image.fromarray(gray.astype(numpy.uint16) * 257)
    elif kind == "F":
        picture = Image.fromarray(gray.astype(numpy.float32) / 255)
    elif kind.endswith("A"):
        picture = picture.convert(kind)
        picture.putalpha(Image.fromarray(values[::-1, ::-1, 1].copy()))
    else:
        picture = picture.convert(kind)
    path = tmp_path / f"large.{suffix}"
    if suffix != "npy":
        picture.save(path, exif=exif)

    def read() -> torch.Tensor:
        return open_targets(path, PictureOptions(color=color, **options))[0]

    expected = read()
    monkeypatch.setattr("fractalops.io.preparing._STRIP", 4000)
    assert torch.equal(read(), expected)


def test_a_large_jpeg_is_decoded_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(scene(301, 411)).save(path, quality=95, subsampling=0, exif=exif)
    expected, usual = read_with_notices(path, PictureOptions(size=12, color=True))
    sizes = []
    original = Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: (sizes.append(self.size), original(self, box))[1])
    monkeypatch.setattr("fractalops.io.decoding._LARGE", 4000)
    target, notices = read_with_notices(path, PictureOptions(size=12, color=True))
    assert set(sizes) == {(52, 38)}  # 1/8 of the size
    assert notices == usual
    assert "scaled from 301 x 411 to 9 x 12 pixels" in notices
    torch.testing.assert_close(target, expected, rtol=0.0, atol=0.05)
    assert (target - expected).abs().mean() < 0.01


SIDE = 13_000
PEAK = r"""
import re, sys
from pathlib import Path
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
target = read_image(sys.argv[1], PictureOptions(size=256, color=True))
assert target.shape[-2:] == (256, 256), target.shape
# Not resource's ru_maxrss, which the process that starts this one hands down.
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) * 1024, float(target.mean()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["L.png", "RGBA.png", "I;16.png", "I;16.tif", "RGB.jpg", "P.gif"])
def test_thirteen_thousand_pixels_square_take_little_memory(tmp_path: Path, kind: str) -> None:
    mode, suffix = kind.split(".")
    tile = Image.fromarray(scene(1000, 1000))
    if mode == "I;16":
        tile = Image.fromarray(numpy.asarray(tile.convert("L")).astype(numpy.uint16) * 257)
    elif mode == "P":
        tile = tile.quantize(60)
    else:
        tile = tile.convert(mode)
    large = Image.new(tile.mode, (SIDE, SIDE))
    if mode == "P":
        large.putpalette(tile.getpalette() or [])
    for top in range(0, SIDE, 1000):
        for left in range(0, SIDE, 1000):
            large.paste(tile, (left, top))
    path = tmp_path / f"large.{suffix}"
    # Progressive JPEG needs the most memory, because its decoder keeps all coefficients.
    settings = {"png": {"compress_level": 1}, "jpg": {"progressive": True, "subsampling": 0}}
    large.save(path, **settings.get(suffix, {}))
    del large
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, mean = map(float, done.stdout.split())
    assert peak < 1.5e9
    expected = numpy.asarray(tile.convert("RGB"), dtype=float)
    if mode == "I;16":
        expected = numpy.asarray(tile) / 257
    assert mean == pytest.approx(expected.mean() / 255, abs=0.01)


@pytest.mark.parametrize(
    ("width", "height", "kind", "reason"),
    [
        (170_000_000, 1, 0, "each side must be at most 1000000 pixels, got 170000000 x 1 pixels"),
        (1, 1_000_001, 0, "each side must be at most 1000000 pixels, got 1 x 1000001 pixels"),
        (
            60_000,
            60_000,
            0,
            "it has too many pixels for Pillow (Image size (3600000000 pixels) exceeds limit of 178956970 pixels; "
            "PIL.Image.MAX_IMAGE_PIXELS raises it)",
        ),
    ],
)
def test_too_large_pictures_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, kind: int, reason: str
) -> None:
    (tmp_path / "huge.png").write_bytes(png_bytes(width, height, kind=kind))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InputError) as raised:
        read_image(tmp_path / "huge.png")
    assert str(raised.value) == f"cannot read {tmp_path / 'huge.png'}: {reason}"


def test_decoding_takes_no_more_than_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "40000")
    Image.new("L", (200, 200), 9).save(tmp_path / "gray.png")
    assert read_image(tmp_path / "gray.png").shape == (200, 200)
    for mode, suffix, needed in (("RGB", "png", "157 KiB"), ("RGB", "webp", "625 KiB")):
        path = tmp_path / f"color.{suffix}"
        Image.new(mode, (200, 200), (9, 9, 9)).save(path)
        with pytest.raises(InputError) as raised:
            read_image(path)
        takes = f"decoding 200 x 200 pixels needs {needed} of memory, but the limit is 40 KiB"
        assert str(raised.value) == f"cannot read {path}: {takes} ({VARIABLE}={needed.replace(' ', '')} raises it)"
    monkeypatch.setenv(VARIABLE, "625 KiB")
    assert read_image(path).shape == (200, 200)


def test_pictures_in_icons_are_not_decoded(tmp_path: Path) -> None:
    """JPEG 2000 takes 20 bytes per pixel, and an icon's header does not contain the size of its pictures."""
    file = io.BytesIO()
    Image.new("RGBA", (300, 300)).save(file, "JPEG2000")
    content = file.getvalue()
    block = b"ic09" + struct.pack(">I", 8 + len(content)) + content
    (tmp_path / "a.icns").write_bytes(b"icns" + struct.pack(">I", 8 + len(block)) + block)
    with pytest.raises(InputError, match=r"it is not an image in a known format$"):
        read_image(tmp_path / "a.icns")


def test_a_later_frame_is_held_to_the_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Image.new("L", (200, 200), 9)
    Image.new("L", (4, 4), 9).save(tmp_path / "pages.tif", save_all=True, append_images=[large])
    monkeypatch.setenv(VARIABLE, "10000")
    assert read_image(tmp_path / "pages.tif").shape == (4, 4)
    with pytest.raises(InputError, match="decoding 200 x 200 pixels needs 40 KiB of memory"):
        read_image(tmp_path / "pages.tif", PictureOptions(frame=2))


# Other files


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: pytest.fail("it was started"))
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "__init__", lambda *arguments: pytest.fail("it was opened"))
    for name in ("picture.png", "picture.tif", "picture.eps", "no suffix"):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=r"it is not an image in a known format$"):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="it is none of these: a picture"):
        open_targets(tmp_path / "no suffix")
    assert [is_picture(f"x.{suffix}") for suffix in ("png", "JPG", "webp", "tiff", "eps", "ps", "pdf", "wmf")] == [
        *[True] * 4,
        *[False] * 4,
    ]


@pytest.mark.parametrize("name", ["pipe.png", "pipe.npy", "pipe.npz", "pipe-idx3-ubyte", "pipe.safetensors", "pipe"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    expected = f"cannot read {tmp_path / name}: it is not a file"
    for read in (read_image, open_targets):
        with pytest.raises(InputError) as raised:
            read(tmp_path / name)
        assert str(raised.value) == expected


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(InputError) as raised:
            read_image(path)
        assert str(raised.value) == f"cannot read {path}: it is not a file"
    os.mkfifo(tmp_path / "t10k-images-idx3-ubyte")
    with pytest.raises(InputError, match="it contains no picture"):
        open_targets(tmp_path)
