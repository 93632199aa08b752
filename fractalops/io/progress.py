"""Progress bars on standard error. If it is not a terminal, lines are printed instead."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_EVERY = 30.0  # seconds


@cache
def _kinds() -> tuple[type[tqdm[Any]], type[tqdm[Any]], type[tqdm[Any]]]:
    """Return the classes of bars for a terminal, for a log file, and for hidden bars."""
    from tqdm import tqdm  # imported here, as it would slow down the import of the package

    class Hidden(tqdm):  # type: ignore[type-arg]
        """A bar without tqdm's thread and lock between processes. Creating these takes as long as a hundred steps."""

        monitor_interval = 0

    class Lines(Hidden):
        """A bar that prints a line every `LINE_EVERY` seconds, and a last one at its end if `leave` is set."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._written_at = time.monotonic()
            super().__init__(*arguments, **options)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if time.monotonic() - self._written_at >= LINE_EVERY:
                self._write_line()

        def close(self) -> None:
            if self.disable:
                return
            if self.leave and self.last_print_t >= self.start_t + (self.delay or 0):
                self._write_line()
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]

        def _write_line(self) -> None:
            self._written_at = time.monotonic()
            # A run must not fail if its log can't be written, or has no `flush`.
            with suppress(OSError, ValueError, AttributeError):
                self.fp.write(f"{self}\n")
                self.fp.flush()

    Hidden.set_lock(threading.RLock())
    return tqdm, Lines, Hidden


def progress_bar(total: int, unit: str, description: str, *, shown: bool, **options: Any) -> tqdm[Any]:
    """Return a progress bar of `total` units, which does nothing unless it is `shown`. `options` are passed to `tqdm`.

    The bar is redrawn in a terminal or a notebook. Elsewhere, as in a log file, it prints a line from time to time.
    """
    bars, lines, hidden = _kinds()
    file = options.get("file", sys.stderr)  # None if it was closed
    if not shown or file is None:
        return hidden(total=total, unit=unit, desc=description, disable=True, **options)
    terminal = hasattr(file, "isatty") and file.isatty()
    if not terminal and "ipykernel" not in sys.modules:  # notebooks can redraw a bar, too
        form = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        return lines(total=total, unit=unit, desc=description, bar_format=form, **options)
    return bars(total=total, unit=unit, desc=description, **options)
