"""Sources of target images: that every kind gives the same targets, identities, and folders of pictures."""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from fractalops.data.targets import FolderSource, collect, open_source
from fractalops.data.targets.pictures import _natural
from fractalops.errors import InputError
from fractalops.io.images import Preparation, picture_size, read_image
from tests.support.source_files import ARRAYS, COLOR, GRAY, KINDS, Writer, error_of, targets, write_folder, write_npy


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 7},
        {"size": 7, "invert": True, "threshold": 0.4},
        {"fit_to": 40, "threshold": 0.5},
        {"color": True, "size": 10, "fit_to": 8},
    ],
)
def test_every_kind_gives_what_read_image_gives(tmp_path: Path, write: Writer, options: dict[str, Any]) -> None:
    reference = write_folder(tmp_path / "reference", GRAY)
    source = open_source(write(tmp_path, GRAY), **options)
    assert len(source) == len(GRAY)
    for number, target in enumerate(targets(source)):
        assert torch.equal(target, read_image(reference / f"{number}.png", **options)[0])


@pytest.mark.parametrize("write", ARRAYS)
@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_in_color(tmp_path: Path, write: Writer, color: bool, channels_first: bool) -> None:
    images = numpy.moveaxis(COLOR, -1, 1).copy() if channels_first else COLOR
    reference = targets(open_source(write_folder(tmp_path, COLOR), color=color))
    for target, expected in zip(targets(open_source(write(tmp_path, images), color=color)), reference, strict=True):
        assert torch.equal(target, expected)
    # Floats are the same pictures; their gray is not rounded to 8 bits.
    floats = open_source(write(tmp_path, (images / 255).astype(numpy.float32)), color=color)
    for target, expected in zip(targets(floats), reference, strict=True):
        torch.testing.assert_close(target, expected, rtol=0.0, atol=1e-6 if color else 0.6 / 255)


def test_where_two_dimensions_are_three_the_first_is_the_channels(tmp_path: Path) -> None:
    assert open_source(write_npy(tmp_path, numpy.ones((2, 3, 5, 3))), color=True).shape(0) == (3, 5, 3)
    assert open_source(write_npy(tmp_path, numpy.ones((3, 5, 3))), color=True).shape(0) == (3, 5, 3)  # three in gray
    assert len(open_source(write_npy(tmp_path, numpy.ones((3, 5, 3))))) == 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_every_width(tmp_path: Path, dtype: str) -> None:
    images = (GRAY / 255).astype(dtype)
    for target, image in zip(targets(open_source(write_npy(tmp_path, images))), images, strict=True):
        assert torch.equal(target, torch.from_numpy(image.astype(numpy.float32)))


def test_bfloat16_in_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    images = torch.from_numpy(GRAY / 255).to(torch.bfloat16)
    save_file({"images": images}, tmp_path / "stack.safetensors")
    for target, image in zip(targets(open_source(tmp_path / "stack.safetensors")), images, strict=True):
        assert torch.equal(target, image.float())


@pytest.mark.parametrize("write", KINDS)
def test_limit_takes_the_first(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, GRAY)
    few = open_source(path, limit=2)
    assert len(few) == 2
    assert torch.equal(few.read(1), open_source(path).read(1))
    assert len(open_source(path, limit=99)) == len(GRAY)
    for call in (few.name, few.label, few.shape, few.read):
        for outside in (-1, 2):
            with pytest.raises(IndexError, match=rf"image must lie in \[0, 2\), got {outside}"):
                call(outside)


