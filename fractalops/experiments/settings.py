"""Settings of experiments: what results depend on."""

from __future__ import annotations

import dataclasses
from typing import Any

INCIDENTAL = {"incidental": True}
"""The metadata of a field of settings that results don't depend on: it may change where a run goes on."""


def described(settings: Any) -> dict[str, Any]:
    """Return the settings that results depend on, by name."""
    values = dataclasses.asdict(settings)
    return {field.name: values[field.name] for field in dataclasses.fields(settings) if field.metadata != INCIDENTAL}
