"""Target images of the experiments: MNIST and similar data sets from a local folder, and random fractals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fractalops.data.generators import generator_of
from fractalops.data.targets import open_targets
from fractalops.errors import InputError, MissingExtra
from fractalops.experiments.fractals import THRESHOLD, random_fractals
from fractalops.io import PictureOptions
from fractalops.io.files import one_line

FOLDERS = {"mnist": "MNIST", "kmnist": "KMNIST", "fashion-mnist": "FashionMNIST"}
"""The names of the data sets, and of torchvision's folders."""
DATA = ("fractaldb", *FOLDERS)
_FILES = {"test": "t10k-images-idx3-ubyte", "train": "train-images-idx3-ubyte"}
_MAPS = 10  # maps of a random fractal (paper section 5.1)


@dataclass(frozen=True)
class Targets:
    """Images (S, H, W) in [0, 1] and their classes, which are "" if they are not known."""

    images: Tensor
    labels: list[str]


def find_files(name: str, folder: Path | None) -> dict[str, Path]:
    """Return the splits of a data set in a folder, "test" and "train", with their paths.

    The files can be in torchvision's layout (MNIST/raw/t10k-images-idx3-ubyte, also .gz), in a folder with the name of
    the data set (mnist/), or in `folder` itself if it has the name of the data set.
    """
    if folder is None:
        return {}
    places = [folder / FOLDERS[name] / "raw", folder / FOLDERS[name], folder / name]
    if folder.name.lower() in (name, FOLDERS[name].lower()):
        places += [folder / "raw", folder]
    found: dict[str, Path] = {}
    for split, stem in _FILES.items():
        for place in places:
            for path in (place / stem, place / f"{stem}.gz"):
                if split not in found and path.is_file():
                    found[split] = path
    return found


def available(folder: Path | None) -> list[str]:
    """Return the names in `DATA` that are available: random fractals, and data sets whose files are in the folder."""
    return ["fractaldb", *(name for name in FOLDERS if find_files(name, folder))]


def download_missing(names: Sequence[str], folder: Path | None) -> None:
    """Download the data sets that are missing in a folder, with torchvision.

    Raises `InputError` if the download fails or the folder is None, and `MissingExtra` if torchvision is not installed.
    """
    if not names:
        return
    if folder is None:
        raise InputError("cannot download: no folder was given (data=None)")
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise MissingExtra("download", f"torchvision ({one_line(error)})", "download") from error
    for name in names:
        try:
            with redirect_stdout(sys.stderr):  # torchvision prints its progress
                getattr(datasets, FOLDERS[name])(str(folder), download=True)
        except Exception as error:  # network, server, disk or damaged files: the type can be any
            raise InputError(f"cannot download {name}: {one_line(error)}") from error


def missing(name: str, folder: Path | None) -> InputError:
    """Return the error that names the missing files of a data set."""
    where = "no folder was given (data=None)" if folder is None else f"{folder} has none of its files"
    raw = f"{FOLDERS[name]}/raw"
    return InputError(
        f"cannot read {name}: {where}; expected are {raw}/{_FILES['test']} and {raw}/{_FILES['train']}, also .gz "
        f"(download=True downloads them with torchvision), or {name}/{_FILES['test']}"
    )


def read_targets(name: str, folder: Path | None, count: int, *, size: int, points: int, seed: int) -> Targets:
    """Return `count` binary images of a data set, chosen by the seed, or of random fractals with `points` points.

    Raises `InputError` if files are missing or damaged, or if there are fewer images.
    """
    if name == "fractaldb":
        # Other random numbers than the encoder's training data, and than the start of `fit`.
        images, _, _ = random_fractals(count, _MAPS, size, points, generator_of(seed, "targets", 0))
        return Targets(images, [""] * count)
    files = find_files(name, folder)
    if not files:
        raise missing(name, folder)
    path = files["test"] if "test" in files else files["train"]
    generator = torch.Generator().manual_seed(seed)
    found = read_split(path, count, size=size, generator=generator, threshold=THRESHOLD)
    if len(found.images) < count:
        raise InputError(f"cannot read {count} images of {path}: it has {len(found.images)}")
    return found


def read_split(
    path: Path, most: int, *, size: int, generator: torch.Generator, threshold: float | None = None
) -> Targets:
    """Return at most `most` random images of a file. With a threshold, pixels above it become 1, and others 0."""
    source = open_targets(path, PictureOptions(fit_to=size, threshold=threshold))
    chosen = torch.randperm(len(source), generator=generator)[:most].tolist()
    return Targets(torch.stack([source[i] for i in chosen]), [source.label(i) for i in chosen])
