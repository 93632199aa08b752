"""`python -m bench`: run `fractalops bench`, or a tool that needs a clone of the repository."""

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
    """Run a tool or `fractalops bench`, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tool = TOOLS.get(arguments[0]) if arguments else None
    return tool(arguments[1:]) if tool else command_line(["bench", *arguments])


if __name__ == "__main__":
    raise SystemExit(main())
