"""The memory limit for reading a file. The environment variable `FRACTALOPS_MEMORY_LIMIT` sets it; default: 1 GiB."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fractalops.errors import InputError

VARIABLE = "FRACTALOPS_MEMORY_LIMIT"
_DEFAULT = 2**30
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(rf"(\d+) ?({'|'.join(_UNITS)})?", re.ASCII)


def parse_size(text: str) -> int:
    """Return the number of bytes of a size such as "300MiB", "4GiB" or "1000". Raises `ValueError` for other text."""
    found = _SIZE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ValueError(f"must be a size such as 300MiB or 4GiB, got {text!r}")
    return int(found[1]) << 10 * _UNITS.index(found[2] or "bytes")


def memory_limit() -> int:
    """Return the memory in bytes that reading one file may need. Raises `InputError` if the variable is not a size."""
    try:
        return parse_size(os.environ.get(VARIABLE) or str(_DEFAULT))
    except ValueError as error:
        raise InputError(f"{VARIABLE} {error}") from None


@contextmanager
def limited_memory(limit: int | None) -> Iterator[None]:
    """Set the limit within the block, also for processes that are started there; None does not change it."""
    before = os.environ.get(VARIABLE)
    if limit is not None:
        os.environ[VARIABLE] = str(limit)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def check_memory(name: str | Path, needed: int, what: str = "it", *, otherwise: str = "") -> None:
    """Raise `InputError` if `needed`, in bytes, exceeds the limit.

    The message says that `what` of the file `name` needs that much memory. `otherwise` says what a user can do instead
    of raising the limit.
    """
    limit = memory_limit()
    if needed > limit:
        raise InputError(
            f"cannot read {name}: {what} needs {_shown(needed)} of memory, but the limit is {_shown(limit)} "
            f"({VARIABLE}={_shown(needed).replace(' ', '')} raises it{otherwise and f'; or {otherwise}'})"
        )


def _shown(size: int) -> str:
    """Return a size with a unit, rounded up, such as "3 GiB"."""
    for power in range(len(_UNITS) - 1, -1, -1):
        unit = 1 << 10 * power
        if size >= 10 * unit or (size >= unit and size % unit == 0):
            break
    return f"{-(-size // unit)} {_UNITS[power]}"
