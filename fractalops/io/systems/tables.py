"""FractalDB's CSV files: one map per row, one system per file, and folders of such files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path, PurePosixPath

from fractalops.errors import InputError
from fractalops.io.files import atomic_path, is_temporary
from fractalops.io.systems.entries import Entry, check_count, error_at, read_text, split_lines
from fractalops.io.systems.rows import COLUMNS, Row, parse_number, rows_of_system, system_of_rows
from fractalops.systems import System

_MOST_FILES = 2**17  # files of any kind in a folder: a wrong folder must not be searched for minutes
_LONGEST_NAME = 240  # bytes: file systems allow 255, including the suffix and the prefix of a temporary file


def open_table(path: Path) -> list[Entry]:
    """Return the system of a CSV file."""
    return [Entry("", "", partial(_read, path))]


def open_folder(path: Path) -> list[Entry]:
    """Return the systems of the CSV files in a folder and its subfolders, named by their paths and sorted by them."""
    found: list[Path] = []
    seen = 0
    for folder, folders, names in os.walk(path):
        tables = (name for name in names if name.lower().endswith(".csv") and not is_temporary(name))
        found += (Path(folder) / name for name in tables)
        seen += len(folders) + len(names)
        if seen > _MOST_FILES:
            raise InputError(f"cannot read {path}: a folder must contain at most {_MOST_FILES} files, got more")
    files = sorted((file.relative_to(path) for file in found), key=lambda file: file.parts)
    return [Entry(file.with_suffix("").as_posix(), str(file), partial(_read, path / file)) for file in files]


def _read(path: Path) -> System:
    rows: list[Row] = []
    for number, line in split_lines(path, read_text(path)):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        where = f"line {number}"
        words = [word.strip() for word in text.split(",")]
        width = len(rows[0][1]) if rows else len(words)
        if width not in COLUMNS or len(words) != width:
            expected = width if width in COLUMNS else "7 or 13"
            raise error_at(path, where, f"a row must have {expected} numbers separated by commas, got {len(words)}")
        rows.append((number, [parse_number(word, path, where) for word in words]))
        check_count(path, where, len(rows))
    return system_of_rows(path, rows, f"line {rows[-1][0]}" if rows else "")


def write_table(path: Path, systems: list[System]) -> list[str]:
    """Write one system as a CSV file; return notices. Raises `InputError` if there are several systems."""
    if len(systems) != 1:
        raise InputError(
            f"cannot save {path}: a .csv file must contain one system, got {len(systems)}; use a path without suffix "
            "to write a folder"
        )
    path.write_text("".join(f"{','.join(row)}\n" for row in rows_of_system(systems[0])), encoding="ascii")
    return [] if systems[0].color is None else ["colors are left out: a .csv file can't store them"]


def write_folder(path: Path, systems: list[System]) -> list[str]:
    """Write each system to a folder as a CSV file with the system's name; return notices.

    Raises `InputError` if a name is not a valid file name.
    """
    names = {}
    for system in systems:
        parts = PurePosixPath(system.name).parts
        plain = system.name.isprintable() and not any(c in system.name for c in '\\:*?"<>|')
        if not plain or ".." in parts or parts[:1] == ("/",) or "/".join(parts) != system.name:
            raise InputError(f"cannot save {path}: the name of a system must be a file name, got {system.name!r}")
        if any(len(part.encode()) > _LONGEST_NAME for part in parts):
            most = f"at most {_LONGEST_NAME} bytes"
            raise InputError(f"cannot save {path}: the name of a system must have {most}, got {system.name!r}")
        names[system.name] = system
    notices: list[str] = []
    for name, system in names.items():
        file = path / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            notices += write_table(temporary, [system])
    return list(dict.fromkeys(notices))
