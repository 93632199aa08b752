"""`fractalops experiment NAME`: the paper's experiments."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from fractalops.cli.options import Commands, add_seed, check_backend
from fractalops.cli.settings import add_settings, configure


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("experiment", help="run an experiment of the paper; without a name, list them")
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="see the list")
    parser.add_argument("--preset", default="small", help="small: minutes on two cores; paper: full size, for a GPU")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="has MNIST, FashionMNIST, KMNIST as torchvision lays them"
    )
    parser.add_argument("--download", action="store_true", help="have torchvision bring what DIR lacks of them")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="gets settings, metrics and pictures (default: runs/NAME)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    add_seed(parser)
    add_settings(parser)
    parser.add_argument("--overwrite", action="store_true", help="discard an earlier run in the folder")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the table")


def run(arguments: argparse.Namespace) -> int:
    """List the experiments, or run one and print its table and findings."""
    from fractalops import experiments

    if arguments.name is None:
        for name, experiment in experiments.EXPERIMENTS.items():
            print(f"{name:<18}{experiment.SUMMARY}")
        return 0
    settings = experiments.preset(arguments.name, arguments.preset)
    check_backend()
    settings = configure(partial(replace, settings), type(settings), arguments, ["seed"])
    folder = arguments.output or Path("runs") / arguments.name
    outcome = experiments.run(
        arguments.name,
        folder,
        settings,
        data=arguments.data,
        device=arguments.device,
        progress=not arguments.quiet,
        overwrite=arguments.overwrite,
        download=arguments.download,
    )
    print(outcome)
    if not arguments.quiet:
        print(f"{folder} has the table, the metrics and the pictures")
    return 0
