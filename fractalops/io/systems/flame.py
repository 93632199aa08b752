"""Flames of flam3 and similar programs (.flame, XML), if all their transforms are affine (the variation `linear`).

A transform is `post(w coefs(v))`, where w is its weight of `linear`; `coefs` and `post` are matrices by columns. All
other features that change the attractor are refused: other variations, final transforms, xaos, symmetries, opacity and
motions. The camera and the tone settings are ignored. The color of a map is that of the palette at its index.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xml.parsers import expat

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import reading
from fractalops.io.notices import log_notices
from fractalops.io.systems.entries import (
    Entry,
    build_system,
    check_count,
    check_systems,
    error_at,
    held_names,
    read_bytes,
)
from fractalops.io.systems.palettes import PaletteReader, index_colors, palette_text
from fractalops.io.systems.rows import parse_number
from fractalops.placement import bounding_box
from fractalops.systems import System
from fractalops.systems.axes import Y_DOWN
from fractalops.systems.system import shares_of

_IDENTITY = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
_NO_EFFECT = ("name", "animate", "var_color", "motion_frequency", "motion_function")  # without effect on a picture
_DEEPEST = 64  # levels of nested elements
_SIDE = 1024  # pixels: the picture size in a written flame
_POINTS = 20_000  # points from which the camera of a written flame is computed

Attributes = dict[str, str]


@dataclass
class _Flame:
    """The content of a flame element."""

    attributes: Attributes
    line: int
    transforms: list[tuple[int, Attributes]] = field(default_factory=list)
    refused: tuple[int, str] | None = None  # the first part that is not affine, and its line
    palette: PaletteReader = field(default_factory=PaletteReader)


def open_flames(path: Path) -> list[Entry]:
    """Return the flames of a file. Raises `InputError` unless it is XML without a document type and entities."""
    flames = _Parser(path).parse(read_bytes(path))
    return [
        Entry(flame.attributes.get("name", ""), f"line {flame.line}", partial(_read, path, flame)) for flame in flames
    ]


class _Parser:
    """The handlers of expat, which collect the flames of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._expat = expat.ParserCreate()
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text
        self._expat.StartDoctypeDeclHandler = self._refuse_doctype
        self._flames: list[_Flame] = []
        self._flame: _Flame | None = None
        self._depth = 0  # nested elements within the flame
        self._level = 0  # nested elements in the file

    def parse(self, content: bytes) -> list[_Flame]:
        reason = "it is not well-formed XML"
        with reading(self._path, reason):  # expat raises other errors for an unknown encoding
            try:
                self._expat.Parse(content, True)
            except expat.ExpatError as error:
                where = f"line {error.lineno}"
                raise error_at(self._path, where, f"{reason} ({expat.ErrorString(error.code)})") from None
        return self._flames

    @property
    def _where(self) -> str:
        return f"line {self._expat.CurrentLineNumber}"

    def _refuse_doctype(self, *_: Any) -> None:
        raise error_at(self._path, self._where, "a flame must not have a document type (DOCTYPE, ENTITY)")

    def _start(self, tag: str, attributes: Attributes) -> None:
        self._level += 1
        if self._level > _DEEPEST:
            raise error_at(self._path, self._where, f"its elements are nested more than {_DEEPEST} deep")
        if self._flame is None:
            if tag == "flame":
                self._flame = _Flame(attributes, self._expat.CurrentLineNumber)
            return
        self._depth += 1
        flame, line = self._flame, self._expat.CurrentLineNumber
        if self._depth == 1 and tag == "xform":
            flame.transforms.append((line, attributes))
            check_count(self._path, self._where, len(flame.transforms))
        elif self._depth == 1 and tag in ("finalxform", "symmetry"):
            flame.refused = flame.refused or (line, f"a {'final transform' if tag == 'finalxform' else tag}")
        elif self._depth == 2 and tag == "motion":
            flame.refused = flame.refused or (line, "a motion")
        elif self._depth == 1 and tag in ("color", "colors", "palette"):
            flame.palette.begin(tag, attributes, f"cannot read {self._path}: {self._where}")

    def _text(self, text: str) -> None:
        if self._flame is not None and self._depth == 1:
            self._flame.palette.add(text)

    def _end(self, tag: str) -> None:
        self._level -= 1
        if self._flame is None:
            return
        if self._depth == 0:
            self._flames.append(self._flame)
            check_systems(self._path, len(self._flames))
            self._flame = None
            return
        if self._depth == 1:
            self._flame.palette.end()
        self._depth -= 1


