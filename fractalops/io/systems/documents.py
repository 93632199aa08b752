"""Systems as JSON, in this package's axes: in 2-D the first coordinate goes down the rows of an image.

    {"format": "fractalops.systems.1",
     "systems": [{"name": "fern", "matrix": [[[0.16, 0.0], [0.0, 0.0]], ...], "offset": [[0.0, 0.0], ...],
                  "probabilities": [0.01, ...], "color": [[0.1, 0.6, 0.2], ...]}]}

`matrix` (N, D, D), `offset` (N, D), `probabilities` (N) and `color` (N, C) are lists of numbers, with D = 2 or 3.
`color` may be null or missing.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fractalops.errors import InputError
from fractalops.io.files import reading
from fractalops.io.systems.entries import Entry, build_system, check_systems, error_at, read_text
from fractalops.systems import System

FORM = "fractalops.systems.1"
_RANKS = {"matrix": 3, "offset": 2, "probabilities": 1, "color": 2}
_FIELDS = {"name", *_RANKS}


def open_document(path: Path) -> list[Entry]:
    """Return the systems of a JSON file. Raises `InputError` if it has other content."""
    text = read_text(path)
    with reading(path, "it is not JSON"):
        content = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(content, dict) or content.get("format") != FORM or not isinstance(content.get("systems"), list):
        raise InputError(f'cannot read {path}: it must be an object with "format": "{FORM}" and a list of "systems"')
    check_systems(path, len(content["systems"]))
    return [_entry(path, f"systems[{number}]", fields) for number, fields in enumerate(content["systems"])]


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _entry(path: Path, where: str, fields: Any) -> Entry:
    if not isinstance(fields, dict):
        raise error_at(path, where, f"it must be an object, got {type(fields).__name__}")
    if not fields.keys() <= _FIELDS or not fields.keys() >= {"matrix", "offset", "probabilities"}:
        expected = ", ".join(("name", *_RANKS))
        raise error_at(path, where, f"its fields must be {expected}, got {', '.join(map(repr, fields))[:200]}")
    name = fields.get("name", "")
    if not isinstance(name, str):
        raise error_at(path, where, f"name must be text, got {name!r:.40}")
    return Entry(name, where, partial(_read, path, where, fields))


def _read(path: Path, where: str, fields: dict[str, Any]) -> System:
    parts = {}
    for name, rank in _RANKS.items():
        value = fields.get(name)
        if not (name == "color" and value is None):
            _check_numbers(path, f"{where}.{name}", value, rank)
            parts[name] = value
    with reading(path, f"{where}: its numbers do not form arrays"):  # lists differ in length, or an int is too large
        arrays = {name: np.array(value, dtype=np.float64) for name, value in parts.items()}
    return build_system(path, where, **arrays)


def _check_numbers(path: Path, where: str, value: Any, rank: int) -> None:
    """Raise `InputError` unless `value` consists of numbers in `rank` levels of nested lists."""
    if rank == 0:
        if type(value) not in (int, float):
            raise error_at(path, where, f"it must be a number, got {value!r:.40}")
        return
    if not isinstance(value, list) or not value:
        raise error_at(path, where, f"it must be a list that is not empty, got {value!r:.40}")
    for number, each in enumerate(value):
        _check_numbers(path, f"{where}[{number}]", each, rank - 1)


def write_document(path: Path, systems: list[System]) -> list[str]:
    """Write a JSON file, with one map per line; return notices."""
    parts = []
    for system in systems:
        fields = {"name": json.dumps(system.name)}
        for name in _RANKS:
            values = getattr(system, name)
            if values is not None:
                rows = ",\n   ".join(map(json.dumps, values.double().tolist()))
                fields[name] = f"[\n   {rows}]"
        parts.append("{" + ",\n  ".join(f'"{name}": {text}' for name, text in fields.items()) + "}")
    text = ",\n ".join(parts)
    path.write_text(f'{{"format": "{FORM}",\n "systems": [\n {text}]}}\n', encoding="utf-8")
    return []
