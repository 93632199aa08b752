"""Tests of bit depths, color spaces, color profiles and orientations of pictures, against their formats' rules."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from fractalops.errors import InputError
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from tests.support.pictures import icc_bytes, read_with_notices, tiff_bytes

# The primaries and the white of sRGB in XYZ, adapted to D50.
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
WHITE = (0.9642, 1.0, 0.8249)

RAMP = numpy.arange(12, dtype=numpy.uint16).reshape(3, 4)  # (H, W)


def ramp(bits: int) -> numpy.ndarray:
    """Return values (3, 4) from 0 to the highest value of `bits` bits."""
    return (RAMP.astype(float) * (2**bits - 1) / 11).round().astype(numpy.uint16)


# More than 8 bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_few_bits_in_sixteen_are_noticed_and_stretched(tmp_path: Path, bits: int, suffix: str) -> None:
    values, path = ramp(bits), tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    target, notices = read_with_notices(path)
    torch.testing.assert_close(target, torch.from_numpy(values / 65535).float())
    high = 2**bits - 1
    dark = f"dark: the highest value is {high} of 65535; stretch=True scales it to 1"
    assert notices == ([dark] if bits < 15 else [])
    target, notices = read_with_notices(path, PictureOptions(stretch=True))
    torch.testing.assert_close(target, torch.from_numpy(values / high).float())
    assert notices == [f"values from 0 to {high} are stretched to [0, 1]"]


def test_values_are_stretched_from_the_lowest_to_the_highest_of_all_channels(tmp_path: Path) -> None:
    Image.fromarray(numpy.array([[[51, 60, 70], [80, 102, 90]]], dtype=numpy.uint8)).save(tmp_path / "color.png")
    target, notices = read_with_notices(tmp_path / "color.png", PictureOptions(color=True, stretch=True))
    expected = (torch.tensor([[[51.0, 80]], [[60, 102]], [[70, 90]]]) - 51) / 51
    torch.testing.assert_close(target, expected)
    assert notices == ["values from 51 to 102 are stretched to [0, 1]"]
    # The range of values is that of the file, before it is scaled down.
    values = numpy.zeros((40, 40), dtype=numpy.uint8)
    values[:20], values[3, 3] = 50, 100
    Image.fromarray(values).save(tmp_path / "large.png")
    target = read_image(tmp_path / "large.png", PictureOptions(size=4, stretch=True))
    assert target[1, 1:].mean() == pytest.approx(0.5, abs=0.05)


def test_stretching_comes_before_invert_and_threshold(tmp_path: Path) -> None:
    Image.fromarray(numpy.array([[10, 20, 30]], dtype=numpy.uint8)).save(tmp_path / "dark.png")
    options = PictureOptions(stretch=True, invert=True, threshold=0.4)
    assert read_image(tmp_path / "dark.png", options).tolist() == [[1.0, 1.0, 0.0]]
    Image.new("L", (3, 3), 99).save(tmp_path / "flat.png")
    with pytest.raises(InputError, match=r"every pixel has the same value, which stretch=True makes black"):
        read_image(tmp_path / "flat.png", PictureOptions(stretch=True))


def test_twelve_bits_that_a_tiff_declares_keep_their_scale(tmp_path: Path) -> None:
    values = [0, 1000, 4095, 2048]
    packed = b"".join(struct.pack(">I", a << 12 | b)[1:] for a, b in zip(values[::2], values[1::2], strict=True))
    (tmp_path / "twelve.tif").write_bytes(tiff_bytes((4, 1), [packed], (12,), 1))
    target, notices = read_with_notices(tmp_path / "twelve.tif")
    torch.testing.assert_close(target, torch.tensor([values]) / 4095)
    assert notices == []


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, "<u2"), (32, "<f4")])
def test_a_tiff_may_count_from_white(tmp_path: Path, bits: int, kind: str) -> None:
    shares = numpy.array([[0.0, 0.2, 0.6, 1.0]])
    values = (shares * (1 if kind == "<f4" else 2**bits - 1)).round(6).astype(kind)
    tags = {339: (3,)} if kind == "<f4" else {}  # floating-point
    (tmp_path / "negative.tif").write_bytes(tiff_bytes((4, 1), [values.tobytes()], (bits,), 0, tags))
    torch.testing.assert_close(read_image(tmp_path / "negative.tif"), torch.from_numpy(1 - shares).float())


def deep_color_png(values: numpy.ndarray, kind: int, chunks: bytes = b"") -> bytes:
    """Return a PNG of 16 bits per value, (H, W) or (H, W, channels). Pillow writes none in color."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    key = chunk(b"tRNS", chunks) if chunks else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("layout", ["png", "tif", "planes.tif"])
