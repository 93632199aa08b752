"""Interruption by signals: SIGINT, which Ctrl-C sends, and SIGTERM. To all code either is a `KeyboardInterrupt`.

While the command line is imported, which takes seconds, a signal ends it without a word: this module, the first that is
imported, sees to it.
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
    """A signal that ends what is under way; `number` tells which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_of(interruption: KeyboardInterrupt) -> int:
    """Return the number of the signal that an interruption came from."""
    return interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT


class Signals:
    """Within it each signal raises `Interrupted`, but for the first `noted` of them: `caught` tells that they came.

    A signal that the process ignores, as one in the background may do, still is ignored. Only the main thread gets
    signals: in others this does nothing.
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
        """Raise `Interrupted` if a signal has come."""
        if self.caught is not None:
            raise Interrupted(self.caught)

    def wait(self, seconds: float) -> None:
        """Sleep. Raises `Interrupted` if a signal has come."""
        time.sleep(seconds)
        self.obey()

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def end_as_worker(worker: int) -> None:
    """Have signals end this process in silence: a worker of a `DataLoader`, which is told of them by its parent, too.

    Else the parent would find it killed, and print so as it ends itself.
    """
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os._exit(0))


def _is_command() -> bool:
    """Return whether this process is `fractalops` or `python -m fractalops`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # until Python has found the module
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") == __package__
    return Path(program).name in (__package__, f"{__package__}.exe")


def _end_silently(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # as a shell reports it


if _is_command() and threading.current_thread() is threading.main_thread():
    for _number in SIGNALS:
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _end_silently)
