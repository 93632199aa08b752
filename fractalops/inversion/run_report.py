"""What a finished run over many images gives back: a table, a contact sheet, and the results behind them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.inversion.result import FitResult
from fractalops.inversion.run_folder import RunFolder, open_table, write_table
from fractalops.inversion.run_plan import Plan, read_target

if TYPE_CHECKING:
    from fractalops.inversion.sources import Source

_SHOWN = 100  # images on the contact sheet
_SIDE = 64  # pixels that a small image is enlarged to there


@dataclass(frozen=True)
class IndexRow:
    """One image of a run: a line of index.csv."""

    image: int
    """Its number in the source."""
    name: str
    label: str
    shard: str
    """The file of its group, within the run's folder."""
    place: int
    """Its place in the group, for `FitResult.select`."""
    minimum_mse: float
    mean_mse: float
    steps: int
    seconds: float
    """Its share of the time that the group took; NaN where that was lost."""


@dataclass(frozen=True)
class FitRun:
    """A finished run over many images, as `fit_dataset` leaves it in a folder. S is the number of learned images."""

    folder: Path

    @classmethod
    def load(cls, folder: str | Path) -> FitRun:
        """The run in a folder. Raises `InputError` where there is none, or where it is not finished."""
        files = RunFolder(folder)
        files.read_record()
        if not files.index.exists():
            raise InputError(f"cannot read {files.index}: the run is not finished; the same command goes on with it")
        return cls(Path(folder))

    @cached_property
    def rows(self) -> list[IndexRow]:
        """A row for each of the S images, in the order of the source. Raises `InputError` for a damaged table."""
        path = RunFolder(self.folder).index
        try:
            with open_table(path, "r") as file:
                return [_parse_row(row) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error

    @property
    def minimum_mse(self) -> Tensor:
        """The images' least errors (S,), float32."""
        return torch.tensor([row.minimum_mse for row in self.rows], dtype=torch.float32)

    def results(self) -> Iterator[FitResult]:
        """What was learned, group by group, one in memory at a time. Raises `InputError` for a damaged file."""
        for name in dict.fromkeys(row.shard for row in self.rows):
            yield FitResult.load(self.folder / name)

    def result(self, row: IndexRow) -> FitResult:
        """What was learned for one image. Raises `InputError` for a damaged file."""
        return FitResult.load(self.folder / row.shard).select(row.place)


def _parse_row(row: dict[str, str]) -> IndexRow:
    kinds = {"int": int, "float": float, "str": str}
    return IndexRow(**{field.name: kinds[str(field.type)](row[field.name]) for field in fields(IndexRow)})


def write_report(folder: RunFolder, key: str, plan: Plan, source: Source) -> None:
    """Write contact.png, then index.csv, from what was learned: one group in memory at a time.

    Raises `InputError` for a file that is missing, damaged or of another run.
    """
    last = max(image for group in plan.groups for image in group)
    place = torch.full((last + 1, 2), -1)  # of each image: its group, and its place there; -1 for one left out
    numbers = torch.full((last + 1, 4), torch.nan, dtype=torch.float64)  # both errors, steps, seconds
    learned = sorted(image for group in plan.groups for image in group)
    shown = {learned[i * len(learned) // _SHOWN] for i in range(_SHOWN)}
    pairs: dict[int, tuple[Tensor, Tensor]] = {}  # target and learned image, each (H, W) or (3, H, W)
    for group, images in enumerate(plan.groups):
        result = folder.read_shard(group, key, len(images))
        seconds = folder.read_seconds(group) / len(images)
        for i, image in enumerate(images):
            place[image] = torch.tensor([group, i])
            errors = result.minimum_mse[i].item(), result.mean_mse[i].item()
            numbers[image] = torch.tensor([*errors, result.steps[i], seconds], dtype=torch.float64)
            if image in shown:
                pairs[image] = read_target(source, image, result.config), result.best_image[i].clone()
    _write_contact_sheet(folder.contact, [pairs[image] for image in sorted(pairs)])

    def rows() -> Iterator[tuple[object, ...]]:
        for image in learned:
            group, i = place[image].tolist()
            minimum, mean, steps, seconds = numbers[image].tolist()
            shard = folder.shard(group).relative_to(folder.path).as_posix()
            errors = f"{minimum:.9g}", f"{mean:.9g}"  # nine digits tell all float32 numbers apart
            yield image, source.name(image), source.label(image), shard, i, *errors, int(steps), f"{seconds:.3f}"

    write_table(folder.index, [field.name for field in fields(IndexRow)], rows())


def _write_contact_sheet(path: Path, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Each target beside its learned image, all on one picture."""
    from fractalops.images import contact_sheet, enlarge, enlargement, save_image

    height, width = (max(target.shape[axis] for target, _ in pairs) for axis in (-2, -1))
    factor = enlargement(height, width, _SIDE)
    tiles = []
    for pair in pairs:
        tile = torch.zeros(2, *pair[0].shape[:-2], height, width)  # those of other shapes stand in black
        tile[..., : pair[0].shape[-2], : pair[0].shape[-1]] = torch.stack(pair)
        tiles.append(contact_sheet(enlarge(tile, factor), columns=2, gap=1))
    save_image(contact_sheet(torch.stack(tiles), columns=max(1, round(math.sqrt(len(tiles) / 2)))), path)
