"""Read and write files of systems. The suffix selects the format."""

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
"""The suffixes of files that can be read and written; a folder of CSV files has none."""

_TEXT = (".ifs", ".flame", ".csv", ".json")
_OWN_FORMS = (".json", ".safetensors")  # this package's formats, in which names must be unique


def read_systems(path: str | Path) -> dict[str, System]:
    """Read iterated function systems from a file, or from a folder of CSV files. No code in the file is executed.

    The suffix selects the format:

    - .ifs: Fractint.
    - .flame: flam3; all transforms must be affine (the variation `linear`).
    - .csv: FractalDB, one system per file. All .csv files of a folder and its subfolders are read.
    - .npy and .npz: arrays (N, 2, 3) or (S, N, 2, 3) of affine maps, as in fractal-pretraining.
    - .json and .safetensors: the formats of this package, including the systems that `fit` has learned.

    Maps are converted to this package's axes, see `from_right_and_up`. A drawing looks like that of the format's own
    program.

    Some deviations are accepted, such as probabilities that add up to 0.995, or two systems of the same name. They are
    logged as warnings of the logger "fractalops.io".

    Args:
        path: The file or folder.

    Returns:
        The systems by name, in the order of the file. A system without a name is named by its number, counted from 0,
        or by the file if the file has one system. The systems of a folder are named by their paths. Numbers in text
        files are read as float64.

    Raises:
        InputError: If the file can't be read: it is missing, damaged or of another format, has transforms that are not
            affine or numbers that are not finite, or has probabilities that are negative or don't add up to 1. For text
            files the message names the line.

    Examples:
        >>> from fractalops.io import read_systems, write_systems
        >>> from fractalops.systems import CLASSICS
        >>> write_systems("fern.ifs", CLASSICS["fern"].system)
        >>> read_systems("fern.ifs")["fern"].points(10_000).shape
        torch.Size([10000, 2])
    """
    return {name: replace(read(), name=name) for name, read in open_systems(path).items()}


def open_systems(path: str | Path) -> dict[str, Callable[[], System]]:
    """Return the names of the systems in a file, each with a function that reads the system.

    So a system can be read even if others in the file are damaged. This function and the returned functions raise
    `InputError` as `read_systems` does.
    """
    path = Path(path)
    if path.is_dir():
        return name_entries(path, open_folder(path))
    check_readable(path)
    suffix = path.suffix.lower()
    return name_entries(path, _READERS[suffix](path), strict=suffix in _OWN_FORMS)


def check_readable(path: Path) -> None:
    """Raise `InputError` unless `path` is a folder or has the suffix of a file of systems."""
    if path.suffix.lower() not in _READERS and not path.is_dir():
        raise InputError(f"cannot read {path}: unknown suffix {path.suffix!r}, use one of {', '.join(SUFFIXES)}")


def write_systems(path: str | Path, systems: Systems) -> None:
    """Write iterated function systems to a file, or as CSV files to a folder if `path` has no suffix.

    The suffix selects the format, see `read_systems`. Reading the file gives equal systems, with the numbers of text
    files in float64, except for these cases:

    - .ifs and .csv files: probabilities that don't add up to 1 are scaled. Colors are lost.
    - .flame files: colors are rounded to a palette of 256 colors of 8 bits per channel. Gray colors are read as red,
      green and blue. If all colors are white, none are read.
    - .npy files: colors and probabilities are lost. Probabilities proportional to the determinants are read.
    - .npy and .csv files: names are lost.
    - .npz files: half precision is stored as float32.
    - .ifs and .flame files: names that the format can't store are changed.

    Lost or rounded colors, lost probabilities and changed names are logged as warnings of the logger "fractalops.io".
    An interruption leaves no broken file.

    Args:
        path: The file or folder to write.
        systems: A system, a dictionary of systems by name, a list of systems, or an `IFS`. A system of a list without a
            name is named by its number.

    Raises:
        InputError: If the format can't store the systems, or if a number is not finite.
        ValueError: If there is no system, or if two systems have the same name.
        TypeError: If `systems` has another type.
        FileNotFoundError: If the folder of `path` does not exist.
        OSError: If the file can't be written.

    Examples:
        >>> from fractalops.io import read_systems, write_systems
        >>> from fractalops.systems import CLASSICS
        >>> write_systems("classics.flame", {"leaf": CLASSICS["fern"].system, "curve": CLASSICS["dragon"].system})
        >>> list(read_systems("classics.flame"))
        ['leaf', 'curve']
    """
    path = Path(path)
    named = _name_systems(path, systems)
    check_suffix(path)
    for system in named:
        try:
            build_system(path, "", system.matrix, system.offset, system.probabilities, system.color)
        except InputError as error:  # the file could not be read again
            reason = str(error).removeprefix(f"cannot read {path}: ")
            raise InputError(f"cannot save {path}: the system {system.name!r}: {reason}") from None
    if path.suffix == "":
        notices = write_folder(path, named)
    else:
        with atomic_path(path) as temporary:
            notices = _write_file(path, temporary, named)
            is_text = path.suffix.lower() in _TEXT
            if is_text and (temporary.stat().st_size > most_text() or len(named) > MOST_SYSTEMS):
                most = f"{most_text()} bytes and {MOST_SYSTEMS} systems"
                raise InputError(f"cannot save {path}: a text file must have at most {most}; use .npz or .safetensors")
    log_notices(path, notices)


def check_suffix(path: Path) -> None:
    """Raise `InputError` unless systems can be written to a path with this suffix."""
    if path.suffix != "" and path.suffix.lower() not in _WRITERS:
        raise InputError(f"cannot save {path}: unknown suffix {path.suffix!r}, use one of {', '.join(SUFFIXES)}")


def _write_file(path: Path, temporary: Path, systems: list[System]) -> list[str]:
    """Write a file to the path `temporary`; return notices. Errors name the final path `path`."""
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
            f"write_systems: systems must be a System, several of them, or an IFS, got {type(systems).__name__}"
        )
    if not systems:
        raise ValueError("write_systems: systems must not be empty, got no system")
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