def test_colors_of_sixteen_bits_are_read_as_eight_with_a_notice(tmp_path: Path, layout: str) -> None:
    values = numpy.random.default_rng(0).integers(0, 65536, (3, 5, 3)).astype("<u2")
    values[0, 0] = 65535
    path = tmp_path / f"deep.{layout}"
    if layout == "png":
        path.write_bytes(deep_color_png(values, 2))
    else:
        planes = [values[..., band].tobytes() for band in range(3)] if "planes" in layout else [values.tobytes()]
        path.write_bytes(tiff_bytes((5, 3), planes, (16, 16, 16), 2))
    if layout == "planes.tif":
        with pytest.raises(
            InputError, match=r"16-bit colors in separate planes are not supported; save them interleaved$"
        ):
            read_image(path)
        return
    target, notices = read_with_notices(path, PictureOptions(color=True))
    expected = torch.from_numpy(values.astype(int)).permute(2, 0, 1) / 65535
    torch.testing.assert_close(target, expected.float(), rtol=0.0, atol=1 / 255)
    assert "16-bit colors are read as 8-bit colors" in notices


def test_dark_colors_of_sixteen_bits_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(deep_color_png(numpy.stack([ramp(12)] * 3, axis=-1), 2))
    _, notices = read_with_notices(tmp_path / "deep.png")
    dark = "dark: the highest value is 15 of 255; stretch=True scales it to 1"
    assert notices == ["16-bit colors are read as 8-bit colors", dark]


