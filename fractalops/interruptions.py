"""Interruption by the signals SIGINT (Ctrl-C) and SIGTERM. Both are raised as a `KeyboardInterrupt`.

The import of the package takes seconds. If this process is the command line, a signal during the import ends it without
a traceback. For this reason the package imports this module first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Exception for a signal that interrupts the program. `number` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_of(interruption: KeyboardInterrupt) -> int:
    """Return the number of the signal that caused an interruption."""
    return interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT


class Signals:
    """Context manager in which signals raise `Interrupted`.

    The first `noted` signals raise nothing; they only set `caught` to the signal's number. A signal that the process
    ignores, as a background process may do, is still ignored. Outside the main thread the context manager does nothing,
    because only the main thread gets signals.
    """

    def __init__(self, *, noted: float = 0) -> None:
        self.caught: int | None = None
        self._noted = noted
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._catch) or signal.SIG_DFL
        return self

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._noted -= 1
        if self._noted < 0:
            raise Interrupted(number)

    def obey(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self.caught is not None:
            raise Interrupted(self.caught)

    def wait(self, seconds: float) -> None:
        """Sleep for a number of seconds; then raise `Interrupted` if a signal has arrived."""
        time.sleep(seconds)
        self.obey()

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def end_as_worker(worker: int) -> None:
    """Make signals end this process, a worker of a `DataLoader`, with exit code 0 and without output.

    A worker that a signal killed would make its parent print an error, although the same signal ends the parent.
    """
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os._exit(0))


def _is_command() -> bool:
    """Return whether this process is `fractalops` or `python -m fractalops`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # Python has not found the module yet
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") == __package__
    return Path(program).name in (__package__, f"{__package__}.exe")


def _end_silently(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # the exit code that a shell reports for a signal


if _is_command() and threading.current_thread() is threading.main_thread():
    for _number in SIGNALS:
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _end_silently)
