"""Target images in memory: tensors, and what an iterable yields."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy
import torch
from PIL import Image
from torch import Tensor

from fractalops.data.targets.dataset import check_limit, check_number, describe, digest
from fractalops.errors import InputError
from fractalops.io.images import Preparation, prepare, unit_values, upright


@runtime_checkable
class Indexed(Protocol):
    """A data set as torch has them: items by number, which need not end by `IndexError`."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> object: ...


class TensorSource:
    """Tensors as a source, as they are: nothing is scaled, inverted or converted.

    Args:
        images: (S, H, W), or (S, 3, H, W) in color, or a sequence of S tensors (H, W) or (3, H, W), whose sizes may
            differ; uint8, or floating-point with values in [0, 1], which are checked as an image is read.
        names: S names; "images/00017" and so on where there are none.
        labels: S names of classes.

    Raises `TypeError` or `ValueError` for images, names or labels of the wrong type, shape or number.
    """

    def __init__(
        self,
        images: Tensor | Sequence[Tensor],
        names: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        self._images = [_check(image, number) for number, image in enumerate(images)]  # each (H, W) or (3, H, W)
        if not self._images:
            raise ValueError("TensorSource: images must not be empty, got 0 of them")
        for argument, values in (("names", names), ("labels", labels)):
            if values is not None and len(values) != len(self._images):
                raise ValueError(
                    f"TensorSource: {argument} must be as many as images, {len(self._images)}, got {len(values)}"
                )
        self._names = None if names is None else list(names)
        self._labels = None if labels is None else list(labels)

    @cached_property
    def identity(self) -> str:
        """What the images are; its digest is of all their values, names and labels, and taken once."""
        texts = repr((self._names, self._labels)).encode()
        arrays = (_to_array(image) for image in self._images)
        parts = (part for array in arrays for part in (f"{array.dtype} {array.shape}".encode(), array.tobytes()))
        return describe("tensors", "in memory", len(self), digest(itertools.chain([texts], parts)))

    def __len__(self) -> int:
        return len(self._images)

    def name(self, image: int) -> str:
        check_number(image, len(self))
        return f"images/{image:05d}" if self._names is None else self._names[image]

    def label(self, image: int) -> str:
        check_number(image, len(self))
        return "" if self._labels is None else self._labels[image]

    def shape(self, image: int) -> tuple[int, ...]:
        return tuple(self._images[check_number(image, len(self))].shape)

    def read(self, image: int) -> Tensor:
        """The target (H, W) or (3, H, W), float32 on the CPU, a copy. Raises `InputError` for values outside [0, 1]."""
        values = unit_values(_to_array(self._images[check_number(image, len(self))]), self._called(image))
        return torch.from_numpy(values)

    def _called(self, image: int) -> str:
        return f"{self.name(image)}, image {image} of a TensorSource"


def collect(
    pictures: Iterable[object] | Indexed,
    *,
    size: int = 32,
    color: bool = False,
    invert: bool = False,
    background: str = "black",
    threshold: float | None = None,
    limit: int | None = None,
    fit_to: int | None = None,
    most_bytes: int = 2**31,
) -> TensorSource:
    """Draw pictures from an iterable or a data set, make targets of them at once, and hold these in memory.

    Args:
        pictures: yields, or has by number as torch's data sets, Pillow's pictures, or arrays or tensors (H, W),
            (1, H, W), (3, H, W) or (H, W, 3) of uint8 or of floats in [0, 1], or pairs of one of them and a label.
        size, color, invert, background, threshold, fit_to: as in `read_image`.
        limit: how many are drawn at most, for iterables without an end.
        most_bytes: how much memory the targets may take, 4 bytes a value; for more, write files and open them.

    Raises:
        InputError: for a picture that can't be used, named by its number, for none at all, and beyond `most_bytes`.
        TypeError, ValueError: for what is no picture, and for options out of their range.
    """
    preparation = Preparation(size, background, invert, threshold, color, fit_to)
    preparation.check("collect")
    check_limit("collect", limit)
    targets: list[Tensor] = []  # each (H, W) or (3, H, W)
    labels: list[str] = []
    taken = 0
    for number, item in enumerate(itertools.islice(_items(pictures), limit)):
        picture, label = item if isinstance(item, tuple) and len(item) == 2 else (item, "")
        target = _prepare_item(picture, number, preparation)
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
    return TensorSource(targets, labels=labels)


def _items(pictures: Iterable[object] | Indexed) -> Iterator[object]:
    if isinstance(pictures, Iterable):
        return iter(pictures)
    return (pictures[number] for number in range(len(pictures)))


def _prepare_item(picture: object, number: int, preparation: Preparation) -> Tensor:
    name = f"image {number} of the iterable"
    if isinstance(picture, Tensor):
        picture = _to_array(picture)
    elif isinstance(picture, Image.Image):
        picture = upright(picture, name, [])
    if not isinstance(picture, (Image.Image, numpy.ndarray)):
        raise TypeError(f"collect: pictures must be Pillow's, arrays or tensors, got {type(picture).__name__}")
    if isinstance(picture, Image.Image) or picture.ndim != 3 or len(picture) != 1:
        return prepare(picture, name, preparation, [])
    return prepare(picture[0], name, preparation, [])


def _check(image: object, number: int) -> Tensor:
    if not isinstance(image, Tensor):
        raise TypeError(f"TensorSource: images must be tensors, got {type(image).__name__} as number {number}")
    if not (image.dim() == 2 or (image.dim() == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            "TensorSource: images must have shape (S, H, W) or (S, 3, H, W), not empty, "
            f"got {tuple(image.shape)} as number {number}"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"TensorSource: images must be uint8 or floating-point, got {image.dtype}")
    return image.detach()


def _to_array(image: Tensor) -> numpy.ndarray:
    """A tensor on any device, of any floating-point type, as an array that shares its memory where it can."""
    image = image.detach().cpu()
    array: numpy.ndarray = (image.float() if image.is_floating_point() else image).numpy()
    return array