@pytest.mark.parametrize("background", ["black", "white"])
def test_sixteen_bits_with_transparent_parts(tmp_path: Path, background: Any) -> None:
    options = PictureOptions(background=background, color=True)
    behind = float(background == "white")
    gray = numpy.array([[0, 0x1234, 65535]])
    (tmp_path / "key.png").write_bytes(deep_color_png(gray, 0, struct.pack(">H", 0x1234)))
    target, notices = read_with_notices(tmp_path / "key.png", options)
    torch.testing.assert_close(target, torch.tensor([[0.0, behind, 1.0]]).expand(3, 1, 3))
    assert notices[0] == f"transparent parts are drawn on {background}"
    colors = numpy.array([[[65535, 0, 0], [0x1234, 0x5678, 0x9ABC]]])
    (tmp_path / "color.png").write_bytes(deep_color_png(colors, 2, struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC)))
    target = read_image(tmp_path / "color.png", options)
    torch.testing.assert_close(target[:, 0, 1], torch.full((3,), behind))
    assert target[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    alpha = numpy.array([[[32768, 65535], [65535, 0], [65535, 32768]]])
    (tmp_path / "alpha.png").write_bytes(deep_color_png(alpha, 4))
    target = read_image(tmp_path / "alpha.png", options)
    torch.testing.assert_close(target[0], torch.tensor([[0.5, behind, 0.5 + behind / 2]]), rtol=0.0, atol=1 / 255)


# Color spaces


@pytest.mark.parametrize("color", [False, True])
def test_cmyk_of_adobe_is_inverted_in_a_jpeg_and_not_in_a_tiff(tmp_path: Path, color: bool) -> None:
    inks = numpy.zeros((16, 32, 4), dtype=numpy.uint8)  # cyan, magenta, yellow, black
    inks[:, 16:] = [0, 255, 255, 51]
    for suffix in ("jpg", "tif"):
        Image.frombytes("CMYK", (32, 16), inks.tobytes()).save(tmp_path / f"inks.{suffix}", quality=100)
        target = read_image(tmp_path / f"inks.{suffix}", PictureOptions(color=color))
        paper, red = target[..., 3], target[..., -3]
        torch.testing.assert_close(paper, torch.ones_like(paper), rtol=0.0, atol=0.01)
        expected = torch.tensor([0.8, 0.0, 0.0]) if color else torch.tensor(0.8 * 0.299)
        torch.testing.assert_close(
            red, expected.view(-1, 1).expand_as(red) if color else expected.expand_as(red), rtol=0.0, atol=0.01
        )


def test_lab_becomes_srgb(tmp_path: Path) -> None:
    colors = torch.tensor([[0.2, 0.5, 0.7], [0.8, 0.3, 0.4], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]])
    linear = torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    ratio = linear @ torch.tensor([RED, GREEN, BLUE]) / torch.tensor(WHITE)
    root = torch.where(ratio > (6 / 29) ** 3, ratio ** (1 / 3), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root.T
    lab = torch.stack([(116 * y - 16) * 2.55, 500 * (x - y), 200 * (y - z)], dim=1).round().int()  # (4, 3)
    data = bytes((lab % 256).flatten().tolist())  # a* and b* are signed
    (tmp_path / "lab.tif").write_bytes(tiff_bytes((4, 1), [data], (8, 8, 8), 8))
    target = read_image(tmp_path / "lab.tif", PictureOptions(color=True))
    torch.testing.assert_close(target[:, 0].T, colors, rtol=0.0, atol=0.02)
    with Image.open(tmp_path / "lab.tif") as picture:
        picture.save(tmp_path / "with profile.tif", icc_profile=LINEAR_RGB)
    again, notices = read_with_notices(tmp_path / "with profile.tif", PictureOptions(color=True))
    assert torch.equal(again, target)
    assert not [notice for notice in notices if "profile" in notice]


@pytest.mark.parametrize(("mode", "alpha"), [("LA", 0), ("RGBA", 0), ("PA", 0), ("RGBA", 128)])
def test_transparent_color_is_mixed_with_the_background(tmp_path: Path, mode: str, alpha: int) -> None:
    picture = Image.new("RGBA", (2, 1), (100, 100, 100, 255))
    picture.putpixel((1, 0), (200, 200, 200, alpha))
    suffix = "tif" if mode == "PA" else "png"
    picture.convert(mode).save(tmp_path / f"clear.{suffix}")
    target = read_image(tmp_path / f"clear.{suffix}", PictureOptions(background="white", color=True))
    expected = torch.tensor([[100.0, 200 * alpha / 255 + 255 - alpha]]) / 255
    torch.testing.assert_close(target, expected.expand(3, 1, 2), rtol=0.0, atol=1 / 255)


def test_a_gray_key_of_a_png_is_transparent(tmp_path: Path) -> None:
    for mode, key in (("L", 90), ("RGB", (90, 90, 90))):
        picture = Image.new(mode, (2, 1), 30 if mode == "L" else (30, 30, 30))
        picture.putpixel((1, 0), key)
        picture.save(tmp_path / "key.png", transparency=key)
        target, notices = read_with_notices(tmp_path / "key.png", PictureOptions(background="white"))
        torch.testing.assert_close(target, torch.tensor([[30 / 255, 1.0]]))
        assert notices[0] == "transparent parts are drawn on white"


@pytest.mark.parametrize(("kind", "bits"), [(0, 1), (0, 2), (0, 4), (3, 1), (3, 2), (3, 4)])
def test_few_bits_a_pixel_and_interlaced_pixels(tmp_path: Path, kind: int, bits: int) -> None:
    """Rows of a gray or palette PNG are packed into bytes. Interlaced, the picture is stored in seven passes."""
    count = 2**bits
    palette = [(17 * number, 255 - 17 * number, 40) for number in range(count)]
    indices = numpy.arange(64).reshape(8, 8) * 7 % count
    expected = (
        torch.tensor(palette)[indices].permute(2, 0, 1) / 255 if kind == 3 else torch.from_numpy(indices) / (count - 1)
    )
    if kind == 0:
        expected = expected.expand(3, 8, 8)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def rows(part: numpy.ndarray) -> bytes:
        packed = b""
        for row in part:
            ones = numpy.unpackbits(row.astype(numpy.uint8)[:, None], axis=1)[:, 8 - bits :]
            packed += b"\0" + numpy.packbits(ones.reshape(-1)).tobytes()
        return packed

    steps = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    passes = b"".join(rows(indices[top::down, left::across]) for top, down, left, across in steps)
    for interlaced, content in ((0, rows(indices)), (1, passes)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, interlaced))
        colors = chunk(b"PLTE", bytes(sum(palette, ()))) if kind == 3 else b""
        end = chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
        (tmp_path / "few.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + colors + end)
        target = read_image(tmp_path / "few.png", PictureOptions(color=True))
        torch.testing.assert_close(target, expected.float())


# Orientation


# The sides of the shown picture at which the file's first row and first column are (EXIF 2.32, tag 274).
SIDES = ["top left", "top right", "bottom right", "bottom left", "left top", "right top", "right bottom", "left bottom"]


@pytest.mark.parametrize("size", [32, 4])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(tmp_path: Path, orientation: int, suffix: str, size: int) -> None:
    stored = numpy.zeros((16, 24), dtype=numpy.uint8)
    stored[:8, :8], stored[8:, :16] = 255, 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, lossless=True, quality=100)
    row, column = SIDES[orientation - 1].split()
    seen = stored if row in ("top", "bottom") else stored.T
    seen = seen[:, ::-1] if "right" in (row, column) else seen
    seen = seen[::-1] if "bottom" in (row, column) else seen
    target, notices = read_with_notices(path, PictureOptions(size=size))
    height, width = seen.shape
    if size == 32:
        expected = torch.from_numpy(seen / 255).float()
        torch.testing.assert_close(target, expected, rtol=0.0, atol=0.02)
        assert notices == []
    else:
        Image.fromarray(numpy.ascontiguousarray(seen)).save(tmp_path / "upright.png")
        expected = read_image(tmp_path / "upright.png", PictureOptions(size=size))
        torch.testing.assert_close(target, expected, rtol=0.0, atol=0.02)
        assert notices == [f"scaled from {width} x {height} to {target.shape[1]} x {target.shape[0]} pixels"]


