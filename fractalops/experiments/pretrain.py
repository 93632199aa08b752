"""Pictures of fractals for pre-training elsewhere, from `FractalDataset`."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from fractalops._checks import Bounds, Count, Natural, check_count, check_fields, check_range
from fractalops.data.class_search import search_classes
from fractalops.data.fractal_dataset import FractalDataset, RuleName
from fractalops.data.rules.settings import Background, PublishedRendering, Rendering
from fractalops.drawing.sheets import contact_sheet
from fractalops.errors import InputError
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.outcome import Outcome, Row
from fractalops.experiments.settings import INCIDENTAL
from fractalops.fitting import FitResult, FitRun
from fractalops.ifs import IFS
from fractalops.interruptions import end_as_worker
from fractalops.io.files import atomic_path
from fractalops.io.images import save_image
from fractalops.io.progress import progress_bar
from fractalops.io.run_folder import OTHER_FOLDER
from fractalops.io.systems import read_systems, write_systems
from fractalops.systems import System
from fractalops.systems.stacking import Stack

NAME = "pretrain"
SUMMARY = "a labeled data set of fractals, as shards of pictures or as a folder for each class"
_BATCH = 64
_SHOWN = 100  # classes on the contact sheet
_FEW = 100  # instances
_SYSTEMS = "systems.safetensors"

Search = Literal["own", "filling-rate"]
Layout = Literal["shards", "folders"]

_Share = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the data set, see `FractalDataset`, and of its files."""

    systems: str = ""
    """The file or folder whose systems are the classes, by their names: what `read_systems` reads, as FractalDB's CSV
    files or what `fit` saved, or a folder of `fit_dataset`. Empty: random ones."""
    classes: Count = 1000
    """The number of random systems; given ones are all taken."""
    instances: Count | Literal["few"] | None = None
    """Instances of each class; None, as below, is what `FractalDataset` takes for the rules. "few" is that, but 100
    at most."""
    size: Count = 224
    """Pixels of an image's side."""
    rules: RuleName = "own"
    rendering: Rendering | PublishedRendering | None = None
    """None is "patch" for our own rules."""
    points: Count | None = None
    maps: Count | tuple[int, int] | None = None
    """Maps of a random system, a number or the least and the largest: FractalDB has 2 to 7."""
    search: Search = "own"
    """Random systems of the rules' own kind, or FractalDB's, found by their filling rate (`search_classes`)."""
    perturbation: _Share | None = None
    background: Background | None = None
    density: _Share | None = None
    """The least share of pixels that an image lights, or the filling rate of the search."""
    layout: Layout = "shards"
    """Tar files as WebDataset reads them, or a folder of pictures for each class, as FractalDB and torchvision's
    `ImageFolder` have them."""
    shard: Count = 1000
    """Images of a shard."""
    workers: Natural = field(default=0, metadata=INCIDENTAL)
    """Processes that draw beside this one."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.instances != "few":
            check_count("PretrainSettings", "instances", self.instances, optional=True)
        if self.maps is not None:
            check_range("PretrainSettings", "maps", self.maps)
        if self.systems and self.search == "filling-rate":
            raise ValueError(f"PretrainSettings: search must be left out where systems are given, got {self.search!r}")
        if self.rules == "one-parameter" and self.search == "filling-rate":
            raise ValueError(
                "PretrainSettings: search must be left out where rules is 'one-parameter', whose classes are one "
                f"system perturbed, got {self.search!r}"
            )


PRESETS = {
    "small": PretrainSettings(classes=50, instances="few", size=64, points=20_000, shard=500),
    "paper": PretrainSettings(),
}


def run(
    settings: PretrainSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Write the pictures of the data set, and those of the first classes on a sheet.

    As shards/00000.tar and so on, in the layout of WebDataset: 000000017.png, and 000000017.cls with its class; or as
    images/00003/00003_0017.png, of class 3 and its instance 17. systems.safetensors has the systems of the classes.
    Files that are there already are kept: a run that was interrupted goes on. `data` says nothing here.
    """
    output.claim_files([output.file(_SYSTEMS)])
    dataset = _dataset(settings, output, progress)
    _keep_systems(dataset, output)
    _remove_empty_folders(output)
    shown = [number * dataset.instances for number in range(min(dataset.num_classes, _SHOWN))]
    firsts = torch.stack([image for image, _ in dataset.__getitems__(shown)]).squeeze(1)
    save_image(contact_sheet(firsts / 255), output.file("classes.png"))
    write = _write_shards if settings.layout == "shards" else _write_folders
    began = time.perf_counter()
    files, drawn = write(dataset, settings, output, progress)
    seconds = time.perf_counter() - began
    row: Row = {
        "images": len(dataset),
        "classes": dataset.num_classes,
        "size": settings.size,
        "rendering": dataset.rendering,
        settings.layout: files,
        "drawn now": drawn,
        "images a second": drawn / seconds if drawn else float("nan"),
    }
    return Outcome([row])


