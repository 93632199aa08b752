"""`fit_dataset`: learn the images of a data set batch by batch into a folder, and resume interrupted runs."""

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

CHECKPOINT_EVERY = 30.0  # seconds; writing a checkpoint takes milliseconds


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
    """Learn an iterated function system for each image of a data set, and write the results to a folder.

    The data set may have any number of images. They are learned in batches of `config.batch_size` images of one shape;
    only one batch is in memory at a time (besides targets that the caller passes in memory). See `fit` for the method.

    A call on the folder of an unfinished run of the same images and settings resumes the run. The results have the same
    bits as without the interruption. A run that is killed loses only what it learned since the last checkpoint. Under
    torchrun, the processes share the batches; the results are the same for any number of processes. If a process is
    killed, the others finish its batches.

    The result for an image depends on the image, its index in the data set and the settings. If steps use tensor
    operations, it also depends on the other images of the batch, by the rounding of sums.

    The log (logger `fractalops.fitting.runs`, level INFO) has the settings for each size of images.

    On Ctrl-C or SIGTERM, the function finishes the current steps (up to 50 ms in the native loop), writes a checkpoint,
    and returns the run with `interrupted` set. On a second signal it stops without a checkpoint, except under torchrun.
    Code that calls `fit_dataset` in a loop must check `interrupted`, because its loop continues.

    Args:
        targets: The images: a path, see `open_targets`; a `TargetDataset`; a tensor of shape (S, H, W), or (S, 3, H, W)
            in color, with values in [0, 1]; a finite iterable of pictures, or a PyTorch data set, see
            `TensorTargets.from_iterable`. The last two kinds are read into memory.
        output: The folder of the run. It is created if it does not exist. All processes must have access to it.
        config: The settings. "auto" settings are resolved for each image. None (default) uses the default settings.
        skip_bad: Whether to skip images that can't be used, and list them in bad.csv. Default: False.
        overwrite: Whether to delete the run in `output` and start again. Default: False.
        progress: Whether to show a progress bar on standard error, with images per second and the remaining time.
            Default: False.
        checkpoint_every: Seconds between two checkpoints of a batch, at least 0. 0 writes one after every step, or
            every 50 ms in the native loop. Default: 30.
        table: Format of the table of results: "csv" (default) writes index.csv; "parquet" writes index.parquet, which
            requires pyarrow. If the run is finished, another format is written without learning again.
        device: The device. None (default) uses a GPU if PyTorch finds one (under torchrun, a different GPU for each
            process), and else the CPU.

    Returns:
        A `FitRun`, with a table of the errors of each image, and the learned systems.

    Raises:
        InputError: If images can't be used (the message lists all of them); if `output` is inside the folder of the
            images, or has other files, another run (the message has the differences) or a damaged file; if another
            process uses it; if the device is a GPU and there is none.
        KeyboardInterrupt: On Ctrl-C before the learning has begun.
        RankError: If another process of the run does not start or fails before the learning, or if this process has no
            GPU.
        MissingExtra: If `table` is "parquet" and pyarrow is not installed.
        ValueError: If another argument is out of its range.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> targets = torch.rand(4, 16, 16)
        >>> run = fractalops.fit_dataset(targets, "runs/noise", fractalops.FitConfig(steps=50))
        >>> run.minimum_mse.shape
        torch.Size([4])
        >>> run[0].best_image.shape
        torch.Size([1, 16, 16])
    """
    config = or_default("fit_dataset", "config", config, FitConfig)
    check_number("fit_dataset", "checkpoint_every", checkpoint_every, least=0)
    check_table_kind("fit_dataset", table)
    images = _as_targets(targets, config)
    folder = DatasetFolder(output)
    if images.holds(folder.path):
        raise InputError(f"cannot write to {folder.path}: it is in the folder of the images")
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
                        folder.drop_tables()  # a table means that the run is finished
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
            # On a signal, the step is finished and saved first. torchrun sends its processes a second signal after
            # Ctrl-C, which must not interrupt the saving.
            with Signals(noted=math.inf if ranks.size > 1 else 1) as signals, _Progress(folder, plan, progress) as bar:
                engine.learn_all(left, signals, bar)
                # Rank 0 writes the report. If it was killed, the first rank that gets its lock does.
                while ranks.rank > 0 and not folder.table(table).exists():
                    with ExitStack() as tried:
                        if tried.enter_context(claimed(folder.path / LOCK)):
                            held.enter_context(tried.pop_all())
                            break
                    signals.wait(POLL)
            if not folder.table(table).exists() or (left and ranks.rank == 0):
                folder.remove_leftovers()  # of a process that was killed in the meantime
                write_report(folder, key, plan, images, table)
    except KeyboardInterrupt as interruption:
        if not begun:
            raise
        return FitRun(folder.path, signal_of(interruption))
    return FitRun(folder.path)


def _as_targets(
    targets: TargetDataset | Tensor | str | Path | Iterable[object] | Indexed, config: FitConfig
) -> TargetDataset:
    # Imported here, because importing Pillow and NumPy takes longer than importing the rest of the package.
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
    """The part of `fit_dataset` that learns the batches of a run."""

    images: TargetDataset
    config: FitConfig
    folder: DatasetFolder
    plan: Plan
    key: str
    device: torch.device
    checkpoint_every: float

    def learn_all(self, left: Sequence[int], signals: Signals, bar: _Progress) -> None:
        """Learn the batches `left`, except those that other processes learn.

        It waits for these, and learns the batches of processes that were killed.
        """
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
        """Learn a batch, from its checkpoint if there is one, and write the result."""
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
            # The duration differs from run to run. It is stored beside the shard, whose bytes do not differ.
            seconds, result.seconds = result.seconds, float("nan")
            self.folder.write_shard(number, self.key, result, seconds)


class _Progress:
    """A bar over all images of a run: finished batches of all ranks, and the learned part of the current batch."""

    def __init__(self, folder: DatasetFolder, plan: Plan, shown: bool) -> None:
        self._folder, self._plan = folder, plan
        done = self._done() if shown else 0
        self._bar = progress_bar(plan.images, "image", "fit", shown=shown, initial=done, smoothing=0)
        self._shown_at = 0.0

    def _done(self) -> int:
        batches = self._plan.batches
        return sum(len(batches[batch]) for batch in self._folder.finished(len(batches)))

    def begin(self, batch: int, fraction: float) -> None:
        """Add the part of a batch that an earlier process learned. It does not count for the speed of the bar."""
        if not self._bar.disable:
            self._bar.initial += fraction * len(self._plan.batches[batch])

    def show(self, batch: int, fraction: float, losses: Tensor) -> None:
        """Show how much of a batch is learned, and its mean loss, at most twice a second. `losses` is (S,)."""
        now = time.monotonic()
        if self._bar.disable or now - self._shown_at < 0.5:
            return
        self._shown_at = now
        # In tenths of an image: with whole images, the remaining time would rise repeatedly.
        self._bar.n = round(self._done() + fraction * len(self._plan.batches[batch]), 1)
        self._bar.set_postfix(loss=f"{losses.mean().item():.4f}")  # this also draws the bar

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if not self._bar.disable and error is None:
            self._bar.n = self._done()
            self._bar.refresh()
        self._bar.close()
