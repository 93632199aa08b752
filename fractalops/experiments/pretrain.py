"""Image shards of fractals for pre-training elsewhere, from `FractalDataset`."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from fractalops._checks import Bounds, Count, Natural, check_fields
from fractalops.data.fractal_dataset import Background, FractalDataset, Rendering
from fractalops.drawing.sheets import contact_sheet
from fractalops.errors import InputError
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.outcome import Outcome, Row
from fractalops.experiments.settings import INCIDENTAL
from fractalops.fitting import FitResult, FitRun
from fractalops.ifs import IFS
from fractalops.io.files import atomic_path
from fractalops.io.images import save_image
from fractalops.io.progress import progress_bar
from fractalops.io.run_folder import OTHER_FOLDER

NAME = "pretrain"
SUMMARY = "a labeled data set of fractals, as shards of pictures"
_BATCH = 64
_SHOWN = 100  # classes on the contact sheet

_Share = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class PretrainSettings:
    """Of the data set, see `FractalDataset`, and of its files."""

    systems: str = ""
    """A file that `fit` saved or a folder of `fit_dataset`, whose systems are the classes; empty: random ones."""
    classes: Count = 1000
    """How many random systems; learned ones are all taken."""
    instances: Count = 1000
    size: Count = 224
    """Pixels of an image's side."""
    rendering: Rendering = "patch"
    points: Count = 100_000
    maps: Count = 4
    perturbation: _Share = 0.05
    background: Background = "black"
    density: _Share = 0.2
    shard: Count = 1000
    """Images of a file."""
    workers: Natural = field(default=0, metadata=INCIDENTAL)
    """Processes that draw beside this one."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_fields(self)


PRESETS = {
    "small": PretrainSettings(classes=50, instances=40, size=64, points=20_000, shard=500),
    "paper": PretrainSettings(),
}


def run(
    settings: PretrainSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Write shards/00000.tar and so on, in the layout of WebDataset: 000000017.png, and 000000017.cls with its class.

    Files that are there already are kept: a run that was interrupted goes on. `data` says nothing here.
    """
    dataset = _dataset(settings)
    _keep_systems(dataset, output)
    shown = [number * settings.instances for number in range(min(dataset.num_classes, _SHOWN))]
    firsts = torch.stack([image for image, _ in dataset.__getitems__(shown)]).squeeze(1)
    save_image(contact_sheet(firsts / 255), output.file("classes.png"))
    folder = output.file("shards")
    folder.mkdir(exist_ok=True)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(settings.seed))  # classes mixed
    shards = [(number, folder / f"{number:05}.tar", items) for number, items in enumerate(order.split(settings.shard))]
    missing = [(number, path, items) for number, path, items in shards if not path.exists()]
    left = [item for _, _, items in missing for item in items.tolist()]
    began = time.perf_counter()
    with progress_bar(len(left), "image", NAME, shown=progress) as bar:
        # One loader for all shards, which draws ahead while one is written; its workers also make the pictures' files.
        loader = DataLoader(Subset(dataset, left), _BATCH, num_workers=settings.workers, collate_fn=_encoded)
        files = chain.from_iterable(loader)
        for number, path, items in missing:
            with atomic_path(path) as temporary:
                _write(temporary, islice(files, len(items)), first=number * settings.shard)
            bar.update(len(items))
    seconds = time.perf_counter() - began
    row: Row = {
        "images": len(dataset),
        "classes": dataset.num_classes,
        "size": settings.size,
        "rendering": settings.rendering,
        "shards": len(shards),
        "drawn now": len(left),
        "images a second": len(left) / seconds if left else float("nan"),
    }
    return Outcome([row])


def _dataset(settings: PretrainSettings) -> FractalDataset:
    systems = _learned(Path(settings.systems)) if settings.systems else settings.classes
    try:
        return FractalDataset(
            systems,
            settings.instances,
            settings.size,
            rendering=settings.rendering,
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


def _learned(path: Path) -> IFS:
    return FitRun.load(path).system() if path.is_dir() else FitResult.load(path).system


def _keep_systems(dataset: FractalDataset, output: ExperimentFolder) -> None:
    """Keep the classes' systems beside their pictures. Raises `InputError` where others are there."""
    systems = {"matrix": dataset.matrix, "offset": dataset.offset, "probabilities": dataset.probabilities}
    kept = output.load_state()
    if kept is None:
        output.save_state(systems, {})
    elif any(not torch.equal(kept[0][name], tensor) for name, tensor in systems.items()):
        raise InputError(f"cannot go on in {output.path}: the systems differ from those of its shards; {OTHER_FOLDER}")


def _encoded(pairs: Sequence[tuple[Tensor, int]]) -> list[tuple[bytes, int]]:
    """Images (C, H, W), uint8, as the contents of PNG files, each with its class."""
    files = []
    for image, label in pairs:
        picture = Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())
        png = io.BytesIO()
        picture.save(png, "png", compress_level=1)
        files.append((png.getvalue(), label))
    return files


def _write(path: Path, files: Iterable[tuple[bytes, int]], first: int) -> None:
    """A tar file of pictures and classes: the same bytes for the same images."""
    with tarfile.open(path, "w") as archive:
        for number, (png, label) in enumerate(files, first):
            for suffix, content in (("png", png), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{number:09}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