@pytest.mark.parametrize("write", KINDS)
def test_identity_is_of_content_and_options_and_not_of_the_place(tmp_path: Path, write: Writer) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = write(tmp_path / "here", GRAY), write(tmp_path / "there", GRAY)
    identity = open_source(here).identity
    assert identity == open_source(there).identity
    assert str(tmp_path) not in identity
    assert f"{here.name}: 5 images" in identity
    changes: list[dict[str, Any]] = [
        {"size": 9},
        {"color": True},
        {"invert": True},
        {"background": "white"},
        {"threshold": 0.5},
        {"limit": 4},
        {"fit_to": 32},
    ]
    others = [open_source(here, **change).identity for change in changes]
    changed = GRAY.copy()
    changed[3] = 9
    for folder, images in (("fewer", GRAY[:3]), ("changed", changed)):
        (tmp_path / folder).mkdir()
        others.append(open_source(write(tmp_path / folder, images)).identity)
    assert len({identity, *others}) == len(others) + 1


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder with classes, pictures of no class, hidden files and others."""
    folder = tmp_path / "animals"
    for number, name in enumerate(
        ["cats/10.png", "cats/9.png", "cats/wild/1.PNG", "Dogs/img2.png", "Dogs/Img010.jpg", "2.png", "10.png"]
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 20 * number + 30).save(folder / name)
    (folder / ".hidden").mkdir()
    for name in (".hidden/1.png", ".2.png", "Dogs/readme.txt", "cats/no suffix", "cats/table.h5", "cats/page.pdf"):
        (folder / name).write_bytes(b"not a picture")
    return folder


def test_a_folder_in_natural_order_with_classes(classes: Path) -> None:
    source = open_source(classes)
    assert [(source.name(image), source.label(image)) for image in range(len(source))] == [
        ("2.png", ""),
        ("10.png", ""),
        ("cats/9.png", "cats"),
        ("cats/10.png", "cats"),
        ("cats/wild/1.PNG", "cats"),
        ("Dogs/img2.png", "Dogs"),
        ("Dogs/Img010.jpg", "Dogs"),
    ]
    assert isinstance(source, FolderSource)
    assert source.ignored == 5  # hidden folders are not looked into
    (classes / "Dogs").rename(classes / "wolves")
    assert open_source(classes).identity != source.identity


@given(numbers=st.lists(st.integers(0, 10**20), unique=True, min_size=1), data=st.data())
def test_numbers_in_names_sort_by_value(numbers: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(numbers))
    names = sorted((f"digit {number}/{number}.png" for number in shuffled), key=_natural)
    assert names == [f"digit {number}/{number}.png" for number in sorted(numbers)]


@given(names=st.lists(st.text("aA01².-/ é", min_size=1, max_size=8), unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    assert sorted(names, key=_natural) == sorted(names[1:] + names[:1], key=_natural)


def test_links_are_followed_but_not_in_circles(tmp_path: Path, classes: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "felines").symlink_to(classes / "cats")
    (classes / "cats" / "round").symlink_to(classes / "cats")
    source = open_source(tmp_path / "linked")
    names = ["felines/9.png", "felines/10.png", "felines/wild/1.PNG"]
    assert [source.name(image) for image in range(len(source))] == names


def test_what_is_no_file_is_a_bad_image(classes: Path) -> None:
    (classes / "1.png").symlink_to(classes / "nowhere")
    os.mkfifo(classes / "3.png")
    source = open_source(classes)
    for image, reason in ((0, "1.png: no such file or directory"), (2, "3.png: it is not a file")):
        for ask in (source.shape, source.read):
            with pytest.raises(InputError, match=rf"^cannot read \S+/{reason}$"):
                ask(image)
    assert source.read(1).shape == (4, 4)


def test_opening_reads_no_picture_and_reading_one_no_other(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (classes / "cats" / "9.png").write_bytes(b"broken")
    opened: list[str] = []
    original = Image.open

    def counted(file: Any, *arguments: Any, **options: Any) -> Image.Image:
        opened.append(Path(file.name).name)
        return original(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", counted)
    source = open_source(classes)
    assert source.identity
    assert opened == []
    source.read(0)
    assert opened == ["2.png"]
    for call in (source.shape, source.read):
        with pytest.raises(InputError, match=r"cannot read .*cats/9\.png: it is not an image in a known format"):
            call(2)
    assert source.read(3).shape == (4, 4)


def turned_pictures() -> Iterator[tuple[str, bytes]]:
    """Pictures 18 wide and 12 high, which stand upright or which their camera noted as lying on their side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, exif_of in itertools.product(("png", "jpg", "tif", "webp"), (exif, None)):
        buffer = io.BytesIO()
        Image.fromarray(GRAY[0]).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), exif=exif_of or b"")
        yield f"{suffix}, {'turned' if exif_of else 'upright'}", buffer.getvalue()
    late = io.BytesIO()
    Image.fromarray(GRAY[0]).save(late, "png")
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", exif.tobytes()[6:])
    yield "png, turned after its pixels", late.getvalue()[:-12] + chunk.getvalue() + late.getvalue()[-12:]


@pytest.mark.parametrize(
    ("name", "content"), list(turned_pictures()), ids=lambda value: value if type(value) is str else ""
)
def test_shapes_are_told_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    path = tmp_path / f"picture.{name[:3]}"
    path.write_bytes(content)
    expected = (18, 12) if "turned" in name else (12, 18)
    assert read_image(path)[0].shape == expected
    if not name.startswith("png, turned"):  # then Pillow looks for what may stand after the pixels

        def refuse(*arguments: Any) -> None:
            raise AssertionError("the pixels were decoded")

        monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert picture_size(path) == expected


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    size=st.integers(1, 600),
    fit_to=st.integers(1, 600) | st.none(),
)
def test_how_far_pictures_are_scaled(height: int, width: int, size: int, fit_to: int | None) -> None:
    new_height, new_width = Preparation(size=size, fit_to=fit_to).scaled(height, width)
    assert max(new_height, new_width) == (fit_to or min(size, max(height, width)))
    assert min(new_height, new_width) >= 1
    assert (new_height >= new_width) == (height >= width) or new_height == new_width
    if fit_to is None:
        assert new_height <= height
        assert new_width <= width


def test_a_class_that_can_not_be_listed_is_named(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "Dogs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError) as raised:
        open_source(classes)
    assert str(raised.value) == f"cannot read {classes / 'Dogs'}: permission denied"


def test_folders_that_hold_no_picture(tmp_path: Path) -> None:
    assert "no such file or directory" in error_of(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    assert "there is no picture in it, but 1 other files" in error_of(tmp_path)
    assert "it is none of these: a folder of pictures, an IDX file" in error_of(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl"])
def test_files_that_run_code_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"images{suffix}").touch()
    assert "files run code as they are opened; save" in error_of(tmp_path / f"images{suffix}")


def test_options_are_checked(tmp_path: Path) -> None:
    for options, message in (
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"fit_to": 0}, "fit_to must be at least 1, got 0"),
        ({"background": "blue"}, "background must be 'black' or 'white', got 'blue'"),
        ({"threshold": 1.0}, r"threshold must lie in \[0, 1\), got 1.0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
    ):
        arguments: dict[str, Any] = dict(options)
        with pytest.raises(ValueError, match=f"open_source: {message}"):
            open_source(tmp_path, **arguments)
        with pytest.raises(ValueError, match=f"collect: {message}"):
            collect([], **arguments)
