"""Systems in safetensors files: this format of plain tensors, and the formats of results of learning.

The modules of those results register their readers with `systems_of_form`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import parsing
from fractalops.io.systems.documents import FORM
from fractalops.io.systems.entries import Entry, build_system
from fractalops.io.tensor_files import read_tensors, write_tensors
from fractalops.systems import System

Tensors = dict[str, Tensor]
FormReader = Callable[[Path, Tensors, dict[str, str]], list[System]]

_LEARNED: dict[str, FormReader] = {}
_PARTS = ("matrix", "offset", "probabilities", "color")


def systems_of_form(form: str) -> Callable[[FormReader], FormReader]:
    """Return a decorator that registers a function as the reader of safetensors files with the format `form`."""

    def add(read: FormReader) -> FormReader:
        _LEARNED[form] = read
        return read

    return add


def open_tensors(path: Path) -> list[Entry]:
    """Return the systems of a safetensors file. Raises `InputError` if the file can't be read."""
    tensors, metadata = read_tensors(path, FORM, *_LEARNED, exchanged=[FORM])
    if (read := _LEARNED.get(metadata["format"])) is not None:
        return [Entry("", "", partial(_checked, path, system)) for system in read(path, tensors, metadata)]
    with parsing(path):
        names = json.loads(metadata["names"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("names must be a list of strings")
        expected = {f"{number}.{part}" for number in range(len(names)) for part in _PARTS}
        if not tensors.keys() <= expected:
            raise ValueError(f"its tensors must belong to {len(names)} systems")
        return [
            Entry(name, f"system {number}", partial(_read, path, f"system {number}", _parts(tensors, number)))
            for number, name in enumerate(names)
        ]


def _parts(tensors: Tensors, number: int) -> Tensors:
    """Return the tensors of a system. Raises `KeyError` if one is missing, except for the color."""
    return {part: tensors[name] for part in _PARTS if (name := f"{number}.{part}") in tensors or part != "color"}


def _read(path: Path, where: str, parts: Tensors) -> System:
    if not all(part.is_floating_point() for part in parts.values()):
        raise InputError(f"cannot read {path}: {where}: its tensors must have a floating-point dtype")
    return build_system(path, where, **parts)


def _checked(path: Path, system: System) -> System:
    return build_system(path, "", system.matrix, system.offset, system.probabilities, system.color)


def write_systems_tensors(path: Path, systems: list[System]) -> list[str]:
    """Write a safetensors file with the dtypes of the systems; return notices (none)."""
    tensors = {
        f"{number}.{part}": values
        for number, system in enumerate(systems)
        for part in _PARTS
        if (values := getattr(system, part)) is not None
    }
    write_tensors(path, tensors, {"format": FORM, "names": json.dumps([system.name for system in systems])})
    return []
