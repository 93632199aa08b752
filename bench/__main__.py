"""`python -m bench`: what `fractalops bench` does; and, with the name of a tool, what needs the source beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fractalops.cli import main as command_line

from . import instructions, readme
from .cuda_timing import find_gpu
from .estimate import estimates, report
from .sweep import print_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of a tool, or of `fractalops bench`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tool = TOOLS.get(arguments[0]) if arguments else None
    return tool(arguments[1:]) if tool else command_line(["bench", *arguments])


def estimate(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench estimate",
        description="The least time of the GPU ops and of a step of fit on named cards, by arithmetic.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    file = parser.parse_args(argv).json
    found = estimates()
    print(report(found, *find_gpu(rounds=5)))
    if file:
        file.write_text(json.dumps([each.figures() for each in found], indent=2) + "\n")
    return 0


def sweep(argv: Sequence[str]) -> int:
    argparse.ArgumentParser(
        prog="python -m bench sweep", description="The rasterizer's block sizes, tried on the GPU that is here."
    ).parse_args(argv)
    return print_sweep(*find_gpu(rounds=3))


TOOLS: dict[str, Callable[[Sequence[str]], int]] = {
    "estimate": estimate,
    "sweep": sweep,
    "instructions": instructions.main,
    "readme": readme.main,
}


if __name__ == "__main__":
    raise SystemExit(main())
