"""`fractalops experiment NAME`: run an experiment of the paper."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from fractalops.cli.options import Commands, add_seed, check_backend
from fractalops.cli.settings import add_settings, configure


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "experiment",
        help="run an experiment of the paper, or list the experiments",
        description="Run an experiment of the paper, and print its table and findings. Without a NAME, list the "
        "experiments.",
        epilog="Example: fractalops experiment reconstruct --data data --download",
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment to run (default: list them)")
    parser.add_argument(
        "--preset",
        default="small",
        help="small takes minutes on two cores; paper is the full size, for a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the folder of the data sets MNIST, FashionMNIST and KMNIST, in the layout of torchvision (default: none, "
        "which leaves them out)",
    )
    parser.add_argument(
        "--download", action="store_true", help="use torchvision to download the data sets that are not in DIR"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="the folder for settings, metrics and pictures (default: runs/NAME)",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="the device to run on (default: %(default)s)"
    )
    add_seed(parser)
    add_settings(parser, "the experiment")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
    parser.add_argument("--quiet", action="store_true", help="print only the table and the findings")


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
        print(f"table, metrics and pictures are in {folder}")
    return 0
