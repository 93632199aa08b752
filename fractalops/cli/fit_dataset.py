"""`fractalops fit DATASET`: learn all images of a data set into one folder, through interruptions."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from contextlib import nullcontext

from fractalops.cli.options import integer, number
from fractalops.data.targets import TargetDataset
from fractalops.errors import InputError, visible
from fractalops.fitting import FitConfig, FitRun, fit_dataset, runs
from fractalops.fitting.ranks import is_leader
from fractalops.fitting.run_table import KINDS
from fractalops.fitting.runs import CHECKPOINT_EVERY
from fractalops.io.notices import records_sent

_DEFAULTS = {"checkpoint_every": CHECKPOINT_EVERY, "skip_bad": False, "limit": None, "table": "csv", "device": None}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only data sets have."""
    group = parser.add_argument_group(
        "data sets", "A run that was interrupted goes on when the same command is given again; torchrun shares it out."
    )
    group.add_argument(
        "--checkpoint-every",
        type=number(math.inf, "be at least 0"),
        metavar="SECONDS",
        help="the most that an interruption loses (default: %(default)g)",
    )
    group.add_argument(
        "--skip-bad", action="store_true", help="leave out images that can't be used; bad.csv lists them"
    )
    group.add_argument("--limit", type=integer(1, None), metavar="N", help="only the first N images")
    group.add_argument("--table", choices=KINDS, help="the table of errors: index.csv or index.parquet (default: csv)")
    group.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda where torch finds a GPU)")
    parser.set_defaults(**_DEFAULTS)


def check_unused(arguments: argparse.Namespace) -> None:
    """Raise `InputError` for an option that data sets alone have: pictures are learned without it."""
    for name, default in _DEFAULTS.items():
        if getattr(arguments, name) != default:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is for data sets: name one folder or file of images, and not pictures")


def run(arguments: argparse.Namespace, targets: TargetDataset, config: FitConfig) -> int:
    """Learn the data set, or go on with it, and say how good it became and where everything is."""
    # What the run logs of its settings is printed.
    with nullcontext() if arguments.quiet else records_sent(logging.getLogger(runs.__name__), _Printer()):
        learned = fit_dataset(
            targets,
            arguments.output,
            config,
            skip_bad=arguments.skip_bad,
            overwrite=arguments.overwrite,
            progress=not arguments.quiet,
            checkpoint_every=arguments.checkpoint_every,
            table=arguments.table,
            device=arguments.device,
        )
    if learned.signal is not None:
        if is_leader():  # an interruption reaches all ranks
            kept = f"what was learned so far is in {learned.folder}"
            print(f"fractalops fit: interrupted; {visible(kept)}: the same command goes on there", file=sys.stderr)
        return 128 + learned.signal  # as a shell reports it: 130 for Ctrl-C
    if not arguments.quiet and is_leader():
        _show(learned)
    return 0


class _Printer(logging.Handler):
    """Prints records as `print` does: a closed pipe is an error of the program, not one to be logged."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage())


def _show(learned: FitRun) -> None:
    errors = learned.minimum_mse  # (S,)
    figures = f"mean {errors.mean():.4f}, median {errors.median():.4f}"
    files = f"{learned.folder} has {learned.table.name} and contact.png"
    print(f"{len(errors)} images learned, minimum MSE: {figures}; {files}")
