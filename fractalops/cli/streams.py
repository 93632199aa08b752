"""The standard streams of the command line: there even where they were closed, and nothing in them moves a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from fractalops.errors import visible


def open_streams() -> None:
    """Have closed streams lead nowhere: else the next file that is opened would take the place of one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


@contextmanager
def visible_output() -> Iterator[None]:
    """Yield escape what names of files and systems may hold in all that is printed within the block, see `visible`."""
    with redirect_stdout(cast(TextIO, _Visible(sys.stdout))):
        yield


class _Visible:
    """A stream to which text is written in a visible form, line by line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write("\n".join(map(visible, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
