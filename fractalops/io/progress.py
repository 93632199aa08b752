"""Bars on standard error that show how far a run is."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


@cache
def _bars(shown: bool) -> type[tqdm[Any]]:
    from tqdm import tqdm  # not with the package, whose import it would slow down

    if shown:
        return tqdm

    class Hidden(tqdm):  # type: ignore[type-arg]
        """A bar without the thread and the lock between processes, which take as long as a hundred steps to make."""

        monitor_interval = 0

    Hidden.set_lock(threading.RLock())
    return Hidden


def progress_bar(total: int, unit: str, description: str, *, shown: bool, **options: Any) -> tqdm[Any]:
    """Return a bar of `total` units, which does nothing unless it is `shown`; `options` are those of `tqdm`."""
    return _bars(shown)(total=total, unit=unit, desc=description, disable=not shown, **options)
