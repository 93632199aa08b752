"""Which images a run over many learns together: every one is read once, before anything is learned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fractalops.errors import InputError
from fractalops.fitting.config import FitConfig
from fractalops.fitting.learning import check_targets
from fractalops.io.progress import progress_bar

if TYPE_CHECKING:
    from fractalops.data.targets import TargetDataset


@dataclass(frozen=True)
class Plan:
    """The batches of a run, by the numbers of their images: all of one shape, in the order of the targets.

    They depend on the targets and on `FitConfig.batch_size` alone.
    """

    batches: list[tuple[int, ...]]
    bad: dict[int, str]
    """Images that can't be used, and why."""
    pictures: str
    """SHA-256 of all targets."""

    @property
    def images(self) -> int:
        """How many images are learned."""
        return sum(map(len, self.batches))


def read_target(targets: TargetDataset, index: int, config: FitConfig) -> Tensor:
    """Return an image as a target of `fit`: (H, W), or (3, H, W) in color, float32 in [0, 1].

    Raises `InputError`, naming the image.
    """
    try:
        return check_targets(f"cannot use {targets.name(index)}", targets[index][None], config)[0]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def make_plan(targets: TargetDataset, config: FitConfig, *, skip_bad: bool | None, progress: bool) -> Plan:
    """Read every image of `targets` once, one at a time.

    Raises `InputError` where no image can be used and, without `skip_bad`, where some can't, all of them listed. None
    is False where the caller has no such choice.
    """
    batches: list[tuple[int, ...]] = []
    waiting: dict[tuple[int, ...], list[int]] = {}  # by shape: images whose batch is not full yet
    bad: dict[int, str] = {}
    pictures = hashlib.sha256()
    images = range(len(targets))
    for image in progress_bar(len(images), "image", "read", shown=progress, iterable=images, leave=False):
        try:
            target = read_target(targets, image, config)
        except InputError as error:
            bad[image] = str(error)
            pictures.update(b"bad\n")
            continue
        pictures.update(f"{tuple(target.shape)}\n".encode() + target.cpu().contiguous().numpy().tobytes())
        batch = waiting.setdefault(tuple(target.shape), [])
        batch.append(image)
        if len(batch) == config.resolve(target.shape[-2:]).batch_size:
            batches.append(tuple(batch))
            batch.clear()
    batches += [tuple(batch) for batch in waiting.values() if batch]
    if bad and (not batches or not skip_bad):
        if len(targets) == 1:
            raise InputError(bad[0])
        advice = "" if not batches or skip_bad is None else "; skip_bad=True leaves them out"
        listed = "; ".join(bad.values())
        raise InputError(f"cannot use {len(bad)} of {len(targets)} images{advice}: {listed}")
    if not batches:
        raise InputError(f"cannot use {targets.identity}: it holds no images")
    return Plan(batches, bad, pictures.hexdigest())
