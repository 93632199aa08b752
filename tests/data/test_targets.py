"""Tests of data sets of targets: equal targets from all kinds of sources, identities, and folders of pictures."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from fractalops.data.targets import PictureFiles, PictureFolder, TargetDataset, TensorTargets, open_targets
from fractalops.data.targets.pictures import _natural
from fractalops.errors import InputError
from fractalops.io import PictureOptions
from fractalops.io.images import read_image
from tests.support.target_files import ARRAYS, COLOR, GRAY, KINDS, Writer, error_of, targets, write_folder, write_npy


@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        PictureOptions(),
        PictureOptions(size=7),
        PictureOptions(size=7, invert=True, threshold=0.4),
        PictureOptions(fit_to=40, threshold=0.5),
        PictureOptions(color=True, size=10, fit_to=8),
    ],
)
def test_every_kind_gives_what_read_image_gives(tmp_path: Path, write: Writer, options: PictureOptions) -> None:
    reference = write_folder(tmp_path / "reference", GRAY)
    source = open_targets(write(tmp_path, GRAY), options)
    assert len(source) == len(GRAY)
    for number, target in enumerate(targets(source)):
        assert torch.equal(target, read_image(reference / f"{number}.png", options))


@pytest.mark.parametrize("write", ARRAYS)
@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_in_color(tmp_path: Path, write: Writer, color: bool, channels_first: bool) -> None:
    images = numpy.moveaxis(COLOR, -1, 1).copy() if channels_first else COLOR

    def read(path: Path) -> torch.Tensor:
        return torch.stack(targets(open_targets(path, PictureOptions(color=color))))

    expected = read(write_folder(tmp_path, COLOR))
    assert torch.equal(read(write(tmp_path, images)), expected)
    # Floats give the same pictures, except that gray is not rounded to 8 bits.
    floats = read(write(tmp_path, (images / 255).astype(numpy.float32)))
    torch.testing.assert_close(floats, expected, rtol=0.0, atol=1e-6 if color else 0.6 / 255)


def test_where_two_dimensions_are_three_the_first_is_the_channels(tmp_path: Path) -> None:
    for images, count in ((numpy.ones((2, 3, 5, 3)), 2), (numpy.ones((3, 5, 3)), 3)):  # the second: 3 gray images
        source = open_targets(write_npy(tmp_path, images), PictureOptions(color=True))
        assert (len(source), source[0].shape) == (count, (3, 5, 3))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_every_width(tmp_path: Path, dtype: str) -> None:
    images = (GRAY / 255).astype(dtype)
    read = targets(open_targets(write_npy(tmp_path, images)))
    assert torch.equal(torch.stack(read), torch.from_numpy(images.astype(numpy.float32)))


def test_bfloat16_in_safetensors(tmp_path: Path) -> None:
    images = torch.from_numpy(GRAY / 255).to(torch.bfloat16)
    save_file({"images": images}, tmp_path / "stack.safetensors")
    assert torch.equal(torch.stack(targets(open_targets(tmp_path / "stack.safetensors"))), images.float())


@pytest.mark.parametrize("write", KINDS)
def test_limit_takes_the_first_and_indices_are_those_of_sequences(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, GRAY)
    whole, few = open_targets(path), open_targets(path, limit=2)
    assert (len(whole), len(few)) == (len(GRAY), 2)
    assert len(open_targets(path, limit=99)) == len(GRAY)
    assert torch.equal(few[1], whole[1])
    assert torch.equal(few[-1], whole[torch.tensor(1)])  # type: ignore[index]
    assert few.name(-1) == whole.name(1)
    for call in (few.name, few.label, few.__getitem__):
        for outside in (-3, 2):
            message = rf"^{type(few).__name__}: index must lie in \[-2, 2\), got {outside}$"
            with pytest.raises(IndexError, match=message):
                call(outside)
        with pytest.raises(TypeError, match=rf"^{type(few).__name__}: index must be a whole number, got slice$"):
            call(slice(2))  # type: ignore[arg-type]
    assert [target.shape for target in few] == [(12, 18), (12, 18)]  # iteration ends
    assert repr(few) == f"{type(few).__name__}({path.name!r}, 2 images)"


DATASETS: dict[str, Callable[[Path], TargetDataset]] = {
    **{write.__name__: lambda folder, write=write: open_targets(write(folder, GRAY)) for write in KINDS},
    "files": lambda folder: PictureFiles(sorted(write_folder(folder, GRAY).iterdir())),
    "tensors": lambda folder: TensorTargets(torch.from_numpy(GRAY)),
    "iterable": lambda folder: TensorTargets.from_iterable(GRAY),
}


@pytest.mark.parametrize("kind", DATASETS)
def test_a_loader_with_workers_gives_the_same_targets(tmp_path: Path, kind: str) -> None:
    dataset = DATASETS[kind](tmp_path)
    assert isinstance(dataset, torch.utils.data.Dataset)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2)
    expected = torch.from_numpy(GRAY / 255).float()
    assert torch.equal(torch.cat(list(loader)), expected)
    # If workers are not forked, the data set is pickled.
    sent = pickle.dumps(dataset)
    assert torch.equal(torch.stack(targets(pickle.loads(sent))), expected)
    assert pickle.loads(sent).identity == dataset.identity
    assert not kind.startswith("write") or len(sent) < 1000 + len(str(tmp_path)) * 6


@pytest.mark.parametrize("write", KINDS)
def test_identity_is_of_content_and_options_and_not_of_the_place(tmp_path: Path, write: Writer) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = write(tmp_path / "here", GRAY), write(tmp_path / "there", GRAY)
    identity = open_targets(here).identity
    assert identity == open_targets(there).identity
    assert str(tmp_path) not in identity
    assert f"{here.name}: 5 images" in identity
    changes = {"size": 9, "color": True, "invert": True, "background": "white", "threshold": 0.5, "fit_to": 32}
    changes |= {"stretch": True, "frame": 1}
    others = [open_targets(here, PictureOptions(**{name: value})).identity for name, value in changes.items()]
    others.append(open_targets(here, limit=4).identity)
    changed = GRAY.copy()
    changed[3] = 9
    for folder, images in (("fewer", GRAY[:3]), ("changed", changed)):
        (tmp_path / folder).mkdir()
        others.append(open_targets(write(tmp_path / folder, images)).identity)
    assert len({identity, *others}) == len(others) + 1


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Return a folder with classes, pictures without a class, hidden files and other files."""
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
    source = open_targets(classes)
    assert [(source.name(image), source.label(image)) for image in range(len(source))] == [
        ("2.png", ""),
        ("10.png", ""),
        ("cats/9.png", "cats"),
        ("cats/10.png", "cats"),
        ("cats/wild/1.PNG", "cats"),
        ("Dogs/img2.png", "Dogs"),
        ("Dogs/Img010.jpg", "Dogs"),
    ]
    assert isinstance(source, PictureFolder)
    assert source.ignored == 5  # hidden folders are not searched
    (classes / "Dogs").rename(classes / "wolves")
    assert open_targets(classes).identity != source.identity


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
    source = open_targets(tmp_path / "linked")
    names = ["felines/9.png", "felines/10.png", "felines/wild/1.PNG"]
    assert [source.name(image) for image in range(len(source))] == names


