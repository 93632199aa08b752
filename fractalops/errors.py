"""Errors that a caller may want to tell apart, and what their messages show of files."""

from __future__ import annotations

import re

_LONGEST = 200  # characters of a part of a message
_KEPT = 97  # at either end of a longer one


def visible(text: str) -> str:
    r"""Return text with what isn't printable as backslash escapes, ESC as \x1b: no character of it moves a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def in_message(text: str) -> str:
    """Return text as a message shows it: `visible`, and parts (a name, a reason) of at most 200 characters.

    A longer one is cut in its middle.
    """
    # Before, too: to escape a million characters takes a second.
    return "".join(_cut(visible(_cut(part))) for part in re.split("([:;] )", text))


def _cut(part: str) -> str:
    return part if len(part) <= _LONGEST else f"{part[:_KEPT]} ... {part[-_KEPT:]}"


class InputError(ValueError):
    """A user's file or option can't be used; the message is one line that says what is wrong with which.

    What it shows of a file, its name above all, is made visible, see `in_message`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_message(message))


class MissingExtra(ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, function: str, package: str, extra: str) -> None:
        super().__init__(function, package, extra)  # with which copies are made, as by a worker of a `DataLoader`

    def __str__(self) -> str:
        function, package, extra = self.args
        return f"{function}: needs {package}; install it with: pip install 'fractalops[{extra}]'"


class BackendError(RuntimeError):
    """The requested backend can't run here; the message says why, and how to fix it."""


class RankError(RuntimeError):
    """The processes that share a run can't begin it together; the message says why."""
