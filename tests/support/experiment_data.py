"""Shared parts of the tests of the experiments: the smallest settings of a study, and files like MNIST's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.reconstruct import ReconstructSettings
from tests.support.target_files import write_idx

TINY: dict[str, Any] = {"images": 2, "steps": 3, "sequences": 2, "points": 20, "maps": 3, "size": 8}
TINY_OPTIONS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
SETTINGS = ReconstructSettings(**TINY)


def open_folder(path: Path, settings: ReconstructSettings = SETTINGS, *, overwrite: bool = False) -> ExperimentFolder:
    """Return the folder of a run of reconstruct, created or reopened."""
    output = ExperimentFolder(path, "reconstruct", settings, {})
    output.open(overwrite=overwrite)
    return output


def write_mnist(folder: Path, images: int, split: str = "t10k", packed: bool = True) -> None:
    """Write blobs with labels in files like MNIST's."""
    pixels = numpy.zeros((images, 28, 28), numpy.uint8)
    for number in range(images):
        pixels[number, 4 + number % 9 : 16, 8:20] = 255
    suffix = ".gz" if packed else ""
    write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", pixels)
    write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", numpy.arange(images, dtype=numpy.uint8) % 10)
