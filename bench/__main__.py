"""`python -m bench`: what `fractalops bench` does; and, with the name of a tool, what needs the source beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from fractalops.cli import main as command_line

from . import documents, instructions, sweep, threads
from .gpu import session

TOOLS: dict[str, Callable[[Sequence[str]], int]] = {
    "sweep": sweep.main,
    "instructions": instructions.main,
    "threads": threads.main,
    "documents": documents.main,
    "gpu": session.main,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of a tool, or of `fractalops bench`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tool = TOOLS.get(arguments[0]) if arguments else None
    return tool(arguments[1:]) if tool else command_line(["bench", *arguments])


if __name__ == "__main__":
    raise SystemExit(main())
