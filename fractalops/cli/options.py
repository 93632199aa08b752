"""Shared parts of the commands: a parser with errors of one line, converters with checks, and output files."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

import torch

from fractalops import backends
from fractalops.errors import InputError, in_message
from fractalops.io import PictureOptions
from fractalops.io.files import check_writable
from fractalops.io.images import check_savable
from fractalops.io.memory import VARIABLE, parse_size

# argparse has no public name for the result of add_subparsers.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

UNUSABLE = 2  # the exit code if a file or an option can't be used, as in argparse
INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C; `main` returns 143 after SIGTERM

LARGEST_SIDE = 16384  # pixels; a picture of that size is 1 GiB of float32
LARGEST_SEED = 2**63 - 1

_MEMORY_LIMIT = "--memory-limit"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that prints an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error in one line and exit."""
        self.exit(UNUSABLE, f"{self.prog}: {in_message(message)} (see {self.prog} --help)\n")


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return a converter for argparse that accepts whole numbers from `minimum` to `maximum`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {value}")
        if maximum is not None and value > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum}, got {value}")
        return value

    return convert


def number(below: float, expected: str) -> Callable[[str], float]:
    """Return a converter for argparse that accepts numbers in [0, `below`); its error says `expected`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
        if not 0 <= value < below:
            raise argparse.ArgumentTypeError(f"must {expected}, got {text}")
        return value

    return convert


def add_seed(parser: argparse.ArgumentParser | argparse._ArgumentGroup, default: int | None = None) -> None:
    """Add the option --seed."""
    parser.add_argument(
        "--seed",
        type=integer(0, LARGEST_SEED),
        default=default,
        metavar="N",
        help="the seed of the random numbers (default: 0)",
    )


def add_memory_limit(parser: argparse.ArgumentParser) -> None:
    """Add the option --memory-limit of a command that reads files."""
    parser.add_argument(
        _MEMORY_LIMIT,
        type=_size,
        metavar="SIZE",
        help="the maximum memory for reading one file, such as 4GiB (default: the environment variable "
        f"{VARIABLE}, or 1GiB)",
    )


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_output(parser: argparse.ArgumentParser, what: str, animation: str) -> None:
    """Add the options of a command that writes a folder. `what` describes the folder, `animation` is a file in it."""
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=Path, metavar="DIR", default=Path("fractals"), help=f"{what} (default: %(default)s)"
    )
    output.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    output.add_argument("--no-animation", action="store_true", help=f"do not write {animation}")
    output.add_argument("--quiet", action="store_true", help="print only errors")


def add_picture_options(parser: argparse.ArgumentParser, default_output: str) -> None:
    """Add the options of a command that writes one picture or animation. `default_output` is shown in the help."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUTPUT", help=f"the file to write (default: {default_output})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    add_seed(parser, default=0)


def default_output(path: Path, suffix: str) -> Path:
    """Return the default path of the output for an input file or folder: next to it, with its name and `suffix`."""
    if not path.is_dir():
        return path.with_suffix(suffix)
    folder = path.resolve() if path.name in ("", "..") else path
    return folder.parent / f"{folder.name}{suffix}"


def check_backend() -> None:
    """Raise `InputError` or `BackendError` if the backend in FRACTALOPS_BACKEND is unknown or can't run here."""
    for op in backends.OPS:
        try:
            backends.choose(op, torch.device("cpu"))
        except ValueError as error:
            raise InputError(str(error)) from error


def picture_options(arguments: argparse.Namespace, color: bool) -> PictureOptions:
    """Return the picture options of the command line. Each option has the name of its field."""
    names = {field.name for field in dataclasses.fields(PictureOptions)} - {"color"}
    return PictureOptions(**{name: getattr(arguments, name) for name in names}, color=color)


_ARGUMENT = re.compile(
    r"\b(background|data|download|drop_bad|frame|invert|overwrite|skip_bad|stretch)=(?:True|None|'(\w+)'|(N))"
)


def in_options(text: str) -> str:
    """Return a message of the library with arguments replaced by options, such as "skip_bad=True" by "--skip-bad"."""
    text = text.replace(f"{VARIABLE}=", f"{_MEMORY_LIMIT} ")
    return _ARGUMENT.sub(
        lambda found: " ".join(filter(None, [f"--{found[1].replace('_', '-')}", *found.groups()[1:]])), text
    )


def check_picture(path: Path, overwrite: bool) -> None:
    """Raise `InputError` unless a picture can be written to `path`."""
    check_savable(path)
    check_output(path, overwrite)


def check_output(path: Path, overwrite: bool) -> None:
    """Raise `InputError` unless a file can be written to `path`."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    if path.exists() and not overwrite:
        raise InputError(f"cannot write {path}: it already exists (--overwrite replaces it)")
    check_writable(path.parent)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
