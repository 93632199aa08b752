"""Results as lines of JSON in a program's output: of the sweeps and of the parts of `python -m bench gpu`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Record = dict[str, Any]


def emit(**record: object) -> None:
    """Print a result as a line of JSON. `parse` recognizes it among other lines of output."""
    print(json.dumps(_finite(record), allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    """Return a value of a record, with NaN and infinities as text because JSON has no such numbers."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parse(line: str) -> Record | None:
    """Return the result in a line of output, or None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def run_all(checks: Mapping[str, Callable[[], Record]]) -> int:
    """Run each check and emit its result with its name. Return 1 if one fails or raises, else 0.

    A check returns its result, whose item `passed` is True or False. After an exception in a check, the others still
    run.
    """
    failed = False
    for name, check in checks.items():
        try:
            record = check()
        except Exception as error:  # any error of a driver or a compiler
            record = {"passed": False, "error": f"{type(error).__name__}: {error}"[:500]}
        failed |= not record["passed"]
        emit(check=name, **record)
    return int(failed)
