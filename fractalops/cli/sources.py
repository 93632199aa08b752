"""Read the systems of a file for the commands. Learned systems keep the results of `fit`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fractalops.errors import InputError
from fractalops.fitting import FitResult
from fractalops.fitting.result import FORM
from fractalops.io.files import as_text
from fractalops.io.systems import open_systems
from fractalops.io.tensor_files import read_form
from fractalops.sampling import sample_attractor
from fractalops.systems import System
from fractalops.systems.statistics import lyapunov_exponent
from fractalops.systems.system import shares_of

FILES = ".ifs, .flame, .csv (or a folder of them), .npy, .npz, .json or .safetensors"

# `_runs_away` draws chains to decide whether the points of a system diverge:
_TRIED = 200  # chains
_STEPS = 8000  # steps of a chain
_CLEAR = 0.01  # an estimated Lyapunov exponent decides if its absolute value is larger
_GROWTH = 1.25  # growth of the distances in the second half of the steps; a random walk has 1.5
_STILL = 1e-6  # changes below this fraction of the extent count as no movement
_LARGEST = 1e100  # the squares of smaller numbers do not overflow
_SHOWN = 8  # names in an error


@dataclass(frozen=True)
class Source:
    """The selected systems of a file, by name."""

    path: Path
    systems: dict[str, System]
    learned: FitResult | None = None
    """The results of `fit` for these systems, if the file contains such results."""

    def the_only(self, what: str, option: str) -> System:
        """Return the only system, which must be 2-D. `what` names the output in messages.

        Raises `InputError` if there are several systems, of which `option` can select one, or if the system is 3-D.
        """
        if len(self.systems) != 1:
            got = f"got {len(self.systems)}; select one with {option}"
            raise InputError(f"cannot use {self.path}: {what} needs exactly one system, {got}")
        system = next(iter(self.systems.values()))
        if system.dimensions != 2:
            raise InputError(f"cannot use {self.path}: {what} needs a 2-D system, but {system.name!r} is 3-D")
        return system


def add_choice(parser: argparse.ArgumentParser, *flags: str, of: str = "FILE", default: str = "") -> None:
    """Add the option that selects one system of a file. `flags` are its names; the other arguments are for the help."""
    shown = default or f"the only system of {of}"
    parser.add_argument(
        *flags,
        metavar="NAME",
        help=f"the system of {of} to use, by its name or its number counted from 0 (default: {shown})",
    )


def load_source(path: Path, name: str | None = None, option: str = "--system") -> Source:
    """Read all systems of a file, or the one with the given name or number.

    `option` is the option of the command that selects a system, for messages. Raises `InputError` if a system can't be
    read or does not exist.
    """
    if path.suffix.lower() == ".safetensors" and not path.is_dir() and read_form(path) == FORM:
        return _learned(path, FitResult.load(path), name)
    readers = open_systems(path)
    if name is not None:
        name = _choose(path, list(readers), name)
        readers = {name: readers[name]}
    try:
        return Source(path, {each: replace(read(), name=each) for each, read in readers.items()})
    except InputError as error:
        if len(readers) == 1:
            raise
        raise InputError(f"{error} ({option} can select another system of the file)") from error


def load_drawable(path: Path, name: str | None = None, option: str = "--system") -> Source:
    """Read the systems of a file as `load_source` does, and prepare them for drawing, see `drawable`."""
    return drawable(load_source(path, name, option))


def _learned(path: Path, result: FitResult, name: str | None) -> Source:
    names = [as_text(path.stem)] if len(result) == 1 else [str(number) for number in range(len(result))]
    if name is not None:
        number = names.index(_choose(path, names, name))
        names, result = [names[number]], result[number]
    systems = zip(names, result.system.each_system(), strict=True)
    return Source(path, {each: replace(system, name=each) for each, system in systems}, result)


def _choose(path: Path, names: list[str], name: str) -> str:
    """Return the name of a system, by its name or number."""
    if name in names:
        return name
    if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(names):
        return names[int(name)]
    known = ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    raise InputError(f"cannot use {path}: the name of a system must be one of {known}, got {name!r}")


def drawable(source: Source) -> Source:
    """Return systems that are prepared for drawing: at least float32, with probabilities that add up to 1.

    Learned systems are not changed. Raises `InputError` if the points of a system diverge, or if its colors can't be
    shown.
    """
    if source.learned is not None:
        return source
    systems = {}
    for name, system in source.systems.items():
        if system.channels not in (None, 1, 3):
            got = f"got {system.channels}"
            raise InputError(f"cannot draw {name!r} of {source.path}: it must have 1 or 3 color channels, {got}")
        largest = max(float(part.abs().max()) for part in (system.matrix, system.offset))
        if largest > _LARGEST:
            raise InputError(
                f"cannot draw {name!r} of {source.path}: its numbers must be at most {_LARGEST:g}, got {largest:g}"
            )
        dtype = torch.promote_types(system.matrix.dtype, torch.float32)  # half precision is not accurate enough
        systems[name] = replace(
            system,
            matrix=system.matrix.to(dtype),
            offset=system.offset.to(dtype),
            probabilities=shares_of(system.probabilities),
        )
        if _runs_away(systems[name]):
            raise InputError(
                f"cannot draw {name!r} of {source.path}: its points diverge, as its maps do not contract on average"
            )
    return replace(source, systems=systems)


def _runs_away(system: System) -> bool:
    matrix, offset, probabilities = system.matrix.double(), system.offset.double(), system.probabilities.double()
    if bool((torch.linalg.matrix_norm(matrix, 2) < 1).all()):
        return False
    generator = torch.Generator(offset.device).manual_seed(0)
    exponent = lyapunov_exponent(system, generator)
    if abs(exponent) > _CLEAR:
        return exponent > 0
    points = sample_attractor(
        matrix[None],
        offset[None],
        probabilities[None],
        _TRIED * _STEPS,
        sequences=_TRIED,
        burn_in=0,
        generator=generator,
    ).points[0]  # (K, T, D)
    away = (points - points[:, :1]).abs().amax(2)  # (K, T)
    before, after = (part[:, part.shape[1] // 2 :].median() for part in away.chunk(2, 1))  # each ()
    return not bool(after <= _GROWTH * before + _STILL * points.abs().amax())
