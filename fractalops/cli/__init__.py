"""The command line: `fractalops COMMAND` or `python -m fractalops COMMAND`, one module a command."""

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
_APART = 1  # where the processes that share a run can't begin it together
_BROKEN_PIPE = 141  # what a shell reports of a program ended by SIGPIPE
# How an allocation that failed shows in the text of torch's RuntimeError.
_ASKED_FOR = re.compile(r"to allocate ([\d.]+ \w+)")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 is done, 1 processes that don't find each other, 2 a file or option that can't be used, 130 an interruption by
    Ctrl-C, 143 by SIGTERM.

    What needs more memory than there is counts as an option that can't be used. Where whoever reads the output has
    closed it, as `head` does, the command ends silently with 141, as Unix tools do; a stream that was closed from the
    beginning takes what is written to it nowhere.

    As usual with argparse, an unknown or wrong option, --help and --version leave by `SystemExit` (2, 0, 0).
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
        with suppress(OSError, ValueError):  # else Python would complain as it flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:  # before a command has begun, or one more as it ends
        code = INTERRUPTED
    return 128 + signals.caught if code == INTERRUPTED and signals.caught is not None else code


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="fractalops", description="Learn iterated function systems for images, and draw them.")
    parser.add_argument("--version", action="version", version=f"fractalops {installed_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in (fit, fit_points, render, view, morph, convert, random, systems, experiment, bench, info):
        command.add_parser(commands)
    for name in _READING:
        add_memory_limit(commands.choices[name])
    arguments = parser.parse_args(argv)
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
        asked = _ASKED_FOR.search(str(error))
        size = f": {asked[1]} can't be had" if asked else ""
        return _fail(arguments.command, f"there is not enough memory for what the options ask for{size}", UNUSABLE)
    except KeyboardInterrupt:
        return _fail(arguments.command, "interrupted", INTERRUPTED)


def _fail(command: str, message: str, code: int) -> int:
    # Ranks refuse alike what they all see, and alone what is wrong with their machine.
    rank = "" if is_leader() else f"rank {os.environ['RANK']}: "
    print(f"fractalops {command}: {rank}{in_message(in_options(' '.join(message.split())))}", file=sys.stderr)
    return code
