"""Data sets of target images in memory, from tensors or from an iterable."""

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
    """The protocol of a map-style data set of torch: a length, and items by index.

    An index out of range need not raise `IndexError`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class TensorTargets(TargetDataset):
    """A data set of tensors in memory. The images are not scaled, inverted or converted to gray.

    Use `from_iterable` to prepare pictures with `PictureOptions`.

    Args:
        images: (S, H, W), or (S, 3, H, W) in color, or a sequence of S tensors (H, W) or (3, H, W), whose sizes may
            differ. The dtype is uint8 (divided by 255 when an image is read) or a floating-point dtype with values in
            [0, 1], which are checked when an image is read.
        names: the names of the images, S strings. Default: None, which means "images/00000", "images/00001" and so on.
        labels: the class names of the images, S strings. Default: None, which means no labels.

    Raises:
        TypeError: if an image is not a tensor or has a wrong dtype.
        ValueError: if there is no image, an image has a wrong shape, or the number of names or labels is not S.

    Examples:
        >>> import torch
        >>> from fractalops.data.targets import TensorTargets
        >>> targets = TensorTargets(torch.ones(2, 28, 28), labels=["cat", "dog"])
        >>> targets.name(1), targets.label(1), targets[1].shape
        ('images/00001', 'dog', torch.Size([28, 28]))
    """

    title = "in memory"

    def __init__(
        self, images: Tensor | Sequence[Tensor], names: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> None:
        self._images = [_check(image, number) for number, image in enumerate(images)]  # each (H, W) or (3, H, W)
        if not self._images:
            raise ValueError("TensorTargets: images must not be empty, got 0 images")
        for argument, values in (("names", names), ("labels", labels)):
            if values is not None and len(values) != len(self._images):
                raise ValueError(
                    f"TensorTargets: {argument} must have length {len(self._images)}, the number of images, "
                    f"got {len(values)}"
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
        """Read all pictures of an iterable or a data set, and keep their targets in memory.

        Args:
            pictures: an iterable, or a map-style data set of torch. Each item is a picture or a pair (picture, label).
                A picture is a Pillow image, or an array or tensor (H, W), (1, H, W), (3, H, W) or (H, W, 3), uint8 or
                floats in [0, 1].
            options: how each picture becomes a target. Default: None, which means `PictureOptions()`.
            limit: the number of pictures to read at most, at least 1. Default: None, which means all.
            most_bytes: the memory that the targets may take, in bytes, with 4 bytes per value. Save larger data sets as
                files and use `open_targets`. Default: 2 GiB.

        Returns:
            A data set of (H, W), or (3, H, W) with `PictureOptions(color=True)`, float32 in [0, 1].

        Raises:
            InputError: if a picture cannot be used, if there is no picture, or if the targets take more than
                `most_bytes`.
            TypeError: if an item is not a picture, or an argument has a wrong type.
            ValueError: if `limit` is below 1.

        Examples:
            >>> import numpy
            >>> from fractalops.data.targets import TensorTargets
            >>> from fractalops.io import PictureOptions
            >>> pictures = (numpy.full((48, 64, 3), 255, dtype=numpy.uint8) for _ in range(5))
            >>> targets = TensorTargets.from_iterable(pictures, PictureOptions(size=32), limit=3)
            >>> len(targets), targets[0].shape
            (3, torch.Size([24, 32]))
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
                    f"cannot use image {number} of the iterable: the targets up to this image take {taken} bytes of "
                    f"memory, and most_bytes is {most_bytes}"
                )
            targets.append(target)
            labels.append(str(label.item() if isinstance(label, Tensor) and label.numel() == 1 else label))
        if not targets:
            raise InputError("cannot use the iterable: it yields no picture")
        return cls(targets, labels=labels)

    @cached_property
    def identity(self) -> str:  # type: ignore[override]
        """The description of the images. Its digest covers all values, names and labels, and is computed once."""
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
            "TensorTargets.from_iterable: pictures must be Pillow images, arrays or tensors, "
            f"got {type(picture).__name__} for picture {number}"
        )
    elif picture.ndim == 3 and len(picture) == 1:
        picture = picture[0]
    target, notices = prepare(picture, name, options)
    log_notices(name, notices, logging.INFO)
    return target


def _check(image: object, number: int) -> Tensor:
    if not isinstance(image, Tensor):
        raise TypeError(f"TensorTargets: images must be tensors, got {type(image).__name__} for image {number}")
    if not (image.dim() == 2 or (image.dim() == 3 and len(image) == 3)) or image.numel() == 0:
        raise ValueError(
            "TensorTargets: images must have shape (S, H, W) or (S, 3, H, W), not empty, "
            f"got {tuple(image.shape)} for image {number}"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"TensorTargets: images must be uint8 or floating-point, got {image.dtype}")
    return image.detach()


def _to_array(image: Tensor) -> numpy.ndarray:
    """Return a tensor of any device as an array, which shares its memory if possible. Floats become float32."""
    image = image.detach().cpu()
    array: numpy.ndarray = (image.float() if image.is_floating_point() else image).numpy()
    return array
