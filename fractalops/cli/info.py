"""`fractalops info`: show what is built and which backends are used."""

from __future__ import annotations

import argparse

from fractalops import backends
from fractalops.cli.options import Commands
from fractalops.fitting.native_steps import describe_loop


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "info",
        help="show what is built and which backends are used",
        description="Show the versions, what is built, which backend each op uses on this machine, and how to get the "
        "missing ones.",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    print(backends.report())
    print(f"\n{describe_loop()}")
    return 0
