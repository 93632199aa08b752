"""Bars on standard error that show how far a run is; where that is no terminal, lines."""

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
    """Return the classes of bars for a terminal, for a log and for nobody."""
    from tqdm import tqdm  # not with the package, whose import it would slow down

    class Hidden(tqdm):  # type: ignore[type-arg]
        """A bar without the thread and the lock between processes, which take as long as a hundred steps to make."""

        monitor_interval = 0

    class Lines(Hidden):
        """A bar that is a line every `LINE_EVERY` seconds, and a last one where it stays after its end."""

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
            # No run ends because its log can't be written, or is more than `write` alone can do.
            with suppress(OSError, ValueError, AttributeError):
                self.fp.write(f"{self}\n")
                self.fp.flush()

    Hidden.set_lock(threading.RLock())
    return tqdm, Lines, Hidden


def progress_bar(total: int, unit: str, description: str, *, shown: bool, **options: Any) -> tqdm[Any]:
    """Return a bar of `total` units, which does nothing unless it is `shown`; `options` are those of `tqdm`.

    It is redrawn in a terminal or a notebook. Elsewhere, as in the file of a log, it is a line now and then.
    """
    bars, lines, hidden = _kinds()
    file = options.get("file", sys.stderr)  # None where it was closed
    if not shown or file is None:
        return hidden(total=total, unit=unit, desc=description, disable=True, **options)
    terminal = hasattr(file, "isatty") and file.isatty()
    if not terminal and "ipykernel" not in sys.modules:  # notebooks redraw, too
        form = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        return lines(total=total, unit=unit, desc=description, bar_format=form, **options)
    return bars(total=total, unit=unit, desc=description, **options)
