"""`fit_dataset`: learning the images of a data set into a folder, one batch after another, through interruptions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fractalops._checks import check_number, or_default
from fractalops.errors import InputError
from fractalops.fitting.config import FitConfig
from fractalops.fitting.learning import Batch, evaluate_batches, run_steps
from fractalops.fitting.ranks import POLL, find_ranks
from fractalops.fitting.run_folder import DatasetFolder, describe_run
from fractalops.fitting.run_plan import Plan, make_plan, read_target
from fractalops.fitting.run_report import FitRun, write_report
from fractalops.fitting.run_table import TableKind, check_table_kind
from fractalops.interruptions import Signals, signal_of
from fractalops.io import PictureOptions
from fractalops.io.files import LOCK, claimed
from fractalops.io.progress import progress_bar
from fractalops.io.run_folder import run_key

if TYPE_CHECKING:
    from fractalops.data.targets import Indexed, TargetDataset

_logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 30.0  # seconds; one takes milliseconds


def fit_dataset(
    targets: TargetDataset | Tensor | str | Path | Iterable[object] | Indexed,
    output: str | Path,
    config: FitConfig | None = None,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY,
    table: TableKind = "csv",
    device: str | torch.device | None = None,
) -> FitRun:
    """Learn an iterated function system for every image of a data set, however many, into a folder.

    Called again on a folder that holds the same run unfinished, it goes on where that stopped, with the same bits as if
    it never had: killed at any moment it loses at most what it learned since the last checkpoint. Started by torchrun,
    the processes share the images, and the results are the same for any number of them; what a lost one has begun the
    others finish. What is learned for an image depends on the image, its number there and the configuration; on others
    only where steps are tensor operations, through the rounding of sums.

    The log (`fractalops.fitting.runs`, level INFO) tells the settings of each size of images.

    Args:
        targets: a path for `open_targets`; a `TargetDataset`; targets (S, H, W), in color (S, 3, H, W), values in
            [0, 1]; or what `TensorTargets.from_iterable` draws pictures from, as a generator, which must end, or a
            torch data set; these are held in memory.
        output: the folder, made if need be; all processes must see the same one.
        config: the settings, resolved for each image; None takes the defaults. `config.batch_size` images of
            one shape are learned and held in memory at a time.
        skip_bad: leave out images that can't be used, and list them in bad.csv.
        overwrite: discard the run that `output` holds, and start anew.
        progress: show a progress bar on standard error, with images a second and the time left.
        checkpoint_every: seconds from one checkpoint of a batch under way to the next; 0 is each time that the loop
            comes back: natively every 50 ms, else after every step.
        table: the kind of the table: "csv", or "parquet" for index.parquet, which needs pyarrow. A finished run gets
            another kind without learning anything again.
        device: None takes a GPU where torch finds one (under torchrun one for each process), else the CPU.

    Returns:
        The finished run: an index with the errors of each image, and the learned systems. Ctrl-C or SIGTERM ends the
        step under way (natively the 50 ms of steps), keeps a checkpoint and returns the run with `interrupted`; after a
        second one no checkpoint is kept.
        A caller's loop goes on unless it looks at `interrupted`.

    Raises:
        InputError: for images that can't be used, all listed; for a folder within that of the images, with other
            files, with another run (what differs is named), with a damaged file, or in use by another process; for a
            GPU where there is none.
        KeyboardInterrupt: on Ctrl-C before anything was begun.
        RankError: where a process that shares the run does not come, failed before it began, or has no GPU.
        MissingExtra: for a table in Parquet where pyarrow is not installed, before anything is learned.
        ValueError, TypeError: for other arguments of a wrong type or out of range.
    """
    config = or_default("fit_dataset", "config", config, FitConfig)
    check_number("fit_dataset", "checkpoint_every", checkpoint_every, least=0)
    check_table_kind("fit_dataset", table)
    images = _as_targets(targets, config)
    folder = DatasetFolder(output)
    if images.holds(folder.path):
        raise InputError(f"cannot write to {folder.path}: it lies in the folder of the images")
    ranks = find_ranks(device)
    progress = progress and ranks.rank == 0
    manifest = describe_run(config, images.identity, ranks.device)
    folder.check(manifest, overwrite=overwrite)
    plan = make_plan(images, config, skip_bad=skip_bad, progress=progress)
    manifest |= {"images": plan.images, "bad_images": len(plan.bad), "pictures": plan.pictures}
    key = run_key(manifest)
    begun = False
    try:
        with ExitStack() as held:
            if ranks.rank == 0:
                try:
                    held.enter_context(folder.lock())
                    bad = [(index, images.name(index), reason) for index, reason in plan.bad.items()]
                    folder.begin_run(manifest, bad, table, overwrite=overwrite)
                    for line in plan.summary:
                        _logger.info("%s", line)
                    left = folder.left(key, plan.batches)
                    if left:
                        folder.drop_tables()  # they tell that a run is finished
                    else:
                        folder.drop_damaged_tables()
                except Exception as error:
                    ranks.meet(folder.path, failure=str(error))
                    raise
            else:
                folder.check(manifest, overwrite=overwrite)
                left = list(range(len(plan.batches)))
            ranks.meet(folder.path)
            engine = _Engine(images, config, folder, plan, key, ranks.device, checkpoint_every)
            begun = True
            # A step is finished and saved first. torchrun sends its processes one more signal after a Ctrl-C.
            with Signals(noted=math.inf if ranks.size > 1 else 1) as signals, _Progress(folder, plan, progress) as bar:
                engine.learn_all(left, signals, bar)
                # The report is rank 0's, or of whoever finds that one lost.
                while ranks.rank > 0 and not folder.table(table).exists():
                    with ExitStack() as tried:
                        if tried.enter_context(claimed(folder.path / LOCK)):
                            held.enter_context(tried.pop_all())
                            break
                    signals.wait(POLL)
            if not folder.table(table).exists() or (left and ranks.rank == 0):
                folder.remove_leftovers()  # of a process that was lost meanwhile
                write_report(folder, key, plan, images, table)
    except KeyboardInterrupt as interruption:
        if not begun:
            raise
        return FitRun(folder.path, signal_of(interruption))
    return FitRun(folder.path)


def _as_targets(
    targets: TargetDataset | Tensor | str | Path | Iterable[object] | Indexed, config: FitConfig
) -> TargetDataset:
    # Imported here: Pillow and NumPy take longer than the rest of the package.
    from fractalops.data.targets import Indexed, TargetDataset, TensorTargets, open_targets

    if isinstance(targets, TargetDataset):
        return targets
    if isinstance(targets, Tensor):
        return TensorTargets(targets)
    options = PictureOptions(color=config.color)
    if isinstance(targets, (str, Path)):
        return open_targets(targets, options)
    if not isinstance(targets, (Iterable, Indexed)):
        raise TypeError(
            "fit_dataset: targets must be a path, a TargetDataset, a tensor, an iterable or a data set, "
            f"got {type(targets).__name__}"
        )
    return TensorTargets.from_iterable(targets, options)


@dataclass(frozen=True)
class _Engine:
    """Learns batches of a run."""

    images: TargetDataset
    config: FitConfig
    folder: DatasetFolder
    plan: Plan
    key: str
    device: torch.device
    checkpoint_every: float

    def learn_all(self, left: Sequence[int], signals: Signals, bar: _Progress) -> None:
        """Learn those of the batches `left` that no other process learns, and at last those that one has left."""
        while left:
            busy = []
            for number in left:
                with claimed(self.folder.claim(number)) as ours:
                    if not ours:
                        busy.append(number)
                    elif not self.folder.shard(number).exists():
                        self._learn(number, signals, bar)
                signals.obey()
            if left := busy:
                signals.wait(POLL)

    def _learn(self, number: int, signals: Signals, bar: _Progress) -> None:
        """Learn a batch, from its checkpoint on where there is one, and keep what was learned."""
        images = self.plan.batches[number]
        with torch.inference_mode(False), torch.enable_grad():
            targets = torch.stack([read_target(self.images, image, self.config) for image in images])
            config = self.plan.settings[number]
            targets = targets.to(self.device, copy=True)  # (S, H, W) or (S, 3, H, W)
            began = saved = time.perf_counter()
            checkpoint = self.folder.read_checkpoint(number, self.key)
            if checkpoint is None:
                batch = Batch.start(targets, config, images)
            else:
                state, seconds = checkpoint
                batch = Batch.restore(targets, config, state)
                began -= seconds
            bar.begin(number, batch.step / config.steps if config.steps else 0)
            for losses in run_steps(batch, config, None, "auto"):
                now = time.perf_counter()
                stopping = signals.caught is not None
                if stopping or now - saved >= self.checkpoint_every:
                    self.folder.write_checkpoint(number, self.key, batch.state(), now - began)
                    saved = now
                if stopping:
                    signals.obey()
                bar.show(number, batch.step / config.steps, losses[-1])
            result = evaluate_batches([batch], config, began)
            # How long it took differs from run to run: it lies beside the shard, whose bytes don't.
            seconds, result.seconds = result.seconds, float("nan")
            self.folder.write_shard(number, self.key, result, seconds)


class _Progress:
    """A bar over all images of a run: those of finished batches, of all ranks, and a share of the present one."""

    def __init__(self, folder: DatasetFolder, plan: Plan, shown: bool) -> None:
        self._folder, self._plan = folder, plan
        done = self._done() if shown else 0
        self._bar = progress_bar(plan.images, "image", "fit", shown=shown, initial=done, smoothing=0)
        self._shown_at = 0.0

    def _done(self) -> int:
        batches = self._plan.batches
        return sum(len(batches[batch]) for batch in self._folder.finished(len(batches)))

    def begin(self, batch: int, fraction: float) -> None:
        """Show how much of a batch was learned before, which took none of the bar's time."""
        if not self._bar.disable:
            self._bar.initial += fraction * len(self._plan.batches[batch])

    def show(self, batch: int, fraction: float, losses: Tensor) -> None:
        """Show how much of a batch is learned, and its losses (S,), at most twice a second."""
        now = time.monotonic()
        if self._bar.disable or now - self._shown_at < 0.5:
            return
        self._shown_at = now
        # In tenths of an image: rounded to whole ones, the time left would rise again and again.
        self._bar.n = round(self._done() + fraction * len(self._plan.batches[batch]), 1)
        self._bar.set_postfix(loss=f"{losses.mean().item():.4f}")  # draws the bar, too

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if not self._bar.disable and error is None:
            self._bar.n = self._done()
            self._bar.refresh()
        self._bar.close()
