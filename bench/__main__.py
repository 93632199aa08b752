"""`python -m bench`: run `fractalops bench`, or a tool that needs a clone of the repository."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from fractalops.cli import main as command_line

TOOLS = {
    "sweep": "bench.sweep",
    "instructions": "bench.instructions",
    "threads": "bench.threads",
    "documents": "bench.documents",
    "gpu": "bench.gpu.session",
}
"""The module of each tool. Only the called one is imported, because `gpu` links the folders that others import."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a tool or `fractalops bench`, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    module = TOOLS.get(arguments[0]) if arguments else None
    return int(import_module(module).main(arguments[1:]) if module else command_line(["bench", *arguments]))


if __name__ == "__main__":
    raise SystemExit(main())
