"""`fractalops info`: what is built, what can run here, and how to get the rest."""

from __future__ import annotations

import argparse

from fractalops import backends
from fractalops.cli.options import Commands
from fractalops.fitting.native_steps import describe_loop


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("info", help="show what is built, what can run here and which backend is chosen")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    print(backends.report())
    print(f"\n{describe_loop()}")
    return 0
