"""The option `--set NAME=VALUE`, which changes any field of a configuration."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, Union

from fractalops._checks import AUTO
from fractalops.errors import InputError

S = TypeVar("S")

_WORDS = {"true": True, "false": False}


def add_settings(group: argparse.ArgumentParser | argparse._ArgumentGroup, of: str) -> None:
    """Add the option `--set`. `of` names the configuration in the help."""
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"change any setting of {of} by its name; separate the values of a tuple by commas, and write none for "
        "None (can be repeated)",
    )


def configure(make: Callable[..., S], kind: type[S], arguments: argparse.Namespace, options: Sequence[str]) -> S:
    """Return the configuration that `make` creates from the settings of `options` and `--set`.

    Raises `InputError` if a setting does not exist, is given by both, or has an invalid value.
    """
    given = {name: value for name in options if (value := getattr(arguments, name)) is not None}
    changes = parse_changes(kind, arguments.set)
    if both := given.keys() & changes.keys():
        name = min(both)
        raise InputError(f"{name} is given twice, by --{name} and by --set; leave out one of them")
    try:
        return make(**(given | changes))
    except (TypeError, ValueError) as error:
        # "FitConfig: maps must ..." becomes "--maps must ..." or "--set maps must ..."
        text = str(error).removeprefix(f"{kind.__name__}: ")
        name = text.partition(" ")[0]
        raise InputError(f"--{name}{text[len(name) :]}" if name in given else f"--set {text}") from error


def parse_changes(kind: type, changes: Sequence[str]) -> dict[str, Any]:
    """Return the fields of the dataclass `kind` that are given as "name=value".

    Raises `InputError` if a field does not exist, is given twice, or has a value of another type.
    """
    kinds = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in known:
            raise InputError(f"--set must be NAME=VALUE, got {change!r}; {_suggest(name, known)}")
        if name in values:
            raise InputError(f"{name} is given twice by --set; leave out one of them")
        if text == AUTO and getattr(kind, name, None) is AUTO:
            values[name] = AUTO
            continue
        try:
            values[name] = _parse(kinds[name], text)
        except ValueError as error:
            raise InputError(f"--set {name} must be {_describe(kinds[name])}, got {text!r}") from error
    return values


def _suggest(name: str, known: Sequence[str]) -> str:
    """Return how to give a value to a known name, or which known name a wrong one resembles, or all known names."""
    if name in known:
        return f"write {name}=VALUE"
    similar = difflib.get_close_matches(name, known, 1)
    if similar:
        return f"did you mean {similar[0]}?"
    # An error shortens long parts of its message. These are short enough.
    return "NAME must be one of: " + "; ".join(", ".join(known[i : i + 8]) for i in range(0, len(known), 8))


def _parse(kind: Any, text: str) -> Any:
    """Convert a text to a value of the type `kind`. Raises `ValueError` if that is not possible."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        for one in sorted(arguments, key=lambda one: one is str):  # str is tried last, as it accepts any text
            try:
                return _parse(one, text)
            except ValueError:
                pass
        raise ValueError
    if origin is Literal:
        return {str(choice): choice for choice in arguments}[_known(text, arguments)]
    if origin is tuple:
        parts = [part for part in text.split(",") if part]
        if arguments[-1] is ...:
            return tuple(_parse(arguments[0], part) for part in parts)
        return tuple(_parse(one, part) for one, part in zip(arguments, parts, strict=True))
    if kind is type(None):
        return {"none": None}[_known(text.lower(), ("none",))]
    if kind is bool:
        return _WORDS[_known(text.lower(), tuple(_WORDS))]
    return {int: int, float: float, str: str}[kind](text)


def _known(text: str, choices: Sequence[object]) -> str:
    if text not in map(str, choices):
        raise ValueError
    return text


def _describe(kind: Any) -> str:
    """Return a description of the values of a type, for an error message."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is ...:
        return f"values of type {arguments[0].__name__}, separated by commas"
    if origin is tuple:
        return f"{len(arguments)} values of type {arguments[0].__name__}, separated by commas"
    if kind is bool:
        return "true or false"
    return "none" if kind is type(None) else f"of type {kind.__name__}"
