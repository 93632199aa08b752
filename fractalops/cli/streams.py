"""The standard streams of the command line. Closed streams are replaced, and control characters are escaped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from fractalops.errors import visible


def open_streams() -> None:
    """Replace closed streams by the null device. Otherwise the next open file would get the descriptor of a stream."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


@contextmanager
def visible_output() -> Iterator[None]:
    """Escape control characters in everything that is printed within the block, see `visible`.

    The names of files and systems may contain such characters.
    """
    with redirect_stdout(cast(TextIO, _Visible(sys.stdout))):
        yield


class _Visible:
    """A stream that escapes control characters, except line breaks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write("\n".join(map(visible, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