@pytest.mark.parametrize(("orientation", "kind"), [(0, 4), (9, 4), (2**31, 4), (6, 7)])  # 4: integers, 7: bytes
def test_what_is_no_orientation_turns_nothing(tmp_path: Path, orientation: int, kind: int) -> None:
    content = tiff_bytes((3, 1), [bytes([0, 9, 255])], (8,), 1, {274: (orientation,)})
    changed = content.replace(struct.pack("<HHI", 274, 4, 1), struct.pack("<HHI", 274, kind, 1))
    (tmp_path / "odd.tif").write_bytes(changed)
    torch.testing.assert_close(read_image(tmp_path / "odd.tif"), torch.tensor([[0, 9, 255]]) / 255)


# Color profiles


LINEAR = b"curv" + bytes(8)  # a curve without points is linear


def xyz(color: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in color))


def curves(curve: bytes) -> dict[str, bytes]:
    return {"rTRC": curve, "gTRC": curve, "bTRC": curve}


LINEAR_RGB = icc_bytes("RGB", {"rXYZ": xyz(RED), "gXYZ": xyz(GREEN), "bXYZ": xyz(BLUE), **curves(LINEAR)})
SWAPPED_RGB = icc_bytes("RGB", {"rXYZ": xyz(GREEN), "gXYZ": xyz(BLUE), "bXYZ": xyz(RED), **curves(LINEAR)})
LINEAR_GRAY = icc_bytes("GRAY", {"kTRC": LINEAR})


