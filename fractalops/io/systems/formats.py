"""Reading and writing files of systems, by their suffixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fractalops.errors import InputError
from fractalops.ifs import IFS
from fractalops.io.files import as_text, atomic_path
from fractalops.io.notices import log_notices
from fractalops.io.systems.arrays import open_archive, open_array, refuse_pickle, write_archive, write_array
from fractalops.io.systems.documents import open_document, write_document
from fractalops.io.systems.entries import MOST_SYSTEMS, Entry, build_system, most_text, name_entries
from fractalops.io.systems.flame import open_flames, write_flames
from fractalops.io.systems.fractint import open_fractint, write_fractint
from fractalops.io.systems.tables import open_folder, open_table, write_folder, write_table
from fractalops.io.systems.tensors import open_tensors, write_systems_tensors
from fractalops.systems import System

Systems = System | IFS | Mapping[str, System] | Sequence[System]

_READERS: dict[str, Callable[[Path], list[Entry]]] = {
    ".ifs": open_fractint,
    ".flame": open_flames,
    ".csv": open_table,
    ".npy": open_array,
    ".npz": open_archive,
    ".json": open_document,
    ".safetensors": open_tensors,
    ".pkl": refuse_pickle,
    ".pickle": refuse_pickle,
}
_WRITERS: dict[str, Callable[[Path, list[System]], list[str]]] = {
    ".ifs": write_fractint,
    ".flame": write_flames,
    ".csv": write_table,
    ".npy": write_array,
    ".npz": write_archive,
    ".json": write_document,
    ".safetensors": write_systems_tensors,
}
SUFFIXES = tuple(_WRITERS)
"""Those of the files that are read and written; a folder of CSV files has none."""

_TEXT = (".ifs", ".flame", ".csv", ".json")
_OWN_FORMS = (".json", ".safetensors")  # in which no name comes twice


def read_systems(path: str | Path) -> dict[str, System]:
    """Read iterated function systems from a file, or from a folder of CSV files; no code in it is executed.

    The suffix names the format: Fractint's .ifs, flam3's .flame (affine transforms), FractalDB's .csv, arrays (N, 2, 3)
    or (S, N, 2, 3) in .npy and .npz (fractal-pretraining), .json and .safetensors of this package, learned ones too.

    Maps come in this package's axes, its first coordinate along rows, such that a drawing looks as the format's own
    programs draw it. What the file's programs take and this function changes or takes with them, as probabilities
    that add up to 0.995 or a name that comes twice, is logged as a warning of the logger "fractalops.io".

    Args:
        path: of the file or folder.

    Returns:
        The systems by name, in the order of the file. Those without a name have their number, from 0, or the file's
        name where there is one alone; those of a folder have their paths. Numbers of text are float64.

    Raises:
        InputError: for a file that can't be read right: damaged, of another format, with transforms that aren't affine,
            numbers that aren't finite, or probabilities that are negative or don't add up to 1. It names the line.
    """
    return {name: replace(read(), name=name) for name, read in open_systems(path).items()}


def open_systems(path: str | Path) -> dict[str, Callable[[], System]]:
    """Return the names of the systems in a file, each with a function that reads it.

    So a system can be read from a file whose others are wrong. Raises `InputError`, as the functions do; see
    `read_systems`.
    """
    path = Path(path)
    if path.is_dir():
        return name_entries(path, open_folder(path))
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"cannot read {path}: unknown suffix {path.suffix!r}, use one of {', '.join(SUFFIXES)}")
    return name_entries(path, _READERS[suffix](path), strict=suffix in _OWN_FORMS)


def write_systems(path: str | Path, systems: Systems) -> None:
    """Write iterated function systems to a file, or, to a path without suffix, as CSV files in a folder.

    What is written is read back equal by `read_systems`, with numbers of text in float64, but for this:

    - .ifs and .csv files scale probabilities that don't add up to 1, and have no colors.
    - Flames have colors of 8 bits in a palette of 256. Gray ones are read as red, green and blue, and where all are
      white as none.
    - .npy files have neither probabilities, which follow from the determinants, nor colors.
    - .npy and .csv files have no names.
    - .npz files hold half precision as float32.
    - .ifs files and flames change names that they can't hold.

    A warning of the logger "fractalops.io" says where colors or their bits are lost, where other probabilities follow
    from the determinants, and which names are changed. An interruption leaves no broken file.

    Args:
        path: of the file, whose suffix names the format as in `read_systems`, or of a folder.
        systems: one, or several: by name, in a list (by their own names, else by their numbers), or as an `IFS`.

    Raises:
        InputError: for systems that the format can't hold, and numbers that aren't finite.
        ValueError: for no system, and a name that comes twice; TypeError for another type.
        FileNotFoundError: when the folder of `path` does not exist; OSError: when the file can't be written.
    """
    path = Path(path)
    named = _name_systems(path, systems)
    check_suffix(path)
    for system in named:
        try:
            build_system(path, "", system.matrix, system.offset, system.probabilities, system.color)
        except InputError as error:  # it could not be read again
            reason = str(error).removeprefix(f"cannot read {path}: ")
            raise InputError(f"cannot save {path}: the system {system.name!r}: {reason}") from None
    if path.suffix == "":
        notices = write_folder(path, named)
    else:
        with atomic_path(path) as temporary:
            notices = _write_file(path, temporary, named)
            is_text = path.suffix.lower() in _TEXT
            if is_text and (temporary.stat().st_size > most_text() or len(named) > MOST_SYSTEMS):
                most = f"{most_text()} bytes or {MOST_SYSTEMS} systems"
                raise InputError(f"cannot save {path}: it would have more than {most}; use .npz or .safetensors")
    log_notices(path, notices)


def check_suffix(path: Path) -> None:
    """Raise `InputError` unless systems are written to paths with such a suffix."""
    if path.suffix != "" and path.suffix.lower() not in _WRITERS:
        raise InputError(f"cannot save {path}: unknown suffix {path.suffix!r}, use one of {', '.join(SUFFIXES)}")


def _write_file(path: Path, temporary: Path, systems: list[System]) -> list[str]:
    """Write a file; its errors name the path that it will have."""
    try:
        return _WRITERS[path.suffix.lower()](temporary, systems)
    except InputError as error:
        raise InputError(str(error).replace(str(temporary), str(path))) from None
    except UnicodeEncodeError as error:
        raise InputError(f"cannot save {path}: the name of a system must be text, got {error.object!r}") from None


def _name_systems(path: Path, systems: Systems) -> list[System]:
    """Return systems with unique names, on the CPU."""
    if isinstance(systems, IFS):
        systems = systems.each_system()
    elif isinstance(systems, System):
        systems = [systems]
    elif isinstance(systems, Mapping):
        systems = [replace(system, name=name) for name, system in systems.items()]
    if not isinstance(systems, Sequence) or not all(isinstance(system, System) for system in systems):
        raise TypeError(
            f"write_systems: systems must be one or several System, or an IFS, got {type(systems).__name__}"
        )
    if not systems:
        raise ValueError("write_systems: systems must hold a system at least, got none")
    alone = as_text(path.stem) or "0"
    named = [
        replace(
            system,
            matrix=system.matrix.cpu(),
            offset=system.offset.cpu(),
            probabilities=system.probabilities.cpu(),
            color=None if system.color is None else system.color.cpu(),
            name=system.name or (alone if len(systems) == 1 else str(number)),
        )
        for number, system in enumerate(systems)
    ]
    names = [system.name for system in named]
    if len(set(names)) != len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"write_systems: names must be unique, got {twice!r} twice")
    return named
