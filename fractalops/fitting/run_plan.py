"""The batches of a run over many images. Each image is read once before the learning starts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.fitting.config import FitConfig
from fractalops.fitting.targets import check_targets, settings_for, uncovered
from fractalops.io.progress import progress_bar

if TYPE_CHECKING:
    from fractalops.data.targets import TargetDataset


@dataclass(frozen=True)
class Plan:
    """The batches of a run.

    All images of a batch have the same shape and the same settings. In a batch, they are in the order of the targets.
    """

    batches: list[tuple[int, ...]]
    """Numbers of the images of each batch."""
    settings: list[FitConfig]
    """Resolved settings of each batch."""
    bad: dict[int, str]
    """Reasons why images can't be used, by the number of the image."""
    pictures: str
    """SHA-256 of all targets."""
    summary: list[str]
    """Lines for the log: one for each size and its settings, and one about images with too few points."""

    @property
    def images(self) -> int:
        """Number of images to learn."""
        return sum(map(len, self.batches))


def read_target(targets: TargetDataset, index: int, config: FitConfig) -> Tensor:
    """Return an image as a target of `fit`: (H, W), or (3, H, W) in color; float32 in [0, 1].

    Raises:
        InputError: If the image can't be used. The message names it.
    """
    try:
        return check_targets(f"cannot use {targets.name(index)}", targets[index][None], config)[0]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


_LISTED = 5  # number of sizes and settings in the summary, which has the most frequent ones


def describe_settings(size: Sequence[int], config: FitConfig) -> str:
    """Return one line with the resolved settings for targets of (height, width) pixels."""
    return (
        f"{size[1]} x {size[0]} pixels: {config.maps} maps, {config.steps} steps of {config.sequences} x "
        f"{config.points} points, blend {config.blend}"
    )


def make_plan(targets: TargetDataset, config: FitConfig, *, skip_bad: bool | None, progress: bool) -> Plan:
    """Read each image of `targets` once, one at a time, and return the batches.

    Args:
        targets: The images.
        config: The settings.
        skip_bad: Whether to skip images that can't be used. None is False for callers without this option: the error
            message does not mention it.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If no image can be used or, without `skip_bad`, if any image can't be used. The message lists all of
            these images.
    """
    batches: list[tuple[tuple[int, ...], FitConfig]] = []
    waiting: dict[tuple[torch.Size, FitConfig], list[int]] = {}  # images whose batch is not full yet
    bad: dict[int, str] = {}
    pictures = hashlib.sha256()
    kinds: Counter[str] = Counter()
    notices: dict[str, str] = {}  # by the name of the image
    images = range(len(targets))
    for image in progress_bar(len(images), "image", "read", shown=progress, iterable=images, leave=False):
        try:
            target = read_target(targets, image, config)
        except InputError as error:
            bad[image] = str(error)
            pictures.update(b"bad\n")
            continue
        pictures.update(f"{tuple(target.shape)}\n".encode() + target.cpu().contiguous().numpy().tobytes())
        settings = settings_for(target[None], config)
        kinds[describe_settings(target.shape[-2:], settings)] += 1
        if notice := uncovered(target, settings):
            notices[targets.name(image)] = notice
        batch = waiting.setdefault((target.shape, settings), [])
        batch.append(image)
        if len(batch) == settings.batch_size:
            batches.append((tuple(batch), settings))
            batch.clear()
    batches += [(tuple(batch), settings) for (_, settings), batch in waiting.items() if batch]
    if bad and (not batches or not skip_bad):
        if len(targets) == 1:
            raise InputError(bad[0])
        advice = "" if not batches or skip_bad is None else "; skip_bad=True leaves them out"
        listed = "; ".join(bad.values())
        raise InputError(f"cannot use {len(bad)} of {len(targets)} images{advice}: {listed}")
    if not batches:
        raise InputError(f"cannot use {targets.identity}: it contains no images")
    summary = [f"{count} image(s) of {line}" for line, count in kinds.most_common(_LISTED)]
    if len(kinds) > _LISTED:
        shown = sum(count for _, count in kinds.most_common(_LISTED))
        summary.append(f"{sum(kinds.values()) - shown} image(s) of {len(kinds) - _LISTED} other sizes or settings")
    if notices:
        name, notice = next(iter(notices.items()))
        others = f" (also for {len(notices) - 1} other images)" if len(notices) > 1 else ""
        summary.append(f"{name}: {notice}{others}")
    return Plan(
        [batch for batch, _ in batches], [settings for _, settings in batches], bad, pictures.hexdigest(), summary
    )