def encoded(linear: torch.Tensor) -> torch.Tensor:
    """Apply the transfer function of sRGB (IEC 61966-2-1)."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize(("profile", "order"), [(LINEAR_RGB, [0, 1, 2]), (SWAPPED_RGB, [2, 0, 1])])
def test_colors_are_brought_to_srgb(tmp_path: Path, profile: bytes, order: list[int], mode: str) -> None:
    values = numpy.array([[[0, 20, 55], [128, 200, 255], [90, 90, 90]]], dtype=numpy.uint8)
    picture = Image.fromarray(values)
    picture = picture.quantize(3) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "wide.png", icc_profile=profile)
    target, notices = read_with_notices(tmp_path / "wide.png", PictureOptions(color=True))
    expected = encoded(torch.from_numpy(values / 255).float()).permute(2, 0, 1)[order]
    torch.testing.assert_close(target, expected, rtol=0.0, atol=2.5 / 255)
    assert notices[0] == "colors are converted from A test to sRGB"


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grays_are_brought_to_srgb(tmp_path: Path, mode: str) -> None:
    values = numpy.array([[0, 20, 55, 128, 255]], dtype=numpy.uint8)
    Image.fromarray(values).convert(mode).save(tmp_path / "gray.png", icc_profile=LINEAR_GRAY)
    target, notices = read_with_notices(tmp_path / "gray.png")
    shares = torch.from_numpy(numpy.asarray(Image.fromarray(values).convert(mode).convert("L")) / 255).float()
    torch.testing.assert_close(target, encoded(shares), rtol=0.0, atol=2.5 / 255)
    assert notices[0] == "colors are converted from A test to sRGB"


def test_inks_are_brought_to_srgb(tmp_path: Path) -> None:
    """The printer's black ink absorbs all light, and each of its color inks a third, without a tint."""
    inks = numpy.array(list(numpy.ndindex(2, 2, 2, 2)))  # cyan, magenta, yellow, black
    lightness = (1 - inks[:, 3]) * (1 - inks[:, :3].mean(axis=1))  # in [0, 1], linear in each ink
    table = numpy.stack([(lightness * 255).round(), *[numpy.full(16, 128)] * 2], axis=1).astype(numpy.uint8)
    straight = bytes(range(256))
    unchanged = struct.pack(">9i", *(numpy.eye(3, dtype=int) * 65536).flatten())
    lookup = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unchanged + straight * 4 + table.tobytes() + straight * 3
    levels = numpy.array(
        [[[0, 0, 0, 0], [255, 0, 0, 0], [255, 255, 255, 0], [0, 0, 0, 128], [0, 51, 0, 0]]], numpy.uint8
    )
    picture = Image.frombytes("CMYK", (5, 1), levels.tobytes())
    picture.save(tmp_path / "inks.tif", icc_profile=icc_bytes("CMYK", {"A2B0": lookup}, "Lab"))
    target, notices = read_with_notices(tmp_path / "inks.tif", PictureOptions(color=True))
    shares = torch.from_numpy(levels[0] / 255).float()
    light = (1 - shares[:, 3]) * (1 - shares[:, :3].mean(dim=1)) * 100  # L* (CIE 1976)
    linear = torch.where(light > 8, ((light + 16) / 116) ** 3, light * 27 / 24389)
    torch.testing.assert_close(target[:, 0], encoded(linear).expand(3, 5), rtol=0.0, atol=3 / 255)
    assert notices[0] == "colors are converted from A test to sRGB"


def test_srgb_changes_nothing(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    values = numpy.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=numpy.uint8) // 2
    Image.fromarray(values).save(tmp_path / "usual.png", icc_profile=profile)
    target, notices = read_with_notices(tmp_path / "usual.png", PictureOptions(color=True))
    assert torch.equal(target, torch.from_numpy(values / 255).float().permute(2, 0, 1))
    assert notices == []


@pytest.mark.parametrize(
    ("mode", "profile", "notice"),
    [
        ("RGB", b"no profile", "the color profile is damaged and is ignored"),
        ("RGB", LINEAR_RGB[:200], "the color profile is damaged and is ignored"),
        ("RGB", LINEAR_GRAY, "the color profile is for another color space and is ignored"),
        ("L", LINEAR_RGB, "the color profile is for another color space and is ignored"),
        ("I;16", LINEAR_GRAY, "the color profile is ignored, as values have more than 8 bits"),
    ],
)
def test_profiles_that_can_not_be_used(tmp_path: Path, mode: str, profile: bytes, notice: str) -> None:
    picture = (
        Image.fromarray(ramp(16)) if mode == "I;16" else Image.fromarray(ramp(8).astype(numpy.uint8)).convert(mode)
    )
    picture.save(tmp_path / "odd.png", icc_profile=profile)
    target, notices = read_with_notices(tmp_path / "odd.png")
    torch.testing.assert_close(target, torch.from_numpy(RAMP / 11).float(), rtol=0.0, atol=0.6 / 255)
    assert notices == [notice]


def test_a_picture_of_pillows_may_be_used_twice(tmp_path: Path) -> None:
    from fractalops.data.targets import TensorTargets

    file = io.BytesIO()
    Image.fromarray(ramp(8).astype(numpy.uint8)).save(file, "jpeg", quality=100)
    picture = Image.open(file)
    first, second = (TensorTargets.from_iterable([picture], PictureOptions(size=2))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert picture.size == (4, 3)
