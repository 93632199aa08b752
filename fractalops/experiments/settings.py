"""The settings of experiments on which results depend."""

from __future__ import annotations

import dataclasses
from typing import Any

INCIDENTAL = {"incidental": True}
"""The metadata of a field on which results do not depend. It may change when a run is resumed."""


def described(settings: Any) -> dict[str, Any]:
    """Return the settings on which results depend, by name."""
    values = dataclasses.asdict(settings)
    return {field.name: values[field.name] for field in dataclasses.fields(settings) if field.metadata != INCIDENTAL}
