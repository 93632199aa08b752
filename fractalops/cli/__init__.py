"""The command line: `fractalops COMMAND` or `python -m fractalops COMMAND`. Each command has its own module."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from fractalops.backends import installed_version
from fractalops.cli import bench, convert, experiment, fit, fit_points, info, morph, random, render, systems, view
from fractalops.cli.options import INTERRUPTED, UNUSABLE, Parser, add_memory_limit, in_options
from fractalops.cli.streams import open_streams, visible_output
from fractalops.errors import BackendError, InputError, MissingExtra, RankError, in_message
from fractalops.fitting.ranks import is_leader
from fractalops.interruptions import Signals
from fractalops.io.memory import limited_memory

_READING = ("fit", "fit-points", "render", "view", "morph", "convert", "experiment")  # commands that read files
_APART = 1  # the exit code if the processes of a run can't start it together
_BROKEN_PIPE = 141  # the exit code that a shell reports for a program ended by SIGPIPE
# How the text of torch's RuntimeError describes a failed allocation.
_REQUESTED = re.compile(r"to allocate ([\d.]+ \w+)")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The exit codes are:

    - 0: the command has succeeded.
    - 1: the processes of a run could not start it together.
    - 2: a file or an option can't be used, or the options need more memory than there is.
    - 130, 143: the command was interrupted by Ctrl-C or SIGTERM.
    - 141: the reader of the output has closed it, as `head` does. The command ends silently, as Unix tools do.

    Output to a stream that was already closed at the start is discarded.

    Args:
        argv: the arguments without the program's name; None takes those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: for --help and --version (0), and for an unknown or wrong option (2), as usual with argparse.
    """
    open_streams()
    signals = Signals()
    try:
        with signals, visible_output():
            try:
                code = _run(argv)
            finally:
                sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # otherwise Python reports an error when it flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:  # before a command has started, or a second one while it ends
        code = INTERRUPTED
    return 128 + signals.caught if code == INTERRUPTED and signals.caught is not None else code


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="fractalops",
        description="Learn iterated function systems (fractals) for images by gradient descent, and draw them.",
        epilog="Run 'fractalops COMMAND --help' for the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"fractalops {installed_version()}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in (fit, fit_points, render, view, morph, convert, random, systems, experiment, bench, info):
        command.add_parser(commands)
    for name in _READING:
        add_memory_limit(commands.choices[name])
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # an error of the command, so that its message names the command's help
        commands.choices.get(arguments.command, parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        with limited_memory(getattr(arguments, "memory_limit", None)):
            code: int = arguments.run(arguments)
            return code
    except (InputError, MissingExtra, BackendError) as error:
        return _fail(arguments.command, str(error), UNUSABLE)
    except RankError as error:
        return _fail(arguments.command, str(error), _APART)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(arguments.command, f"{where}{error.strerror or error}", UNUSABLE)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        requested = _REQUESTED.search(str(error))
        size = f": {requested[1]} could not be allocated" if requested else ""
        return _fail(arguments.command, f"there is not enough memory for these options{size}", UNUSABLE)
    except KeyboardInterrupt:
        return _fail(arguments.command, "interrupted", INTERRUPTED)


def _fail(command: str, message: str, code: int) -> int:
    # Each rank prints its own errors, as an error of one machine is raised only in the ranks of that machine.
    rank = "" if is_leader() else f"rank {os.environ['RANK']}: "
    print(f"fractalops {command}: {rank}{in_message(in_options(' '.join(message.split())))}", file=sys.stderr)
    return code
