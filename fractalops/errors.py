"""Exceptions of the package, and the form in which messages show text from files."""

from __future__ import annotations

import re

_LONGEST = 200  # characters of a part of a message; a longer part is shortened
_KEPT = 97  # characters that remain at each end of a shortened part


def visible(text: str) -> str:
    r"""Return `text` with unprintable characters escaped, ESC as \x1b, so that it can't send commands to a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def in_message(text: str) -> str:
    """Return `text` in the form in which a message shows it: escaped by `visible`, and shortened.

    Parts are separated by ": " or "; ". A part of more than 200 characters loses its middle.
    """
    # The inner `_cut` bounds the time: escaping a million characters takes a second.
    return "".join(_cut(visible(_cut(part))) for part in re.split("([:;] )", text))


def _cut(part: str) -> str:
    return part if len(part) <= _LONGEST else f"{part[:_KEPT]} ... {part[-_KEPT:]}"


class InputError(ValueError):
    """Exception for a file or an option that can't be used.

    The message is one line. It names the file or option and says what is wrong. Unprintable characters of file names
    are escaped, and long names are shortened.

    Args:
        message: Text of the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_message(message))


class MissingExtra(ImportError):
    """Exception for an optional dependency that is not installed. The message says how to install it.

    Args:
        function: Name of the function that needs the package.
        package: Name of the package.
        extra: Extra of `fractalops` that installs the package.
    """

    def __init__(self, function: str, package: str, extra: str) -> None:
        super().__init__(function, package, extra)  # pickle passes these to the copy, as for workers of `DataLoader`

    def __str__(self) -> str:
        function, package, extra = self.args
        return f"{function}: needs {package}; install it with: pip install 'fractalops[{extra}]'"


class BackendError(RuntimeError):
    """Exception for a requested backend that can't run. The message says why, and how to fix it."""


class RankError(RuntimeError):
    """Exception for a run of several processes (ranks) that can't start. The message says why."""
