"""The same images as data files of every kind, and what any source of them must hold to."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from fractalops.data.targets import Source, open_source
from fractalops.errors import InputError

GRAY = numpy.random.default_rng(0).integers(0, 256, (5, 12, 18), dtype=numpy.uint8)  # (S, H, W)
COLOR = numpy.random.default_rng(1).integers(0, 256, (4, 12, 18, 3), dtype=numpy.uint8)  # (S, H, W, 3)

Writer = Callable[[Path, numpy.ndarray], Path]


def idx_bytes(values: numpy.ndarray) -> bytes:
    """An IDX file of uint8, as MNIST's."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(path: Path, values: numpy.ndarray) -> Path:
    """Write uint8 values, packed if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(values)
    # Without the time, so that two files of the same values are the same.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_folder(folder: Path, images: numpy.ndarray) -> Path:
    folder = folder / "pictures"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def write_npy(folder: Path, images: numpy.ndarray) -> Path:
    numpy.save(folder / "stack.npy", images)
    return folder / "stack.npy"


def write_npz(folder: Path, images: numpy.ndarray) -> Path:
    numpy.savez_compressed(folder / "stack.npz", pictures=images)
    return folder / "stack.npz"


def write_safetensors(folder: Path, images: numpy.ndarray) -> Path:
    save_file({"images": images, "mean": images[0]}, folder / "stack.safetensors")
    return folder / "stack.safetensors"


def write_plain_idx(folder: Path, images: numpy.ndarray) -> Path:
    return write_idx(folder / "t10k-images-idx3-ubyte", images)


def write_packed_idx(folder: Path, images: numpy.ndarray) -> Path:
    return write_idx(folder / "t10k-images-idx3-ubyte.gz", images)


ARRAYS: list[Writer] = [write_npy, write_npz, write_safetensors]
KINDS: list[Writer] = [write_folder, write_plain_idx, write_packed_idx, *ARRAYS]


def targets(source: Source) -> list[torch.Tensor]:
    """All targets, each of the shape that was told before it was read, and float32."""
    read = []
    for image in range(len(source)):
        shape = source.shape(image)
        read.append(source.read(image))
        assert (read[-1].shape, read[-1].dtype) == (shape, torch.float32)
    return read


def error_of(path: Path, **options: Any) -> str:
    """The one line that refuses a path, which it names first."""
    with pytest.raises(InputError) as raised:
        open_source(path, **options)
    text = str(raised.value)
    assert text.startswith(f"cannot read {path}")
    assert "\n" not in text
    return text
