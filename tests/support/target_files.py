"""The same images as target files of every kind, and checks for any data set of them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from fractalops.data.targets import TargetDataset, open_targets
from fractalops.errors import InputError

GRAY = numpy.random.default_rng(0).integers(0, 256, (5, 12, 18), dtype=numpy.uint8)  # (S, H, W)
COLOR = numpy.random.default_rng(1).integers(0, 256, (4, 12, 18, 3), dtype=numpy.uint8)  # (S, H, W, 3)

Writer = Callable[[Path, numpy.ndarray], Path]


def idx_bytes(values: numpy.ndarray) -> bytes:
    """Return an IDX file of uint8, as MNIST's."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(path: Path, values: numpy.ndarray) -> Path:
    """Write uint8 values, compressed if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(values)
    # Without the time, files of the same values have the same bytes.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_folder(folder: Path, images: numpy.ndarray) -> Path:
    folder = folder / "pictures"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def write_arrays(path: Path, **arrays: numpy.ndarray) -> Path:
    """Write an array as .npy, or several by their names as .npz or .safetensors."""
    if path.suffix == ".npy":
        numpy.save(path, *arrays.values())
    elif path.suffix == ".npz":
        numpy.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        save_file(arrays, path)
    return path


def write_npy(folder: Path, images: numpy.ndarray) -> Path:
    return write_arrays(folder / "stack.npy", images=images)


def write_npz(folder: Path, images: numpy.ndarray) -> Path:
    numpy.savez_compressed(folder / "stack.npz", pictures=images)
    return folder / "stack.npz"


def write_safetensors(folder: Path, images: numpy.ndarray) -> Path:
    return write_arrays(folder / "stack.safetensors", images=images, mean=images[0])


def write_plain_idx(folder: Path, images: numpy.ndarray) -> Path:
    return write_idx(folder / "t10k-images-idx3-ubyte", images)


def write_packed_idx(folder: Path, images: numpy.ndarray) -> Path:
    return write_idx(folder / "t10k-images-idx3-ubyte.gz", images)


ARRAYS: list[Writer] = [write_npy, write_npz, write_safetensors]
KINDS: list[Writer] = [write_folder, write_plain_idx, write_packed_idx, *ARRAYS]


def targets(source: TargetDataset) -> list[torch.Tensor]:
    """Return all targets (H, W) or (3, H, W), after checking that each is float32 in [0, 1]."""
    read = [source[index] for index in range(len(source))]
    for target in read:
        assert target.dtype == torch.float32
        assert 0 <= target.min() <= target.max() <= 1
    return read


def error_of(path: Path) -> str:
    """Return the error line for a path, which begins with the path."""
    with pytest.raises(InputError) as raised:
        open_targets(path)
    text = str(raised.value)
    assert text.startswith(f"cannot read {path}")
    assert "\n" not in text
    return text
