"""The result of a run over many images: a table, a contact sheet, and the results of all images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fractalops._checks import check_item
from fractalops.errors import InputError
from fractalops.fitting.result import FitResult, restore_system
from fractalops.fitting.run_folder import DatasetFolder
from fractalops.fitting.run_plan import Plan, read_target
from fractalops.fitting.run_table import TableKind, TableRow, write_rows
from fractalops.ifs import IFS

if TYPE_CHECKING:
    from fractalops.data.targets import TargetDataset

_SHOWN = 100  # images on the contact sheet
_SIDE = 64  # pixels that a small image is enlarged to there


@dataclass(frozen=True, repr=False)
class FitRun:
    """A run over many images, as `fit_dataset` leaves it in a folder. S is the number of images, `len(run)`.

    `run[i]` is the result of image i, in the order of the targets. A run that was interrupted has neither rows nor
    results yet: what needs them raises `InputError`.
    """

    folder: Path
    signal: int | None = None
    """The signal that interrupted it: SIGINT for Ctrl-C, or SIGTERM; None for a finished run."""

    @cached_property
    def _files(self) -> DatasetFolder:
        return DatasetFolder(self.folder)

    @property
    def interrupted(self) -> bool:
        """Whether it was interrupted: what was learned is in the folder, and the same call goes on with it."""
        return self.signal is not None

    def __bool__(self) -> bool:
        return True  # also where there is no row yet

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> FitResult:
        return self.result(self.rows[check_item("FitRun", index, len(self))])

    def __repr__(self) -> str:
        if self._files.written_table() is None:
            state = "interrupted" if self.interrupted else "not finished"
        else:
            state = f"{len(self)} images, minimum MSE {self.minimum_mse.mean():.4f}"
        return f"FitRun({str(self.folder)!r}, {state})"

    @classmethod
    def load(cls, folder: str | Path) -> FitRun:
        """Return the run in a folder. Raises `InputError` where there is none, or where it is not finished."""
        found = cls(Path(folder))
        found._files.read_run()
        _ = found.table
        return found

    @property
    def table(self) -> Path:
        """The file of the table: index.csv or index.parquet. Raises `InputError` for a run that is not finished."""
        if (path := self._files.written_table()) is None:
            path = self._files.table("csv")
            raise InputError(f"cannot read {path}: the run is not finished; the same call goes on with it")
        return path

    @cached_property
    def rows(self) -> list[TableRow]:
        """A row for each of the S images, in the order of the targets.

        Raises `InputError` for a damaged table or an unfinished run, `MissingExtra` for one in Parquet without pyarrow.
        """
        return self._files.read_table(self.table)

    @cached_property
    def _sizes(self) -> Counter[str]:
        """The number of images in each batch's file."""
        return Counter(row.shard for row in self.rows)

    @cached_property
    def _key(self) -> str:
        return self._files.key()

    def _read(self, row: TableRow) -> FitResult:
        """Return the result of a row's batch. Raise `InputError` for a file that is damaged or of another run."""
        return self._files.read_shard(self._files.batch_of(row.shard), self._key, self._sizes[row.shard])

    @property
    def minimum_mse(self) -> Tensor:
        """The images' least errors (S,), float32."""
        return torch.tensor([row.minimum_mse for row in self.rows], dtype=torch.float32, device="cpu")

    def results(self) -> Iterator[FitResult]:
        """Yield the results batch by batch, one in memory at a time. Raise `InputError` for a damaged file."""
        for row in {row.shard: row for row in self.rows}.values():
            yield self._read(row)

    def system(self) -> IFS:
        """Return the S learned systems as one module, in the order of the rows.

        Raises `InputError` for a damaged file, or where images of different sizes have systems of different kinds.
        """
        learned = [(result.system.state_dict(), result.config) for result in self.results()]
        kinds = {(config.maps, config.blend) for _, config in learned}
        if len(kinds) > 1:
            known = ", ".join(f"{maps} maps of blend {blend}" for maps, blend in sorted(kinds))
            raise InputError(
                f"cannot join the systems of {self.folder}: they have {known}; results() gives them in turn"
            )
        states = dict(zip(dict.fromkeys(row.shard for row in self.rows), learned, strict=True))  # by file
        state, config = learned[0]
        joined = {name: torch.stack([states[row.shard][0][name][row.place] for row in self.rows]) for name in state}
        return restore_system(joined, config)

    def result(self, row: TableRow) -> FitResult:
        """Return the result of one image. Raise `InputError` for a damaged file."""
        return self._read(row).select(row.place)


def write_report(folder: DatasetFolder, key: str, plan: Plan, targets: TargetDataset, kind: TableKind) -> None:
    """Write contact.png, then the table, from what was learned: one batch in memory at a time.

    Raises `InputError` for a file that is missing, damaged or of another run.
    """
    last = max(image for batch in plan.batches for image in batch)
    # Of each image: its batch, and its place there; -1 for one left out.
    place = torch.full((last + 1, 2), -1, dtype=torch.int64, device="cpu")
    numbers = torch.full((last + 1, 4), torch.nan, dtype=torch.float64, device="cpu")  # both errors, steps, seconds
    learned = sorted(image for batch in plan.batches for image in batch)
    shown = {learned[i * len(learned) // _SHOWN] for i in range(_SHOWN)}
    pairs: dict[int, tuple[Tensor, Tensor]] = {}  # target and learned image, each (H, W) or (3, H, W)
    for batch, images in enumerate(plan.batches):
        result = folder.read_shard(batch, key, len(images))
        seconds = folder.read_seconds(batch) / len(images)
        for i, image in enumerate(images):
            place[image] = place.new_tensor([batch, i])
            errors = result.minimum_mse[i].item(), result.mean_mse[i].item()
            numbers[image] = numbers.new_tensor([*errors, result.steps[i], seconds])
            if image in shown:
                pairs[image] = read_target(targets, image, result.config), result.best_image[i].clone()
    _write_contact_sheet(folder.contact, [pairs[image] for image in sorted(pairs)])

    def rows() -> Iterator[TableRow]:
        for image in learned:
            batch, i = place[image].tolist()
            minimum, mean, steps, seconds = numbers[image].tolist()
            shard = folder.relative(folder.shard(batch))
            minimum, mean = float(f"{minimum:.9g}"), float(f"{mean:.9g}")  # it tells all float32 numbers apart
            name, label = targets.name(image), targets.label(image)
            yield TableRow(image, name, label, shard, i, minimum, mean, int(steps), round(seconds, 3))

    write_rows(folder.table(kind), rows())
    folder.drop_tables(but=kind)


def _write_contact_sheet(path: Path, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Draw each target beside its learned image, all in one picture."""
    from fractalops.drawing.sheets import contact_sheet, enlarge, enlargement
    from fractalops.io.images import save_image

    height, width = (max(target.shape[axis] for target, _ in pairs) for axis in (-2, -1))
    factor = enlargement(height, width, _SIDE)
    tiles = []
    for pair in pairs:
        tile = pair[0].new_zeros(2, *pair[0].shape[:-2], height, width)  # those of other shapes stand in black
        tile[..., : pair[0].shape[-2], : pair[0].shape[-1]] = torch.stack(pair)
        tiles.append(contact_sheet(enlarge(tile, factor), columns=2, gap=1))
    save_image(contact_sheet(torch.stack(tiles), columns=max(1, round(math.sqrt(len(tiles) / 2)))), path)
