"""Target images of the experiments: MNIST and its likes from a local folder, and random fractals."""

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
"""Data sets of images, and torchvision's folders of them."""
DATA = ("fractaldb", *FOLDERS)
_FILES = {"test": "t10k-images-idx3-ubyte", "train": "train-images-idx3-ubyte"}
_MAPS = 10  # of a random fractal (paper section 5.1)


@dataclass(frozen=True)
class Targets:
    """Images (S, H, W) in [0, 1], and their classes, "" where there are none."""

    images: Tensor
    labels: list[str]


def find_files(name: str, folder: Path | None) -> dict[str, Path]:
    """Return the splits of a data set, "test" and "train", that are in a folder, and their paths.

    Looks for torchvision's layout (MNIST/raw/t10k-images-idx3-ubyte, also .gz), for a folder of the name (mnist/), and
    in the folder itself where that has the name of the data set.
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
    """Return the available names of `DATA`: random fractals, and data sets whose files are in the folder."""
    return ["fractaldb", *(name for name in FOLDERS if find_files(name, folder))]


def download_missing(names: Sequence[str], folder: Path | None) -> None:
    """Have torchvision lay into a folder what it lacks of the data sets.

    Raises `InputError` where it can't, and without a folder; `MissingExtra` without torchvision.
    """
    if not names:
        return
    if folder is None:
        raise InputError("cannot download: no folder was given (data=None)")
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # the second where it is made for another torch
        raise MissingExtra("download", f"torchvision ({one_line(error)})", "download") from error
    for name in names:
        try:
            with redirect_stdout(sys.stderr):  # it says what it does
                getattr(datasets, FOLDERS[name])(str(folder), download=True)
        except Exception as error:  # no network, no server, no room, damaged files: it raises almost anything
            raise InputError(f"cannot download {name}: {one_line(error)}") from error


def missing(name: str, folder: Path | None) -> InputError:
    """Return the error that names the files which a data set wants."""
    where = "no folder was given (data=None)" if folder is None else f"{folder} has none of its files"
    raw = f"{FOLDERS[name]}/raw"
    return InputError(
        f"cannot read {name}: {where}; expected are {raw}/{_FILES['test']} and {raw}/{_FILES['train']}, also .gz, "
        f"as torchvision lays them (download=True has it do so), or {name}/{_FILES['test']}"
    )


def read_targets(name: str, folder: Path | None, count: int, *, size: int, points: int, seed: int) -> Targets:
    """Return `count` binary images of a data set, drawn by the seed, or of random fractals of `points`.

    Raises `InputError` for files that are missing or damaged, and where there are fewer images.
    """
    if name == "fractaldb":
        # A stream of their own: the encoder learns from random fractals, too, and `fit` starts from random systems.
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
    """Return images of a file, drawn at random, at most so many; those above a threshold become 1, others 0."""
    source = open_targets(path, PictureOptions(fit_to=size, threshold=threshold))
    chosen = torch.randperm(len(source), generator=generator)[:most].tolist()
    return Targets(torch.stack([source[i] for i in chosen]), [source.label(i) for i in chosen])