def _read(path: Path, flame: _Flame) -> System:
    where = f"line {flame.line}"
    if flame.refused is not None:
        raise error_at(path, f"line {flame.refused[0]}", f"{flame.refused[1]} is not supported, only affine transforms")
    if parse_number(flame.attributes.get("soloxform", "-1").strip(), path, where) >= 0:
        raise error_at(path, where, "showing only one transform (soloxform) is not supported")
    maps = [
        _Transform(path, f"line {line}", number, attributes).read()
        for number, (line, attributes) in enumerate(flame.transforms)
    ]
    if not maps:
        raise error_at(path, where, "a flame must have at least one transform, got none")
    palette = flame.palette.colors()  # (256, 3)
    color: Tensor | None = None
    if palette is not None:
        color = palette[[min(int(each.color * 256), 255) for each in maps]]  # (N, 3)
        if any(each.color_speed != 1 for each in maps):
            log_notices(path, [f"{where}: each map gets a fixed color, but flam3 mixes the colors of successive maps"])
    elif "palette" in flame.attributes:
        log_notices(path, [f"{where}: the flame is read without colors, as its palette is not in the file"])
    matrix, offset = Y_DOWN[2].read(
        torch.stack([each.matrix for each in maps]), torch.stack([each.offset for each in maps])
    )
    return build_system(path, where, matrix, offset, [each.weight for each in maps], color)


@dataclass
class _Map:
    matrix: Tensor  # (2, 2)
    offset: Tensor  # (2,)
    weight: float
    color: float  # the index in the palette, in [0, 1]
    color_speed: float


class _Transform:
    """The attributes of a transform. Each known attribute is removed when it is read; the others are variations."""

    def __init__(self, path: Path, where: str, number: int, attributes: Attributes) -> None:
        self._path = path
        self._where = f"{where}: transform {number + 1}"
        self._number = number
        self._left = dict(attributes)

    def _numbers(self, name: str, default: list[float], *counts: int) -> list[float]:
        if name not in self._left:
            return default
        words = self._left.pop(name).split()
        if counts and len(words) not in counts:
            wanted = " or ".join(map(str, counts))
            raise error_at(self._path, self._where, f"{name} must contain {wanted} numbers, got {len(words)}")
        return [parse_number(word, self._path, f"{self._where}: {name}") for word in words]

    def _refuse(self, what: str) -> InputError:
        return error_at(self._path, self._where, f"{what} is not supported, only affine transforms (linear)")

    def read(self) -> _Map:
        """Return the affine map. Raises `InputError` if the transform is damaged or is not affine."""
        for name in _NO_EFFECT:
            self._left.pop(name, None)
        (weight,) = self._numbers("weight", [0.0], 1)
        if weight < 0:
            raise error_at(self._path, self._where, f"weight must not be negative, got {weight:g}")
        color = self._numbers("color", [float(self._number % 2)], 1, 2)[0]
        speed = (1 - self._numbers("symmetry", [0.0], 1)[0]) / 2
        (speed,) = self._numbers("color_speed", [speed], 1)
        opacity = self._numbers("opacity", [1.0], 1)[0] if self._left.pop("plotmode", "") != "off" else 0.0
        if opacity != 1:
            raise self._refuse(f"an opacity of {opacity:g}")
        if any(entry != 1 for entry in self._numbers("chaos", [])):
            raise self._refuse("xaos (chaos)")
        inner = self._numbers("coefs", _IDENTITY, 6)
        outer = self._numbers("post", _IDENTITY, 6)
        linear = self._linear()
        matrix, offset = (linear * part for part in _affine(inner))
        if outer != _IDENTITY:
            post, shift = _affine(outer)
            matrix, offset = post @ matrix, post @ offset + shift
        return _Map(matrix, offset, weight, min(max(color, 0.0), 1.0), speed)

    def _linear(self) -> float:
        """Return the weight of the variation `linear`. Raises `InputError` if another variation is used."""
        weights = self._numbers("var", [])  # in the oldest files: the weights of all variations, in order
        if any(weights[1:]):
            raise self._refuse(f"variation {next(number for number, each in enumerate(weights) if number and each)}")
        only = self._numbers("var1", [-1.0], 1)[0]
        if only > 0:
            raise self._refuse(f"variation {only:g}")
        linear = self._numbers("linear", [1.0 if only == 0 else 0.0], 1)[0] + (weights[0] if weights else 0.0)
        for name, text in self._left.items():
            try:
                used = float(text) != 0
            except ValueError:
                used = True
            if used:
                raise self._refuse(f"the variation {name!r}")
        return linear


