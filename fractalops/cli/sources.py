"""The systems of a file as the commands take them: learned ones as they were learned, others as they are."""

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

FILES = "a system: .ifs, .flame, .csv (or a folder of them), .npy, .npz, .json, or what `fractalops fit` saved"

# Of the chains by which systems are told whose points run away:
_TRIED = 200
_STEPS = 8000
_CLEAR = 0.01  # Lyapunov exponents farther from 0 are known by their estimates
_GROWTH = 1.25  # of the distances in the second half of the steps; a random walk has 1.5
_STILL = 1e-6  # of the extent, and less than which nothing moves
_LARGEST = 1e100  # of whose squares there are no infinite ones
_SHOWN = 8  # names in an error


@dataclass(frozen=True)
class Source:
    """The chosen systems of a file, by name."""

    path: Path
    systems: dict[str, System]
    learned: FitResult | None = None
    """The results of `fit` for these systems, if it learned them."""

    def the_only(self, what: str, option: str) -> System:
        """Return the system of a file of one, in the plane: `what` is made of it.

        Raises `InputError` for several, among which `option` chooses, and for one in space.
        """
        if len(self.systems) != 1:
            held = f"the file holds {len(self.systems)}; choose one with {option}"
            raise InputError(f"cannot use {self.path}: {what} is made of one system, and {held}")
        system = next(iter(self.systems.values()))
        if system.dimensions != 2:
            raise InputError(
                f"cannot use {self.path}: {what} is made of a system in the plane, and {system.name!r} is in space"
            )
        return system


def add_choice(parser: argparse.ArgumentParser, *flags: str, of: str = "several systems in the file") -> None:
    """Add the option that chooses one system of a file; `flags` are its names."""
    parser.add_argument(*flags, metavar="NAME", help=f"which of {of}, by its name or its number from 0 on")


def load_source(path: Path, name: str | None = None, option: str = "--system") -> Source:
    """Read the systems of a file, or the one of a name or number, chosen by `option`. Raises `InputError`."""
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
        raise InputError(f"{error} ({option} takes another of its systems)") from error


def load_drawable(path: Path, name: str | None = None, option: str = "--system") -> Source:
    """Read the systems of a file as `load_source` does, and return them as they are drawn, see `drawable`."""
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
    held = ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    raise InputError(f"cannot use {path}: it holds no system {name!r}, but {held}")


def drawable(source: Source) -> Source:
    """Return systems as they are drawn, with probabilities that add up to 1; learned ones as they are.

    Raises `InputError` for a system whose points run away, or whose colors can't be shown.
    """
    if source.learned is not None:
        return source
    systems = {}
    for name, system in source.systems.items():
        if system.channels not in (None, 1, 3):
            held = f"{system.channels} channels of color"
            raise InputError(f"cannot draw {name!r} of {source.path}: it has {held}, neither 1 nor 3")
        if max(float(part.abs().max()) for part in (system.matrix, system.offset)) > _LARGEST:
            raise InputError(f"cannot draw {name!r} of {source.path}: it has numbers above {_LARGEST:g}")
        dtype = torch.promote_types(system.matrix.dtype, torch.float32)  # half precision is too little for points
        systems[name] = replace(
            system,
            matrix=system.matrix.to(dtype),
            offset=system.offset.to(dtype),
            probabilities=shares_of(system.probabilities),
        )
        if _runs_away(systems[name]):
            raise InputError(
                f"cannot draw {name!r} of {source.path}: its points run away, as its maps don't contract on average"
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
