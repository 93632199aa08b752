"""The result of a run over many images: a table, a contact sheet, and the learned systems."""

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

_SHOWN = 100  # largest number of images on the contact sheet
_SIDE = 64  # pixels to which small images are enlarged on it


@dataclass(frozen=True, repr=False)
class FitRun:
    """A run of `fit_dataset` in its folder.

    S is the number of learned images, `len(run)`. `run[i]` is the `FitResult` of the image in row i, in the order of
    the targets. The results stay in the folder, and are read when they are used. An interrupted run has no table yet:
    attributes that need it raise `InputError`.

    Attributes:
        folder (Path): The folder of the run.
        signal (int or None): The signal that interrupted the run: SIGINT for Ctrl-C, or SIGTERM. None for a finished
            run.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> folder = fractalops.fit_dataset(torch.rand(4, 16, 16), "noise", fractalops.FitConfig(steps=50)).folder
        >>> run = fractalops.FitRun.load(folder)
        >>> best = min(run.rows, key=lambda row: row.minimum_mse)
        >>> run.result(best).save("best.safetensors")
    """

    folder: Path
    signal: int | None = None

    @cached_property
    def _files(self) -> DatasetFolder:
        return DatasetFolder(self.folder)

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted. The same call of `fit_dataset` resumes it."""
        return self.signal is not None

    def __bool__(self) -> bool:
        return True  # even if it has no rows yet

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
        """Return the run in a folder.

        Args:
            folder: The folder, see `fit_dataset`.

        Returns:
            The run. Results are read when they are used.

        Raises:
            InputError: If the folder has no run, or an unfinished one.
        """
        found = cls(Path(folder))
        found._files.read_run()
        _ = found.table
        return found

    @property
    def table(self) -> Path:
        """The path of the table, index.csv or index.parquet. Raises `InputError` if the run is not finished."""
        if (path := self._files.written_table()) is None:
            path = self._files.table("csv")
            raise InputError(f"cannot read {path}: the run is not finished; the same call resumes it")
        return path

    @cached_property
    def rows(self) -> list[TableRow]:
        """The rows of the table, one for each of the S images, in the order of the targets.

        A row has the fields `index` (in the data set), `name`, `label`, `shard` (the file of the image's batch),
        `place` (the index in the batch), `minimum_mse`, `mean_mse`, `steps` and `seconds`.

        Raises:
            InputError: If the table is damaged or the run is not finished.
            MissingExtra: If the table is Parquet and pyarrow is not installed.
        """
        return self._files.read_table(self.table)

    @cached_property
    def _sizes(self) -> Counter[str]:
        """Number of images in the file of each batch."""
        return Counter(row.shard for row in self.rows)

    @cached_property
    def _key(self) -> str:
        return self._files.key()

    def _read(self, row: TableRow) -> FitResult:
        """Return the result of a row's batch. Raise `InputError` if the file is damaged or belongs to another run."""
        return self._files.read_shard(self._files.batch_of(row.shard), self._key, self._sizes[row.shard])

    @property
    def minimum_mse(self) -> Tensor:
        """The smallest MSE of each image, (S,), float32."""
        return torch.tensor([row.minimum_mse for row in self.rows], dtype=torch.float32, device="cpu")

    def results(self) -> Iterator[FitResult]:
        """Yield the results of the batches, one `FitResult` for each batch. Only one is in memory at a time.

        Raises:
            InputError: If a file is damaged.
        """
        for row in {row.shard: row for row in self.rows}.values():
            yield self._read(row)

    def system(self) -> IFS:
        """Return the S learned systems as one `IFS`, in the order of the rows.

        Raises:
            InputError: If a file is damaged, or if the systems have different numbers of maps or blends, which can
                happen with images of different sizes.
        """
        learned = [(result.system.state_dict(), result.config) for result in self.results()]
        kinds = {(config.maps, config.blend) for _, config in learned}
        if len(kinds) > 1:
            known = ", ".join(f"{maps} maps of blend {blend}" for maps, blend in sorted(kinds))
            raise InputError(
                f"cannot join the systems of {self.folder}: they have {known}; results() yields them batch by batch"
            )
        states = dict(zip(dict.fromkeys(row.shard for row in self.rows), learned, strict=True))  # by file name
        state, config = learned[0]
        joined = {name: torch.stack([states[row.shard][0][name][row.place] for row in self.rows]) for name in state}
        return restore_system(joined, config)

    def result(self, row: TableRow) -> FitResult:
        """Return the `FitResult` of one image.

        Args:
            row: A row of `rows`.

        Raises:
            InputError: If the file is damaged.
        """
        return self._read(row).select(row.place)


def write_report(folder: DatasetFolder, key: str, plan: Plan, targets: TargetDataset, kind: TableKind) -> None:
    """Write contact.png and then the table, from the results of all batches. Only one batch is in memory at a time.

    Raises:
        InputError: If a file is missing, damaged or belongs to another run.
    """
    last = max(image for batch in plan.batches for image in batch)
    # (images, 2): the batch of each image and its index in the batch; -1 for images that were skipped
    place = torch.full((last + 1, 2), -1, dtype=torch.int64, device="cpu")
    numbers = torch.full((last + 1, 4), torch.nan, dtype=torch.float64, device="cpu")  # both MSEs, steps, seconds
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
            minimum, mean = float(f"{minimum:.9g}"), float(f"{mean:.9g}")  # digits that identify any float32
            name, label = targets.name(image), targets.label(image)
            yield TableRow(image, name, label, shard, i, minimum, mean, int(steps), round(seconds, 3))

    write_rows(folder.table(kind), rows())
    folder.drop_tables(but=kind)


def _write_contact_sheet(path: Path, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Write a picture that shows each target beside its learned image."""
    from fractalops.drawing.sheets import contact_sheet, enlarge, enlargement
    from fractalops.io.images import save_image

    height, width = (max(target.shape[axis] for target, _ in pairs) for axis in (-2, -1))
    factor = enlargement(height, width, _SIDE)
    tiles = []
    for pair in pairs:
        tile = pair[0].new_zeros(2, *pair[0].shape[:-2], height, width)  # smaller images get a black border
        tile[..., : pair[0].shape[-2], : pair[0].shape[-1]] = torch.stack(pair)
        tiles.append(contact_sheet(enlarge(tile, factor), columns=2, gap=1))
    save_image(contact_sheet(torch.stack(tiles), columns=max(1, round(math.sqrt(len(tiles) / 2)))), path)