def _affine(columns: list[float]) -> tuple[Tensor, Tensor]:
    """Return the matrix (2, 2) and the translation (2,) that are given by six numbers in column order."""
    table = torch.tensor(columns, dtype=torch.float64, device="cpu").view(3, 2).t()  # (2, 3)
    return table[:, :2], table[:, 2]


def write_flames(path: Path, systems: list[System]) -> list[str]:
    """Write flames, each with a palette that contains the colors of its maps; return notices.

    Raises `InputError` if a system is 3-D, or has colors with another number of channels than 1 or 3.
    """
    names, notices = held_names(systems, _plain)
    root = ElementTree.Element("flames", name="fractalops")
    for number, (name, system) in enumerate(zip(names, systems, strict=True)):
        if system.dimensions != 2 or system.channels not in (None, 1, 3):
            raise InputError(
                f"cannot save {path}: a flame must be 2-D, without colors or with 1 or 3 color channels, got "
                f"{system.name!r} with {system.dimensions} dimensions and {system.channels or 'no'} color channels"
            )
        matrix, offset = Y_DOWN[2].write(system.matrix.double(), system.offset.double())
        palette, place = index_colors(system.color, len(system))  # (256, 3), (N,)
        if system.color is not None and not bool((palette[(place * 256).long()] == system.color * 255).all()):
            notices.append("colors are rounded: a flame stores 256 colors of 8 bits per channel")
        center, scale = _camera(System(matrix, offset, shares_of(system.probabilities)))
        flame = ElementTree.SubElement(
            root,
            "flame",
            name=name,
            time=str(number),
            size=f"{_SIDE} {_SIDE}",
            center=_joined(center),
            scale=repr(scale),
            background="0 0 0",
            brightness="4",
            gamma="4",
            vibrancy="1",
            quality="100",
            palette_mode="step",
        )
        coefs = torch.cat((matrix.mT, offset[:, None]), 1).flatten(1).tolist()  # (N, 6), by columns
        weights = system.probabilities.double().tolist()
        for each, weight, color in zip(coefs, weights, place.tolist(), strict=True):
            ElementTree.SubElement(
                flame,
                "xform",
                weight=repr(weight),
                color=repr(color),
                color_speed="1",
                symmetry="-1",
                linear="1",
                coefs=_joined(each),
                opacity="1",
            )
        ElementTree.SubElement(flame, "palette", count="256", format="RGB").text = palette_text(palette)
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return list(dict.fromkeys(notices))


def _camera(system: System) -> tuple[list[float], float]:
    """Return the center of a system's points and the pixels per unit for a picture that shows all points."""
    points = system.points(_POINTS, generator=torch.Generator("cpu").manual_seed(0))  # (P, 2)
    low, high = (bound[0] for bound in bounding_box(points[None]))  # (2,), (2,)
    extent = float((high - low).amax())
    if not 0 < extent < float("inf"):
        return [0.0, 0.0], _SIDE / 4
    return ((low + high) / 2).tolist(), 0.9 * _SIDE / extent


def _joined(numbers: list[float]) -> str:
    return " ".join(map(repr, numbers))


def _plain(name: str) -> str:
    """Return a name without characters that XML can't store."""
    kept = "".join(c if c.isprintable() else "_" for c in name)
    return kept.encode("utf-8", "replace").decode()
