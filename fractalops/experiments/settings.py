"""Settings of experiments: their checks, and changes to them from the command line."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from fractalops._checks import check_integer
from fractalops.errors import InputError

S = TypeVar("S")


def incidental(default: int) -> Any:
    """A field of settings that results don't depend on: it may change where a run goes on."""
    return dataclasses.field(default=default, metadata={"incidental": True})


def described(settings: Any) -> dict[str, Any]:
    """The settings that results depend on, by name."""
    kept = [field.name for field in dataclasses.fields(settings) if not field.metadata.get("incidental", False)]
    values = dataclasses.asdict(settings)
    return {name: values[name] for name in kept}


def changed(settings: S, changes: Sequence[str]) -> S:
    """Settings with some fields set anew, by "name=value"; a tuple's values are parted by commas.

    Raises `InputError` for a field that there is not, or a value that it can't have.
    """
    kinds = typing.get_type_hints(type(settings))
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in kinds:
            known = ", ".join(field.name for field in dataclasses.fields(settings))  # type: ignore[arg-type]
            raise InputError(f"--set wants NAME=VALUE with a NAME of {known}, got {change!r}")
        try:
            values[name] = _parsed(kinds[name], text)
        except ValueError as error:
            raise InputError(f"--set {name} must be of type {_name(kinds[name])}, got {text!r}") from error
    try:
        return dataclasses.replace(settings, **values)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error


def check_least(settings: object, **least: int) -> None:
    """Raise `ValueError` for a field below its least value, named in the message."""
    for name, bound in least.items():
        check_integer(type(settings).__name__, name, getattr(settings, name), bound)


def _parsed(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(_parsed(typing.get_args(kind)[0], part) for part in text.split(",") if part)
    return {int: int, float: float, str: str}[kind](text)


def _name(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__
