"""Target images in memory: tensors, and what an iterable yields."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy
import torch
from PIL import Image
from torch import Tensor

from fractalops._checks import check_count, or_default
from fractalops.data.targets.dataset import TargetDataset, describe, digest
from fractalops.errors import InputError
from fractalops.io.decoding import decode
from fractalops.io.notices import log_notices
from fractalops.io.picture_options import PictureOptions
from fractalops.io.preparing import prepare, unit_values


@runtime_checkable
class Indexed(Protocol):
    """A data set as torch has them: items by number, which need not end by `IndexError`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class TensorTargets(TargetDataset):
    """Tensors as targets, as they are: nothing is scaled, inverted or converted. `from_iterable` does that.

    Args:
        images: (S, H, W), or (S, 3, H, W) in color, or a sequence of S tensors (H, W) or (3, H, W), whose sizes may
            differ; uint8, or floating-point with values in [0, 1], which are checked as an image is read.
        names: S names; "images/00017" and so on where there are none.
        labels: S names of classes.

    Raises `TypeError` or `ValueError` for images, names or labels of the wrong type, shape or number.
    """

    title = "in memory"

    def __init__(
        self, images: Tensor | Sequence[Tensor], names: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> None:
        self._images = [_check(image, number) for number, image in enumerate(images)]  # each (H, W) or (3, H, W)
        if not self._images:
            raise ValueError("TensorTargets: images must not be empty, got 0 of them")
        for argument, values in (("names", names), ("labels", labels)):
            if values is not None and len(values) != len(self._images):
                raise ValueError(
                    f"TensorTargets: {argument} must be as many as images, {len(self._images)}, got {len(values)}"
                )
        self._names = None if names is None else list(names)
        self._labels = None if labels is None else list(labels)

    @classmethod
    def from_iterable(
        cls,
        pictures: Iterable[object] | Indexed,
        options: PictureOptions | None = None,
        *,
        limit: int | None = None,
        most_bytes: int = 2**31,
    ) -> TensorTargets:
        """Draw pictures from an iterable or a data set, make targets of them at once, and hold these in memory.

        Args:
            pictures: yields, or has by number as torch's data sets, Pillow's pictures, or arrays or tensors (H, W),
                (1, H, W), (3, H, W) or (H, W, 3) of uint8 or of floats in [0, 1], or pairs of one of them and a label.
            options: how each becomes a target; None takes the defaults.
            limit: how many are drawn at most, for iterables without an end.
            most_bytes: how much memory the targets may take, 4 bytes a value; for more, write files and open them.

        Raises:
            InputError: for a picture that can't be used, named by its number, for none at all, and beyond `most_bytes`.
            TypeError: for what is no picture.
            ValueError: for a limit below 1.
        """
        function = "TensorTargets.from_iterable"
        options = or_default(function, "options", options, PictureOptions)
        check_count(function, "limit", limit, optional=True)
        targets: list[Tensor] = []  # each (H, W) or (3, H, W)
        labels: list[str] = []
        taken = 0
        for number, item in enumerate(itertools.islice(_items(pictures), limit)):
            picture, label = item if isinstance(item, tuple) and len(item) == 2 else (item, "")
            target = _prepare_item(picture, number, options)
            taken += target.nbytes
            if taken > most_bytes:
                raise InputError(
                    f"cannot use image {number} of the iterable: the targets up to it take {taken} bytes of memory, "
                    f"and most_bytes is {most_bytes}"
                )
            targets.append(target)
            labels.append(str(label.item() if isinstance(label, Tensor) and label.numel() == 1 else label))
        if not targets:
            raise InputError("cannot use the iterable: it yields no picture")
        return cls(targets, labels=labels)

    @cached_property
    def identity(self) -> str:  # type: ignore[override]
        """The description of the images; its digest is of all values, names and labels, and computed once."""
        texts = repr((self._names, self._labels)).encode()
        arrays = (_to_array(image) for image in self._images)
        parts = (part for array in arrays for part in (f"{array.dtype} {array.shape}".encode(), array.tobytes()))
        return describe("tensors", self.title, len(self), digest(itertools.chain([texts], parts)))

    def __len__(self) -> int:
        return len(self._images)

    def _name(self, index: int) -> str:
        return f"images/{index:05d}" if self._names is None else self._names[index]

    def _label(self, index: int) -> str:
        return "" if self._labels is None else self._labels[index]

    def _read(self, index: int) -> Tensor:
        name = f"{self._name(index)}, image {index} of {type(self).__name__}"
        return torch.from_numpy(unit_values(_to_array(self._images[index]), name))  # a copy


def _items(pictures: Iterable[object] | Indexed) -> Iterator[object]:
    if isinstance(pictures, Iterable):
        return iter(pictures)
    return (pictures[number] for number in range(len(pictures)))


def _prepare_item(item: object, number: int, options: PictureOptions) -> Tensor:
    name = f"image {number} of the iterable"
    picture = _to_array(item) if isinstance(item, Tensor) else item
    if isinstance(picture, Image.Image):
        picture = decode(picture, name, options)
    elif not isinstance(picture, numpy.ndarray):
        raise TypeError(
            "TensorTargets.from_iterable: pictures must be Pillow's, arrays or tensors, "
            f"got {type(picture).__name__} as number {number}"
        )
    elif picture.ndim == 3 and len(picture) == 1:
        picture = picture[0]
    target, notices = prepare(picture, name, options)
    log_notices(name, notices, logging.INFO)
    return target


def _check(image: object, number: int) -> Tensor:
    if not isinstance(image, Tensor):
        raise TypeError(f"TensorTargets: images must be tensors, got {type(image).__name__} as number {number}")
    if not (image.dim() == 2 or (image.dim() == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            "TensorTargets: images must have shape (S, H, W) or (S, 3, H, W), not empty, "
            f"got {tuple(image.shape)} as number {number}"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"TensorTargets: images must be uint8 or floating-point, got {image.dtype}")
    return image.detach()


def _to_array(image: Tensor) -> numpy.ndarray:
    """Return a tensor on any device, of any floating-point type, as an array that shares its memory where it can."""
    image = image.detach().cpu()
    array: numpy.ndarray = (image.float() if image.is_floating_point() else image).numpy()
    return array
