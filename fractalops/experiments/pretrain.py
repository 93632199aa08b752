"""Image shards of random fractals for pre-training elsewhere, from `FractalDataset`."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from fractalops.errors import InputError
from fractalops.experiments.outcome import Outcome, Row
from fractalops.experiments.record import Record
from fractalops.experiments.settings import check_least
from fractalops.files import atomic_path
from fractalops.fractal_dataset import BACKGROUNDS, RENDERINGS, FractalDataset
from fractalops.images import contact_sheet, save_image

NAME = "pretrain"
SUMMARY = "a labelled data set of random fractals, as shards of pictures"
_BATCH = 64
_SHOWN = 100  # classes on the contact sheet


@dataclass(frozen=True)
class PretrainSettings:
    """Of the data set, see `FractalDataset`, and of its files."""

    classes: int = 1000
    instances: int = 1000
    size: int = 224
    """Pixels of an image's side."""
    rendering: str = "patch"
    points: int = 100_000
    maps: int = 4
    perturbation: float = 0.05
    background: str = "black"
    density: float = 0.2
    shard: int = 1000
    """Images of a file."""
    workers: int = 0
    """Processes that draw beside this one; results don't depend on it."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, classes=1, instances=1, size=1, points=1, maps=1, shard=1, workers=0, seed=0)
        for name, value, choices in (
            ("rendering", self.rendering, RENDERINGS), ("background", self.background, BACKGROUNDS)
        ):  # fmt: skip
            if value not in choices:
                raise ValueError(f"PretrainSettings: {name} must be one of {', '.join(choices)}, got {value!r}")
        for name, share in (("perturbation", self.perturbation), ("density", self.density)):
            if not 0 <= share < 1:
                raise ValueError(f"PretrainSettings: {name} must lie in [0, 1), got {share}")


PRESETS = {
    "small": PretrainSettings(classes=50, instances=40, size=64, points=20_000, shard=500),
    "paper": PretrainSettings(),
}


def run(settings: PretrainSettings, record: Record, *, data: Path | None, device: str, progress: bool) -> Outcome:
    """Write shards/00000.tar and so on, in the layout of WebDataset: 000000017.png, and 000000017.cls with its class.

    Files that are there already are kept: a run that was interrupted goes on. `data` says nothing here.
    """
    try:
        dataset = FractalDataset(
            settings.classes,
            settings.instances,
            settings.size,
            rendering=settings.rendering,
            points=settings.points,
            maps=settings.maps,
            perturbation=settings.perturbation,
            background=settings.background,
            density=settings.density,
            seed=settings.seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    classes = range(min(settings.classes, _SHOWN))
    firsts = dataset.__getitems__([number * settings.instances for number in classes])
    save_image(contact_sheet(torch.stack([image for image, _ in firsts]).squeeze(1)), record.path("classes.png"))
    folder = record.path("shards")
    folder.mkdir(exist_ok=True)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(settings.seed))  # classes mixed
    shards = order.split(settings.shard)
    drawn, began = 0, time.perf_counter()
    for number, items in enumerate(_bar(shards, progress)):
        path = folder / f"{number:05}.tar"
        if path.exists():
            continue
        part = Subset(dataset, items.tolist())
        loader = DataLoader(
            part, _BATCH, num_workers=settings.workers, collate_fn=list, persistent_workers=False
        )  # as lists of (image, class)
        with atomic_path(path) as temporary:
            _write(temporary, (pair for batch in loader for pair in batch), first=number * settings.shard)
        drawn += len(items)
    seconds = time.perf_counter() - began
    row: Row = {
        "images": len(dataset),
        "classes": settings.classes,
        "size": settings.size,
        "rendering": settings.rendering,
        "shards": len(shards),
        "drawn now": drawn,
        "images a second": drawn / seconds if drawn else float("nan"),
    }
    return Outcome([row])


def _bar(shards: Iterable[Tensor], progress: bool) -> Iterable[Tensor]:
    from tqdm import tqdm

    return tqdm(shards, disable=not progress, unit="shard", desc=NAME)


def _write(path: Path, pairs: Iterable[tuple[Tensor, int]], first: int) -> None:
    """A tar file of pictures and classes: the same bytes for the same images."""
    with tarfile.open(path, "w") as archive:
        for number, (image, label) in enumerate(pairs, first):
            pixels = image.mul(255).round().byte()  # (C, H, W)
            picture = Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).numpy())
            png = io.BytesIO()
            picture.save(png, "png", compress_level=1)
            for suffix, content in (("png", png.getvalue()), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{number:09}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
