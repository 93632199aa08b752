"""Settings of experiments: what results depend on, and checks."""

from __future__ import annotations

import dataclasses
from typing import Any

from fractalops._checks import check_integer


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
        check_integer(type(settings).__name__, name, getattr(settings, name), bound)