def test_what_is_no_file_is_a_bad_image(classes: Path) -> None:
    (classes / "1.png").symlink_to(classes / "nowhere")
    os.mkfifo(classes / "3.png")
    source = open_targets(classes)
    for image, reason in ((0, "1.png: no such file or directory"), (2, "3.png: it is not a file")):
        with pytest.raises(InputError, match=rf"^cannot read \S+/{reason}$"):
            source[image]
    assert source[1].shape == (4, 4)


def test_opening_reads_no_picture_and_reading_one_no_other(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (classes / "cats" / "9.png").write_bytes(b"broken")
    opened: list[str] = []
    original = Image.open

    def counted(file: Any, *arguments: Any, **options: Any) -> Image.Image:
        opened.append(Path(file.name).name)
        return original(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", counted)
    source = open_targets(classes)
    assert source.identity
    assert opened == []
    assert source[0].shape == (4, 4)
    assert opened == ["2.png"]
    with pytest.raises(InputError, match=r"cannot read .*cats/9\.png: it is not an image in a known format"):
        source[2]
    assert source[3].shape == (4, 4)


def test_files_are_named_as_they_are_given(classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(classes)
    paths = ["cats/9.png", str(classes / "10.png"), Path("Dogs/img2.png")]
    source = open_targets(paths, PictureOptions(size=3))
    assert isinstance(source, PictureFiles)
    assert [source.name(index) for index in range(3)] == [str(path) for path in paths]
    assert source.label(0) == ""
    assert repr(source) == "PictureFiles('9.png and 2 more', 3 images)"
    for index, path in enumerate(paths):
        assert torch.equal(source[index], read_image(path, PictureOptions(size=3)))
    assert len(open_targets(paths, limit=2)) == 2
    identity = open_targets(paths).identity
    assert identity != source.identity
    assert identity == open_targets([classes / path for path in paths]).identity
    assert identity != open_targets(paths[::-1]).identity
    with pytest.raises(InputError, match=r"^cannot use cats/9.png: it is given twice$"):
        open_targets([*paths, Path("cats/9.png")])
    with pytest.raises(ValueError, match="paths must not be empty"):
        open_targets([])
    with pytest.raises(TypeError, match="open_targets: path must be a path or a list of paths, got int"):
        open_targets(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="PictureFiles: paths must be a list of paths, got str"):
        PictureFiles("cats/9.png")


def test_one_path_is_what_it_is_also_in_a_list(classes: Path) -> None:
    (classes / "2.png").rename(classes / "no suffix")
    for path in (classes / "10.png", classes / "no suffix"):
        source = open_targets([path])
        assert isinstance(source, PictureFiles)
        assert (len(source), source.name(0)) == (1, str(path))
        assert source.identity == open_targets(path).identity
    assert isinstance(open_targets([classes]), PictureFolder)


def test_bad_files_are_reported_when_they_are_read(classes: Path) -> None:
    (classes / "empty.png").touch()
    source = open_targets([classes / "empty.png", classes / "missing.png", classes, classes / "2.png"])
    for index, reason in enumerate(("the file is empty", "no such file or directory", "it is not a file")):
        with pytest.raises(InputError, match=rf"^cannot read \S+: {reason}$"):
            source[index]
    assert source[3].shape == (4, 4)


def test_a_class_that_can_not_be_listed_is_named(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "Dogs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError) as raised:
        open_targets(classes)
    assert str(raised.value) == f"cannot read {classes / 'Dogs'}: permission denied"


def test_folders_that_hold_no_picture(tmp_path: Path) -> None:
    assert "no such file or directory" in error_of(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    assert "it contains no picture (other files: 1)" in error_of(tmp_path)
    assert "it is none of these: a picture, a folder of pictures, an IDX file" in error_of(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl"])
def test_files_that_run_code_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"images{suffix}").touch()
    assert "files can run code when they are opened; save" in error_of(tmp_path / f"images{suffix}")


def test_arguments_are_checked(tmp_path: Path) -> None:
    for limit, error, message in (
        (0, ValueError, "limit must be at least 1, got 0"),
        (2.0, TypeError, "limit must be a whole number, got 2.0"),
    ):
        with pytest.raises(error, match=f"^open_targets: {message}$"):
            open_targets(tmp_path, limit=limit)  # type: ignore[arg-type]
        with pytest.raises(error, match=f"^TensorTargets.from_iterable: {message}$"):
            TensorTargets.from_iterable([], limit=limit)  # type: ignore[arg-type]
    options: Any = {"size": 3}
    with pytest.raises(TypeError, match=r"^open_targets: options must be PictureOptions, got dict$"):
        open_targets(tmp_path, options)
    with pytest.raises(TypeError, match=r"^TensorTargets\.from_iterable: options must be PictureOptions, got dict$"):
        TensorTargets.from_iterable([], options)
