"""Tests of tensors and iterables as targets."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops.data.targets import TensorTargets, open_targets
from fractalops.errors import InputError
from fractalops.io import PictureOptions
from tests.support.target_files import COLOR, GRAY, targets, write_folder

from_iterable = TensorTargets.from_iterable


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_are_taken_as_they_are(dtype: torch.dtype) -> None:
    images = torch.from_numpy(GRAY) if dtype == torch.uint8 else torch.rand(5, 40, 50).to(dtype).requires_grad_()
    source = TensorTargets(images, labels=list("abcde"))
    expected = images.detach().float() / (255 if dtype == torch.uint8 else 1)
    for number, target in enumerate(targets(source)):
        assert torch.equal(target, expected[number])
        target.fill_(0)
    assert torch.equal(source[0], expected[0])  # targets are copies
    assert (source.name(3), source.label(3)) == ("images/00003", "d")
    assert TensorTargets(images, names=list("vwxyz")).name(3) == "y"
    assert TensorTargets(images).label(3) == ""


def test_tensors_have_an_identity() -> None:
    images = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    one = TensorTargets(images)
    other = images.clone()
    other[3, 2, 4, 5] += 0.001
    assert one.identity == TensorTargets(images.clone()).identity
    changed = [TensorTargets(other), TensorTargets(images[:3]), TensorTargets(images, labels=list("abcd"))]
    assert len({one.identity, *(source.identity for source in changed)}) == 4


def test_tensors_that_are_no_images() -> None:
    for images, error, message in (
        (torch.rand(4, 4), ValueError, r"must have shape \(S, H, W\) or \(S, 3, H, W\), not empty, got \(4,\)"),
        (torch.rand(2, 4, 4, 3), ValueError, r"got \(4, 4, 3\) for image 0"),
        (torch.rand(0, 4, 4), ValueError, "images must not be empty"),
        (torch.ones(1, 4, 4, dtype=torch.int64), TypeError, r"must be uint8 or floating-point, got torch\.int64"),
        (numpy.ones((1, 4, 4)), TypeError, "images must be tensors, got ndarray"),
    ):
        with pytest.raises(error, match=message):
            TensorTargets(images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels must have length 2, the number of images, got 1"):
        TensorTargets(torch.rand(2, 4, 4), labels=["a"])
    source = TensorTargets(torch.tensor([[[0.5]], [[1.5]], [[torch.nan]]]))
    assert source[0].item() == 0.5
    with pytest.raises(InputError, match=r"cannot read images/00001, image 1 of .*lie in \[0, 1\], got 1\.5 to 1\.5"):
        source[1]
    with pytest.raises(InputError, match="got nan to nan"):
        source[2]


def test_what_an_iterable_yields_is_prepared(tmp_path: Path) -> None:
    options = PictureOptions(size=9, invert=True, color=True)
    folder = write_folder(tmp_path, GRAY)
    forms = [Image.fromarray(GRAY[0]), GRAY[1], torch.from_numpy(GRAY[2]), GRAY[3] / 255, Image.open(folder / "4.png")]
    source = from_iterable((form for form in forms), options)
    for target, expected in zip(targets(source), targets(open_targets(folder, options)), strict=True):
        torch.testing.assert_close(target, expected)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees to the right
    Image.fromarray(GRAY[0]).save(turned, "png", exif=exif)
    assert torch.equal(from_iterable([Image.open(turned)])[0], from_iterable([numpy.rot90(GRAY[0], -1)])[0])
    pairs = from_iterable((image, number) for number, image in enumerate(COLOR))
    assert [pairs.label(image) for image in range(4)] == list("0123")
    tensors = from_iterable(torch.utils.data.TensorDataset(torch.from_numpy(GRAY), torch.arange(5)))
    assert [tensors.label(image) for image in range(5)] == list("01234")


def test_iterables_are_drawn_no_further_than_asked() -> None:
    endless = itertools.cycle(GRAY)
    assert len(from_iterable(endless, limit=7)) == 7
    assert numpy.array_equal(next(endless), GRAY[2])
    with pytest.raises(InputError, match="image 4 of the iterable: the targets up to this image take 4320 bytes"):
        from_iterable(endless, most_bytes=4 * GRAY[0].size * 4)
    with pytest.raises(InputError, match="cannot use the iterable: it yields no picture"):
        from_iterable([])
    cut = io.BytesIO()
    Image.fromarray(GRAY[0]).save(cut, "png")
    with pytest.raises(InputError, match="cannot read image 0 of the iterable: the image is damaged"):
        from_iterable([Image.open(io.BytesIO(cut.getvalue()[:150]))])
    with pytest.raises(
        TypeError, match="from_iterable: pictures must be Pillow images, arrays or tensors, got str for picture 0"
    ):
        from_iterable(["leaf.png"])
    for bad, message in (
        (numpy.zeros((4, 4)), "cannot use image 1 of the iterable: image must not be blank"),
        (numpy.ones((4, 4), dtype=numpy.int32), "values must be uint8 or floating-point, got int32"),
        (numpy.full((4, 4), 255.0), r"values must lie in \[0, 1\], got 255 to 255"),
        (numpy.ones((2, 4, 4)), r"must have shape \(H, W\), \(3, H, W\) or \(H, W, 3\), got \(2, 4, 4\)"),
        (numpy.ones((0, 4)), r"a picture must have pixels, got shape \(0, 4\)"),
    ):
        with pytest.raises(InputError, match=f"image 1 of the iterable: .*{message}|{message}"):
            from_iterable([GRAY[0], bad])
