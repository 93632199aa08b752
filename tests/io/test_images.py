"""Tests of reading images as targets, and of saving pictures and animations."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image, PngImagePlugin

from fractalops.errors import InputError
from fractalops.io import PictureOptions
from fractalops.io.animations import save_animation
from fractalops.io.images import read_image, save_image
from tests.support.pictures import read_with_notices


def drawing(mode: str) -> Image.Image:
    """Return a black picture of 6 x 4 (width x height) pixels with a white block in the upper left corner."""
    picture = Image.new("L", (6, 4), 0)
    picture.paste(255, (0, 0, 3, 2))
    return picture.convert(mode)


EXPECTED = torch.zeros(4, 6)
EXPECTED[:2, :3] = 1.0


MODES = ["1.png", "L.png", "LA.png", "P.png", "P.gif", "RGB.png", "RGB.webp", "RGBA.png", "CMYK.tif", "YCbCr.tif"]


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("name", MODES)
def test_every_mode_gives_the_same_target(tmp_path: Path, name: str, color: bool) -> None:
    path = tmp_path / name
    drawing(path.stem).save(path, lossless=True)  # only WebP uses `lossless`
    target, notices = read_with_notices(path, PictureOptions(color=color))
    assert target.dtype == torch.float32
    torch.testing.assert_close(target, EXPECTED.expand(3, 4, 6) if color else EXPECTED)
    assert notices == []  # a gray picture in a color mode causes no notice


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tif"), ("I;16B", "tif")])
def test_sixteen_bits_keep_their_scale(tmp_path: Path, mode: str, suffix: str, color: bool) -> None:
    values = numpy.array([[0, 0, 32768, 65535]], dtype=numpy.int32 if mode == "I" else numpy.uint16)
    path = tmp_path / f"wide.{suffix}"
    picture = Image.fromarray(values)
    if mode == "I;16B":
        picture = Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes())
    picture.save(path)
    target, notices = read_with_notices(path, PictureOptions(color=color))
    expected = torch.tensor([[0.0, 0.0, 32768 / 65535, 1.0]])
    torch.testing.assert_close(target, expected.expand(3, 1, 4) if color else expected)
    assert notices == []


def test_floats_are_taken_as_they_are_or_stretched_with_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(numpy.array([[0.0, 0.25, 0.5]], dtype=numpy.float32)).save(path)
    assert read_image(path).tolist() == [[0.0, 0.25, 0.5]]
    Image.fromarray(numpy.array([[-1.0, 0.0, 3.0]], dtype=numpy.float32)).save(path)
    target, notices = read_with_notices(path)
    assert target.tolist() == [[0.0, 0.25, 1.0]]
    assert notices == ["values from -1 to 3 are stretched to [0, 1]"]
    Image.fromarray(numpy.array([[0.0, numpy.nan, 1.0]], dtype=numpy.float32)).save(path)
    with pytest.raises(InputError, match="NaN or infinite"):
        read_image(path)


def test_color_becomes_gray_with_a_notice(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    target, notices = read_with_notices(tmp_path / "red.png")
    torch.testing.assert_close(target, torch.full((2, 2), 0.299), atol=2e-3, rtol=0.0)
    assert notices == ["colors are converted to gray"]


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "png"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "tif")])
def test_color_is_kept_where_asked(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.new("RGB", (3, 2), (255, 0, 0))
    picture.putpixel((2, 1), (0, 51, 255))
    picture.convert(mode).save(tmp_path / f"color.{suffix}")
    target, notices = read_with_notices(tmp_path / f"color.{suffix}", PictureOptions(color=True))
    expected = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).repeat(1, 2, 3)
    expected[:, 1, 2] = torch.tensor([0.0, 0.2, 1.0])
    torch.testing.assert_close(target, expected)
    assert notices == []


def test_color_goes_through_every_step(tmp_path: Path) -> None:
    """Background, scaling, inversion and threshold change each channel like a gray picture."""
    picture = Image.effect_noise((40, 20), 90)
    bands = [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), picture.point(lambda level: level // 3)]
    alpha = Image.new("L", (40, 20), 255)
    alpha.paste(0, (0, 0, 9, 20))
    Image.merge("RGBA", [*bands, alpha]).save(tmp_path / "color.png")
    steps: dict[str, Any] = {"size": 13, "background": "white", "invert": True, "threshold": 0.4}
    target, notices = read_with_notices(tmp_path / "color.png", PictureOptions(color=True, **steps))
    assert notices == ["transparent parts are drawn on white", "scaled from 40 x 20 to 13 x 6 pixels"]
    for channel, band in zip(target, bands, strict=True):
        Image.merge("LA", [band, alpha]).save(tmp_path / "gray.png")
        assert torch.equal(channel, read_image(tmp_path / "gray.png", PictureOptions(**steps)))


@pytest.mark.parametrize(("background", "seen"), [("black", 0.0), ("white", 1.0)])
def test_transparent_parts_show_the_background(tmp_path: Path, background: Any, seen: float) -> None:
    picture = Image.new("RGBA", (2, 1), (128, 128, 128, 255))
    picture.putpixel((1, 0), (255, 0, 0, 0))  # invisible red: neither shown nor counted as color
    picture.save(tmp_path / "see-through.png")
    target, notices = read_with_notices(tmp_path / "see-through.png", PictureOptions(background=background))
    torch.testing.assert_close(target, torch.tensor([[128 / 255, seen]]))
    assert notices[0] == f"transparent parts are drawn on {background}"
    assert "colors are converted to gray" not in notices


def test_transparent_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([255, 255, 255, 128, 128, 128])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "palette.png", transparency=0)
    target, notices = read_with_notices(tmp_path / "palette.png")
    torch.testing.assert_close(target, torch.tensor([[0.0, 128 / 255]]))
    assert notices == ["transparent parts are drawn on black"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((100, 50), (32, 16)), ((50, 100), (16, 32)), ((1, 400), (1, 32)), ((32, 32), (32, 32)), ((4, 6), (4, 6))],
)
def test_only_large_images_are_scaled(tmp_path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    height, width = shape
    Image.new("L", (width, height), 100).save(tmp_path / "large.png")
    target, notices = read_with_notices(tmp_path / "large.png", PictureOptions(size=32))
    assert target.shape == expected
    torch.testing.assert_close(target, torch.full(expected, 100 / 255))
    scaled = f"scaled from {width} x {height} to {expected[1]} x {expected[0]} pixels"
    assert notices == ([scaled] if shape != expected else [])


def test_ringing_stays_in_range(tmp_path: Path) -> None:
    enlarged = drawing("L").resize((60, 40), Image.Resampling.NEAREST)
    enlarged.save(tmp_path / "edges.png")
    target = read_image(tmp_path / "edges.png", PictureOptions(size=27))
    assert 0 <= target.min() <= target.max() <= 1


@pytest.mark.parametrize("shape", [(28, 28), (4, 6), (17, 31)])
def test_fit_to_scales_up_by_bilinear_interpolation(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
    Image.fromarray(values).save(tmp_path / "small.png")
    target, notices = read_with_notices(tmp_path / "small.png", PictureOptions(fit_to=32))
    expected = (round(32 * shape[0] / max(shape)), round(32 * shape[1] / max(shape)))
    assert notices[0] == f"scaled from {shape[1]} x {shape[0]} to {expected[1]} x {expected[0]} pixels"
    image = torch.from_numpy(values / 255).float()[None, None]
    interpolated = torch.nn.functional.interpolate(image, expected, mode="bilinear", align_corners=False)
    torch.testing.assert_close(target, interpolated[0, 0])
    black_and_white = read_image(tmp_path / "small.png", PictureOptions(fit_to=32, threshold=0.5))
    assert torch.equal(black_and_white, (target > 0.5).float())


def test_a_rotation_after_the_pixels_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, chunk = io.BytesIO(), io.BytesIO()
    drawing("L").save(picture, "png")
    PngImagePlugin.putchunk(chunk, b"eXIf", exif.tobytes()[6:])
    end = picture.getvalue()[-12:]
    (tmp_path / "late.png").write_bytes(picture.getvalue()[:-12] + chunk.getvalue() + end)
    torch.testing.assert_close(read_image(tmp_path / "late.png"), torch.rot90(EXPECTED, k=-1))


def test_invert_and_threshold(tmp_path: Path) -> None:
    Image.fromarray(numpy.array([[0, 100, 200]], dtype=numpy.uint8)).save(tmp_path / "steps.png")
    for options, expected in (
        (PictureOptions(invert=True), [1.0, 155 / 255, 55 / 255]),
        (PictureOptions(threshold=0.5), [0.0, 0.0, 1.0]),
        (PictureOptions(threshold=0.5, invert=True), [1.0, 1.0, 0.0]),
        (PictureOptions(threshold=100 / 255), [0.0, 0.0, 1.0]),  # strictly above
    ):
        torch.testing.assert_close(read_image(tmp_path / "steps.png", options), torch.tensor([expected]))


def test_a_bright_page_is_noticed(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 255).save(tmp_path / "page.png")
    _, notices = read_with_notices(tmp_path / "page.png")
    assert notices == ["the picture is mostly bright; if it shows a dark shape on a bright page, use invert=True"]


@pytest.mark.parametrize(
    ("mode", "color", "options", "advice"),
    [
        ("L", 255, {"invert": True}, r"image must not be blank.*leave out invert=True"),
        ("L", 0, {"background": "white"}, "image must not be blank"),
        ("RGB", 0, {"color": True}, "image must not be blank"),
        ("L", 100, {"threshold": 0.9}, r"no pixel is brighter than the threshold 0\.9"),
        ("RGBA", (0, 0, 0, 0), {}, "background='white' and invert=True"),
    ],
)
def test_blank_images_are_refused_with_advice(
    tmp_path: Path, mode: str, color: Any, options: dict[str, Any], advice: str
) -> None:
    Image.new(mode, (4, 4), color).save(tmp_path / "blank.png")
    with pytest.raises(InputError, match=advice):
        read_image(tmp_path / "blank.png", PictureOptions(**options))


def test_a_little_of_one_color_is_not_blank(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (0, 0, 1)).save(tmp_path / "blue.png")
    assert read_image(tmp_path / "blue.png", PictureOptions(color=True)).sum() > 0


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(content[: len(content) // 2])
    for name, reason in (
        ("missing.png", "no such file or directory"),
        (".", "it is not a file"),
        ("text.png/inside.png", "not a directory"),
        ("empty.png", "the file is empty"),
        ("text.png", "not an image in a known format"),
        ("truncated.png", "the image is damaged"),
    ):
        with pytest.raises(InputError, match=reason) as raised:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_decompression_bombs_are_refused_and_large_photographs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (100, 100), 90).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="too many pixels"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # up to twice the limit, Pillow only warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "bomb.png").shape == (100, 100)


@pytest.mark.parametrize("color", [False, True])
def test_saving_and_reading_back(tmp_path: Path, color: bool) -> None:
    image = torch.rand((3, 5, 7) if color else (5, 7), generator=torch.Generator().manual_seed(0))
    image[..., 0, :3] = torch.tensor([-3.0, 7.0, float("nan")])
    save_image(image.requires_grad_(), tmp_path / "saved.png")
    expected = (image.detach().nan_to_num(0).clamp(0, 1) * 255).round() / 255
    torch.testing.assert_close(read_image(tmp_path / "saved.png", PictureOptions(color=color)), expected)


@pytest.mark.parametrize(
    ("shape", "name", "error", "message"),
    [
        ((2, 2), "picture", InputError, "unknown suffix"),
        ((2, 2), "picture.txt", InputError, "unknown suffix"),
        ((2, 2), "picture.safetensors", InputError, "unknown suffix"),
        ((2, 2), "picture.xbm", InputError, "cannot save"),  # this format is black and white only
        ((1, 2, 2), "picture.png", ValueError, r"save_image: image must have shape \(H, W\).*got \(1, 2, 2\)"),
        ((3, 0, 2), "picture.png", ValueError, r"save_image: image must have .* or \(3, H, W\).*got \(3, 0, 2\)"),
        ((2, 2), "missing/picture.png", FileNotFoundError, "picture"),
    ],
)
def test_what_can_not_be_saved_leaves_nothing(
    tmp_path: Path, shape: tuple[int, ...], name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        save_image(torch.ones(shape), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "color"])
def test_an_animation_keeps_its_colors_and_rests_on_its_last_frame(tmp_path: Path, channels: tuple[int, ...]) -> None:
    colors = (
        torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.6, 0.4], [0.0, 0.0, 1.0]]) if channels else torch.tensor([0, 0.6, 1])
    )
    save_animation([color[..., None, None].expand(*channels, 4, 6) for color in colors], tmp_path / "moving.gif")
    with Image.open(tmp_path / "moving.gif") as animation:
        assert animation.n_frames == 3
        for frame, (color, duration) in enumerate(zip(colors, (120, 120, 2000), strict=True)):
            animation.seek(frame)
            assert animation.info["duration"] == duration
            assert animation.convert("RGB").getpixel((5, 3)) == tuple((color.expand(3) * 255).int().tolist())


def test_an_animation_has_frames(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_animation: frames must not be empty"):
        save_animation([], tmp_path / "none.gif")
    assert not (tmp_path / "none.gif").exists()
