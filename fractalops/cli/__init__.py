"""The command line: `fractalops COMMAND` or `python -m fractalops COMMAND`, one module a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fractalops.backends import installed_version
from fractalops.cli import bench, experiment, fit, fit_points, info, random, render
from fractalops.cli.options import INTERRUPTED, UNUSABLE, Parser, in_options
from fractalops.errors import BackendError, InputError, MissingExtra

# How an allocation that failed shows in the text of torch's RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 a file or option can't be used, 130 interrupted.

    What needs more memory than there is counts as an option that can't be used.

    As usual with argparse, an unknown or wrong option, --help and --version leave by `SystemExit` (2, 0, 0).
    """
    parser = Parser(prog="fractalops", description="Learn iterated function systems for images, and draw them.")
    parser.add_argument("--version", action="version", version=f"fractalops {installed_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (fit, fit_points, render, random, experiment, bench, info):
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        return code
    except (InputError, MissingExtra, BackendError) as error:
        return _fail(arguments.command, str(error), UNUSABLE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(arguments.command, f"{where}{error.strerror or error}", UNUSABLE)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        return _fail(arguments.command, "there is not enough memory for what the options ask for", UNUSABLE)
    except KeyboardInterrupt:
        return _fail(arguments.command, "interrupted", INTERRUPTED)


def _fail(command: str, message: str, code: int) -> int:
    print(f"fractalops {command}: {in_options(' '.join(message.split()))}", file=sys.stderr)
    return code
