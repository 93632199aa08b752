"""Settings of experiments: what results depend on, and checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def incidental(default: int) -> Any:
    """A field of settings that results don't depend on: it may change where a run goes on."""
    return dataclasses.field(default=default, metadata={"incidental": True})


def described(settings: Any) -> dict[str, Any]:
    """The settings that results depend on, by name."""
    kept = [field.name for field in dataclasses.fields(settings) if not field.metadata.get("incidental", False)]
    values = dataclasses.asdict(settings)
    return {name: values[name] for name in kept}


def check_least(settings: object, **least: int) -> None:
    """Raise `ValueError` for a field below its least value, named in the message."""
    for name, bound in least.items():
        value = getattr(settings, name)
        if value < bound:
            raise ValueError(f"{type(settings).__name__}: {name} must be at least {bound}, got {value}")


def check_choices(settings: object, name: str, choices: Sequence[str]) -> None:
    """Raise `ValueError` for an entry of a tuple of names that is none of `choices`, and for an empty one."""
    value = getattr(settings, name)
    if not value or set(value) - set(choices):
        raise ValueError(f"{type(settings).__name__}: {name} must be some of {', '.join(choices)}, got {value!r}")