def _dataset(settings: PretrainSettings, output: ExperimentFolder, progress: bool) -> FractalDataset:
    try:
        systems: int | IFS | list[System] = settings.classes
        if settings.systems:
            systems = _given(Path(settings.systems))
        elif settings.search == "filling-rate" or settings.rules == "fractaldb":
            systems = _searched(settings, output, progress)
        return FractalDataset(
            systems,
            _instances(settings),
            settings.size,
            rules=settings.rules,
            rendering="patch" if settings.rendering is None and settings.rules == "own" else settings.rendering,
            points=settings.points,
            maps=settings.maps,
            perturbation=settings.perturbation,
            background=settings.background,
            density=settings.density,
            dtype=torch.uint8,
            seed=settings.seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def _instances(settings: PretrainSettings) -> int | None:
    if settings.instances != "few":
        return settings.instances
    return None if settings.rules == "one-parameter" else _FEW  # which has 1, the others 100 or more


def _searched(settings: PretrainSettings, output: ExperimentFolder, progress: bool) -> list[System]:
    """Search for the classes, or return those that an earlier run has found."""
    if (kept := output.file(_SYSTEMS)).exists():
        return list(read_systems(kept).values())
    given = {"rate": settings.density, "maps": settings.maps}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return search_classes(settings.classes, seed=settings.seed, progress=progress, **chosen)


def _given(path: Path) -> IFS | list[System]:
    """Return the systems of a run of `fit_dataset`, or of a file or folder. Raises `InputError`."""
    if (path / "run.json").is_file():
        return FitRun.load(path).system()
    if path.suffix == "" and not path.is_dir():  # `FitResult.save` asks for no suffix
        return FitResult.load(path).system
    return list(read_systems(path).values())


def _keep_systems(dataset: FractalDataset, output: ExperimentFolder) -> None:
    """Keep the classes' systems beside their pictures. Raises `InputError` where others are there."""
    path = output.file(_SYSTEMS)
    if not path.exists():
        write_systems(path, dataset.systems)
        return
    kept = read_systems(path)
    equal = all(map(torch.equal, Stack.of(list(kept.values())), Stack.of(dataset.systems)))
    if not equal or list(kept) != dataset.classes:
        raise InputError(
            f"cannot go on in {output.path}: the systems differ from those of its pictures; {OTHER_FOLDER}"
        )


def _remove_empty_folders(output: ExperimentFolder) -> None:
    """Remove what a run that was overwritten has left: the folders of its pictures, where they are empty."""
    images = output.file("images")
    of_classes = [path for path in images.glob("*") if re.fullmatch("[0-9]{5,}", path.name)]
    for folder in (*of_classes, images, output.file("shards")):
        with suppress(OSError):
            folder.rmdir()


def _write_shards(
    dataset: FractalDataset, settings: PretrainSettings, output: ExperimentFolder, progress: bool
) -> tuple[int, int]:
    """Write the shards that are missing; return how many there are, and how many images were drawn now."""
    folder = output.file("shards")
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(dataset), generator=generator, device="cpu")  # classes mixed
    shards = [(number, folder / f"{number:05}.tar", items) for number, items in enumerate(order.split(settings.shard))]
    output.claim_files([path for _, path, _ in shards])
    missing = [(number, path, items) for number, path, items in shards if not path.exists()]
    left = [item for _, _, items in missing for item in items.tolist()]
    with progress_bar(len(left), "image", NAME, shown=progress) as bar:
        files = _files(dataset, left, settings)
        for number, path, items in missing:
            with atomic_path(path) as temporary:
                _write(temporary, islice(files, len(items)), first=number * settings.shard)
            bar.update(len(items))
    return len(shards), len(left)


def _write_folders(
    dataset: FractalDataset, settings: PretrainSettings, output: ExperimentFolder, progress: bool
) -> tuple[int, int]:
    """Write the pictures that are missing; return how many folders there are, and how many images were drawn now."""
    labels = _labels(dataset)
    folders = [output.file("images") / label for label in labels]
    output.claim_files(folders)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    there = {name for folder in folders for name in os.listdir(folder)}
    left = [item for item in range(len(dataset)) if _picture_name(item, dataset.instances, labels) not in there]
    with progress_bar(len(left), "image", NAME, shown=progress) as bar:
        for item, (png, label) in zip(left, _files(dataset, left, settings), strict=True):
            with atomic_path(folders[label] / _picture_name(item, dataset.instances, labels)) as temporary:
                temporary.write_bytes(png)
            bar.update()
    return len(folders), len(left)


def _picture_name(item: int, instances: int, labels: list[str]) -> str:
    label, instance = divmod(item, instances)
    return f"{labels[label]}_{instance:04}.png"


def _labels(dataset: FractalDataset) -> list[str]:
    """Return what folders of classes are called: by their names where all are such as FractalDB's, or their numbers."""
    if all(re.fullmatch("[0-9]{5}", name) for name in dataset.classes):
        return dataset.classes
    return [f"{number:05}" for number in range(dataset.num_classes)]


def _files(dataset: FractalDataset, items: list[int], settings: PretrainSettings) -> Iterator[tuple[bytes, int]]:
    """Yield the contents of PNG files and their classes: one loader draws ahead while files are written."""
    loader = DataLoader(
        Subset(dataset, items),
        _BATCH,
        num_workers=settings.workers,
        collate_fn=_encoded,
        worker_init_fn=end_as_worker,
    )
    return chain.from_iterable(loader)


def _encoded(pairs: Sequence[tuple[Tensor, int]]) -> list[tuple[bytes, int]]:
    """Return images (C, H, W), uint8, as the contents of PNG files, each with its class."""
    files = []
    for image, label in pairs:
        picture = Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())
        png = io.BytesIO()
        picture.save(png, "png", compress_level=1)
        files.append((png.getvalue(), label))
    return files


def _write(path: Path, files: Iterable[tuple[bytes, int]], first: int) -> None:
    """Write a tar file of pictures and classes: the same bytes for the same images."""
    with tarfile.open(path, "w") as archive:
        for number, (png, label) in enumerate(files, first):
            for suffix, content in (("png", png), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{number:09}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
