"""Write data sets of fractals for pre-training to files, from `FractalDataset`."""

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
_FEW = 100  # instances per class for instances="few"
_SYSTEMS = "systems.safetensors"

Search = Literal["own", "filling-rate"]
Layout = Literal["shards", "folders"]

_Share = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the data set (see `FractalDataset`) and of its files."""

    systems: str = ""
    """A file or folder whose systems and their names are the classes: any file that `read_systems` reads (such as
    FractalDB's CSV files or a result of `fit`), or a folder of `fit_dataset`. If empty, systems are random."""
    classes: Count = 1000
    """The number of random systems. If `systems` is given, all of its systems are used."""
    instances: Count | Literal["few"] | None = None
    """Instances per class. None, here and below, is the default of `FractalDataset` for the rules. "few" is 100, or the
    default if that is less."""
    size: Count = 224
    """The side of an image, in pixels."""
    rules: RuleName = "own"
    rendering: Rendering | PublishedRendering | None = None
    """None is "patch" for rules="own"."""
    points: Count | None = None
    maps: Count | tuple[int, int] | None = None
    """The number of maps of a random system, or the smallest and the largest number. FractalDB has 2 to 7."""
    search: Search = "own"
    """How random systems are found: by the rules, or by FractalDB's search with a filling rate (`search_classes`)."""
    perturbation: _Share | None = None
    background: Background | None = None
    density: _Share | None = None
    """The smallest share of lit pixels in an image, or the filling rate of the search."""
    layout: Layout = "shards"
    """Tar files for WebDataset, or a folder of pictures for each class, as in FractalDB and for torchvision's
    `ImageFolder`."""
    shard: Count = 1000
    """Images per shard."""
    workers: Natural = field(default=0, metadata=INCIDENTAL)
    """The number of processes that draw; with 0, this process draws."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.instances != "few":
            check_count("PretrainSettings", "instances", self.instances, optional=True)
        if self.maps is not None:
            check_range("PretrainSettings", "maps", self.maps)
        if self.systems and self.search == "filling-rate":
            raise ValueError(f"PretrainSettings: search must be left out if systems are given, got {self.search!r}")
        if self.rules == "one-parameter" and self.search == "filling-rate":
            raise ValueError(
                "PretrainSettings: search must be left out if rules is 'one-parameter', whose classes perturb one "
                f"system, got {self.search!r}"
            )


PRESETS = {
    "small": PretrainSettings(classes=50, instances="few", size=64, points=20_000, shard=500),
    "paper": PretrainSettings(),
}


def run(
    settings: PretrainSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Write the pictures of the data set, and a sheet with a picture of each of the first classes.

    Shards are shards/00000.tar and so on, in the layout of WebDataset: 000000017.png is a picture, and 000000017.cls
    has its class. Folders have files such as images/00003/00003_0017.png, instance 17 of class 3. systems.safetensors
    has the systems of the classes. Existing files are kept, so an interrupted run is resumed. `data` is not used.
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
    # The default is 1 for one-parameter, and 100 or more for the other rules.
    return None if settings.rules == "one-parameter" else _FEW


def _searched(settings: PretrainSettings, output: ExperimentFolder, progress: bool) -> list[System]:
    """Search for the classes, or return the classes that an earlier run found."""
    if (kept := output.file(_SYSTEMS)).exists():
        return list(read_systems(kept).values())
    given = {"rate": settings.density, "maps": settings.maps}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return search_classes(settings.classes, seed=settings.seed, progress=progress, **chosen)


def _given(path: Path) -> IFS | list[System]:
    """Return the systems of a run of `fit_dataset`, or of a file or folder. Raises `InputError`."""
    if (path / "run.json").is_file():
        return FitRun.load(path).system()
    if path.suffix == "" and not path.is_dir():  # `FitResult.save` does not require a suffix
        return FitResult.load(path).system
    return list(read_systems(path).values())


def _keep_systems(dataset: FractalDataset, output: ExperimentFolder) -> None:
    """Write the systems of the classes. Raise `InputError` if the file already has other systems."""
    path = output.file(_SYSTEMS)
    if not path.exists():
        write_systems(path, dataset.systems)
        return
    kept = read_systems(path)
    equal = all(map(torch.equal, Stack.of(list(kept.values())), Stack.of(dataset.systems)))
    if not equal or list(kept) != dataset.classes:
        raise InputError(
            f"cannot resume in {output.path}: the systems differ from those of its pictures; {OTHER_FOLDER}"
        )


def _remove_empty_folders(output: ExperimentFolder) -> None:
    """Remove the empty folders of pictures of a run that was overwritten."""
    images = output.file("images")
    of_classes = [path for path in images.glob("*") if re.fullmatch("[0-9]{5,}", path.name)]
    for folder in (*of_classes, images, output.file("shards")):
        with suppress(OSError):
            folder.rmdir()


def _write_shards(
    dataset: FractalDataset, settings: PretrainSettings, output: ExperimentFolder, progress: bool
) -> tuple[int, int]:
    """Write the missing shards. Return the number of shards, and the number of images that were drawn now."""
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
    """Write the missing pictures. Return the number of folders, and the number of images that were drawn now."""
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
    """Return the names of the classes' folders: the classes' names if all have FractalDB's form, otherwise numbers."""
    if all(re.fullmatch("[0-9]{5}", name) for name in dataset.classes):
        return dataset.classes
    return [f"{number:05}" for number in range(dataset.num_classes)]


def _files(dataset: FractalDataset, items: list[int], settings: PretrainSettings) -> Iterator[tuple[bytes, int]]:
    """Yield the contents of PNG files and their classes. One loader draws ahead while files are written."""
    loader = DataLoader(
        Subset(dataset, items),
        _BATCH,
        num_workers=settings.workers,
        collate_fn=_encoded,
        worker_init_fn=end_as_worker,
    )
    return chain.from_iterable(loader)


def _encoded(pairs: Sequence[tuple[Tensor, int]]) -> list[tuple[bytes, int]]:
    """Return images (C, H, W), uint8, as contents of PNG files, each with its class."""
    files = []
    for image, label in pairs:
        picture = Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())
        png = io.BytesIO()
        picture.save(png, "png", compress_level=1)
        files.append((png.getvalue(), label))
    return files


def _write(path: Path, files: Iterable[tuple[bytes, int]], first: int) -> None:
    """Write a tar file of pictures and classes. The same images give the same bytes."""
    with tarfile.open(path, "w") as archive:
        for number, (png, label) in enumerate(files, first):
            for suffix, content in (("png", png), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{number:09}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
