"""Tests of IDX and array files as sources: labels, layouts, files larger than memory, and damaged files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fractalops.data.targets import open_targets
from fractalops.errors import InputError
from fractalops.io.memory import VARIABLE
from tests.support.target_files import GRAY, error_of, idx_bytes, write_arrays, write_idx, write_npy

LABELS = numpy.array([3, 1, 4, 1, 5], dtype=numpy.uint8)  # (S,)
IMAGES_NAME, LABELS_NAME = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        *((IMAGES_NAME + packed, LABELS_NAME + other) for packed in ("", ".gz") for other in ("", ".gz")),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
    ],
)
def test_labels_beside_idx_images(tmp_path: Path, images: str, labels: str) -> None:
    path = write_idx(tmp_path / images, GRAY)
    unlabeled = open_targets(path)
    assert (unlabeled.name(4), unlabeled.label(4)) == (f"{images.partition('-')[0]}-images/00004", "")
    write_idx(tmp_path / labels, LABELS)
    source = open_targets(path)
    assert [source.label(image) for image in range(5)] == ["3", "1", "4", "1", "5"]
    assert source.identity != unlabeled.identity
    write_idx(tmp_path / labels, LABELS[:4])
    with pytest.raises(InputError, match=rf"cannot read .*{labels}: it has 4 labels for 5 images in {images}"):
        open_targets(path)
    assert open_targets(write_idx(tmp_path / "digits-idx3-ubyte", GRAY)).label(0) == ""


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
def test_a_folder_with_idx_files(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "data"
    path = write_idx(folder / place / f"{IMAGES_NAME}.gz", GRAY)
    write_idx(folder / place / f"{LABELS_NAME}.gz", LABELS)
    assert open_targets(folder).identity == open_targets(path).identity
    write_idx(folder / place / IMAGES_NAME, GRAY)  # torchvision leaves both; the unpacked one is used
    assert f"{IMAGES_NAME}: 5 images" in open_targets(folder).identity
    write_idx(folder / place / "train-images-idx3-ubyte", GRAY)
    error = error_of(folder)
    assert "several files of images, choose one of them" in error
    assert str(Path(place, "train-images-idx3-ubyte")) in error


WHOLE = idx_bytes(GRAY)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not an IDX file: it begins with nothing"),
        (b"\x89PNG" + WHOLE, "it is not an IDX file: it begins with 89 50 4e 47"),
        (b"\0\0\x0d\3" + WHOLE[4:], "its values must be uint8, got float32"),
        (b"\0\0\x07\3" + WHOLE[4:], "it is not an IDX file: it begins with 00 00 07 03"),
        (idx_bytes(LABELS), "it must have 3 dimension(s), got 1"),
        (WHOLE[:11], "it is truncated: it ends within its header"),
        (WHOLE[:-1], "it is truncated: its shape (5, 12, 18) takes 1080 bytes, and it has 1079"),
        (WHOLE + b"\0", "it is too long: its shape (5, 12, 18) takes 1080 bytes, and it has more"),
        (idx_bytes(GRAY[:0]), "it is empty: its shape is (0, 12, 18)"),
    ],
)
def test_broken_idx_files(tmp_path: Path, packed: bool, content: bytes, reason: str) -> None:
    path = tmp_path / f"{IMAGES_NAME}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert error_of(path) == f"cannot read {path}: {reason}"


def test_broken_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"{IMAGES_NAME}.gz"
    whole = gzip.compress(WHOLE)
    wrong_sum = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content in (b"not gzip", whole[:-200], wrong_sum):
        path.write_bytes(content)
        assert "the file is damaged (" in error_of(path)
    path.write_bytes(whole)
    monkeypatch.setenv(VARIABLE, "1000")
    assert error_of(path) == (
        f"cannot read {path}: unpacking it needs 1080 bytes of memory, but the limit is 1000 bytes "
        f"({VARIABLE}=1080bytes raises it; or unpack the file)"
    )
    monkeypatch.setenv(VARIABLE, "1080")
    assert len(open_targets(path)) == 5


def test_unpacking_takes_the_memory_of_what_is_unpacked(tmp_path: Path) -> None:
    images = numpy.zeros((3000, 40, 50), dtype=numpy.uint8)
    images[-1] = 255
    path = write_idx(tmp_path / f"{IMAGES_NAME}.gz", images)
    tracemalloc.start()
    source = open_targets(path)
    assert tracemalloc.get_traced_memory()[1] < images.nbytes + 2**23
    tracemalloc.stop()
    assert source[-1].min() == 1.0


@given(
    content=st.binary(max_size=40), start=st.sampled_from([b"", b"\0\0\x08\3", b"\0\0\x08\3\0\0\0\1\0\0\0\2\0\0\0\2"])
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / IMAGES_NAME
    path.write_bytes(start + content)
    try:
        source = open_targets(path)
    except InputError as error:
        assert str(error).startswith(f"cannot read {path}: ")  # noqa: PT017
    else:
        assert len(source) == 1
        with suppress(InputError):  # the image may be blank
            assert source[0].shape == (2, 2)


def write_sparse(path: Path, header: bytes, first: int) -> None:
    """Write a header and 6 GiB of black images as a sparse file, with one white image at byte `first`."""
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 6 * 2**30)
        file.seek(len(header) + first)
        file.write(b"\xff" * 1024)


def test_files_larger_than_memory_are_read_where_it_is_asked(tmp_path: Path) -> None:
    count, bright = 6 * 2**20, 5 * 2**20  # images of 1 KiB
    idx, npy, safe = tmp_path / IMAGES_NAME, tmp_path / "stack.npy", tmp_path / "stack.safetensors"
    header = b"\0\0\x08\3" + b"".join(length.to_bytes(4, "big") for length in (count, 32, 32))
    write_sparse(idx, header, bright * 1024)
    with npy.open("wb") as file:
        shape: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (count, 32, 32)}
        numpy.lib.format.write_array_header_1_0(file, shape)
    write_sparse(npy, npy.read_bytes(), bright * 1024)
    entry = {"images": {"dtype": "U8", "shape": (count, 32, 32), "data_offsets": (0, count * 1024)}}
    header = json.dumps(entry).encode()
    write_sparse(safe, len(header).to_bytes(8, "little") + header, bright * 1024)
    tracemalloc.start()  # also traces NumPy's allocations
    for path in (idx, npy, safe):
        source = open_targets(path)
        assert len(source) == count
        assert torch.equal(source[bright], torch.ones(32, 32))
        with pytest.raises(InputError) as raised:
            source[17]
        assert str(raised.value).startswith(f"cannot use {path}, image 17: image must not be blank")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("suffix", "labels"),
    [
        ("safetensors", LABELS),  # this format cannot contain text
        ("npz", LABELS),
        ("npz", numpy.array(list("catde"))),
        ("npz", numpy.array([b"a", b"b", b"c", b"d", b"e"])),
    ],
)
def test_labels_in_array_files(tmp_path: Path, suffix: str, labels: numpy.ndarray) -> None:
    source = open_targets(write_arrays(tmp_path / f"stack.{suffix}", images=GRAY, labels=labels, other=GRAY))
    assert [source.label(image) for image in range(5)] == labels.astype(str).tolist()
    assert source.name(1) == "stack/00001"


def test_archives_that_unpack_to_too_much_are_refused_by_their_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stack.npz"
    numpy.savez_compressed(path, images=numpy.ones((4, 300, 300), dtype=numpy.uint8), labels=LABELS[:4])
    assert len(open_targets(path)) == 4
    monkeypatch.setenv(VARIABLE, "300KiB")
    tracemalloc.start()
    assert error_of(path) == (
        f"cannot read {path}: unpacking images, labels needs 352 KiB of memory, but the limit is 300 KiB "
        f"({VARIABLE}=352KiB raises it; or save it as .npy, which is read one image at a time)"
    )
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    """A file whose header claims 10^12 images is refused without allocating memory for them."""
    header = io.BytesIO()
    shape: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 32, 32)}
    numpy.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "stack.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    (tmp_path / "stack.npy").write_bytes(header.getvalue())
    for suffix in ("npz", "npy"):
        assert "damaged" in error_of(tmp_path / f"stack.{suffix}")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_archives_that_do_not_tell_which_are_the_images(tmp_path: Path, suffix: str) -> None:
    def error_with(**arrays: numpy.ndarray) -> str:
        return error_of(write_arrays(tmp_path / f"stack.{suffix}", **arrays))

    assert "one array, or an array named 'images', got test, train" in error_with(train=GRAY, test=GRAY)
    assert "one array, or an array named 'images', got none" in error_with(labels=LABELS)
    assert "labels must have shape (5,), got (4,)" in error_with(images=GRAY, labels=LABELS[:4])
    assert "(S, 3, H, W) or (S, H, W, 3), got (5,)" in error_with(images=LABELS)
    assert "images must be uint8 or floating-point, got" in error_with(images=GRAY.astype(numpy.int16))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (GRAY[0], "images must have shape (S, H, W), (S, 3, H, W) or (S, H, W, 3), got (12, 18)"),
        (GRAY[:0], "images must have shape (S, H, W), (S, 3, H, W) or (S, H, W, 3), got (0, 12, 18)"),
        (GRAY.reshape(5, 2, 6, 18), "a picture must have shape (H, W), (3, H, W) or (H, W, 3), got (2, 6, 18)"),
        (GRAY.astype(numpy.int64), "images must be uint8 or floating-point, got int64"),
        (GRAY > 9, "images must be uint8 or floating-point, got bool"),
        (numpy.array([[["a"]]]), "images must be uint8 or floating-point, got str32"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: numpy.ndarray, reason: str) -> None:
    path = write_npy(tmp_path, array)
    assert error_of(path) == f"cannot read {path}: {reason}"


@pytest.mark.parametrize(("value", "got"), [(1.5, "0 to 1.5"), (-1.0, "-1 to 0"), (numpy.nan, "nan to nan")])
def test_errors_of_floats_out_of_range_name_the_image(tmp_path: Path, value: float, got: str) -> None:
    images = numpy.zeros((3, 4, 4), dtype=numpy.float32)
    images[0], images[2, 0, 0] = 0.5, value
    path = write_npy(tmp_path, images)
    source = open_targets(path)
    assert source[0].mean() == 0.5
    with pytest.raises(InputError) as raised:
        source[2]
    assert str(raised.value) == f"cannot read {path}, image 2: its values must lie in [0, 1], got {got}"


class Bomb:
    """An object that fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a file was executed",))


def test_broken_array_files_and_those_that_hide_code(tmp_path: Path) -> None:
    objects = numpy.array([Bomb()], dtype=object)
    for suffix in ("npy", "npz", "safetensors"):
        path = write_arrays(tmp_path / f"stack.{suffix}", images=GRAY)
        whole = path.read_bytes()
        for content in (b"", b"not an array", whole[:-300], pickle.dumps(Bomb())):
            path.write_bytes(content)
            assert "damaged" in error_of(path)
    numpy.save(tmp_path / "stack.npy", objects, allow_pickle=True)
    numpy.savez(tmp_path / "stack.npz", objects)
    for suffix in ("npy", "npz"):
        assert "does not contain plain numbers" in error_of(tmp_path / f"stack.{suffix}")
    path = write_arrays(tmp_path / "stack.npz", images=GRAY, labels=numpy.array([b"\xff"] * 5))
    assert "its labels are neither numbers nor text" in error_of(path)
