"""`fractalops fit DATASET`: learn all images of a data set, with one folder for the results. A run can be resumed."""

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
    """Add the options that are only for data sets."""
    group = parser.add_argument_group(
        "data sets", "Repeat the same command to resume an interrupted run. Use torchrun to share it among processes."
    )
    group.add_argument(
        "--checkpoint-every",
        type=number(math.inf, "be at least 0"),
        metavar="SECONDS",
        help="the time between checkpoints in seconds; a killed run loses at most this much work (default: "
        "%(default)g)",
    )
    group.add_argument(
        "--skip-bad", action="store_true", help="leave out images that can't be used, and list them in bad.csv"
    )
    group.add_argument(
        "--limit", type=integer(1, None), metavar="N", help="learn only the first N images (default: all)"
    )
    group.add_argument(
        "--table", choices=KINDS, help="the format of the table of errors, index.csv or index.parquet (default: csv)"
    )
    group.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="the device to learn on (default: cuda if torch finds a GPU, otherwise cpu)",
    )
    parser.set_defaults(**_DEFAULTS)


def check_unused(arguments: argparse.Namespace) -> None:
    """Raise `InputError` if an option is given that is only for data sets."""
    for name, default in _DEFAULTS.items():
        if getattr(arguments, name) != default:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is only for a data set, got pictures; give one folder or file of images")


def run(arguments: argparse.Namespace, targets: TargetDataset, config: FitConfig) -> int:
    """Learn the data set, or resume the run, and print a summary. Return the exit code."""
    # The run logs its settings; they are printed.
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
        if is_leader():  # all ranks are interrupted
            saved = f"the results so far are saved in {learned.folder}"
            print(f"fractalops fit: interrupted; {visible(saved)}; repeat the command to resume", file=sys.stderr)
        return 128 + learned.signal  # as a shell reports it: 130 for Ctrl-C
    if not arguments.quiet and is_leader():
        _show(learned)
    return 0


class _Printer(logging.Handler):
    """A handler that prints records with `print`, so that a closed pipe raises an error in the program."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage())


def _show(learned: FitRun) -> None:
    errors = learned.minimum_mse  # (S,)
    figures = f"mean {errors.mean():.4f}, median {errors.median():.4f}"
    files = f"{learned.table.name} and contact.png are in {learned.folder}"
    print(f"{len(errors)} images learned, minimum MSE: {figures}; {files}")
