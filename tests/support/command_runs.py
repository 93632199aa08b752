"""Every kind of command that writes. Each runs in its own process, which can be killed or run out of space."""

from __future__ import annotations

import csv
import importlib
import json
import multiprocessing
import os
import re
import resource
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from PIL import Image, ImageSequence
from safetensors import safe_open

from fractalops.cli import main
from fractalops.io import write_systems
from fractalops.io.files import LOCK, TEMPORARY
from tests.support.command_line import draw
from tests.support.experiment_data import TINY_OPTIONS
from tests.support.system_files import random_system
from tests.support.watching import changed

_TINY = ("--maps", "3", "--points", "20", "--steps", "3")
_FIT = (*_TINY, "--sequences", "2", "--size", "8", "--quiet")
_PICTURE = ("--size", "16", "--points", "500")
_PRETRAIN = {"classes": 3, "instances": 4, "size": 8, "points": 200, "shard": 5, "density": 0.0}


@dataclass(frozen=True)
class Kind:
    """A kind of command. It runs in the folder of the inputs and gets its output path."""

    arguments: tuple[str, ...]
    output: str
    """The name of its output: a folder if it has no suffix."""
    goes_on: bool = False
    """If True, the same command resumes an interrupted run and writes the same bytes."""


KINDS = {
    "fit IMAGE": Kind(("fit", "a.png", *_FIT), "fitted"),
    "fit DIR": Kind(
        ("fit", "pictures", *_FIT, "--set", "batch_size=1", "--checkpoint-every", "0"), "fitted", goes_on=True
    ),
    "fit-points": Kind(("fit-points", "cloud.npy", *_TINY, "--quiet", "--no-animation"), "fitted"),
    "experiment": Kind(
        ("experiment", "reconstruct", "--set", "data=fractaldb", *TINY_OPTIONS, "--quiet"), "run", goes_on=True
    ),
    "experiment pretrain": Kind(
        (
            *("experiment", "pretrain", "--quiet"),
            *(part for name, value in _PRETRAIN.items() for part in ("--set", f"{name}={value}")),
        ),
        "run",
        goes_on=True,
    ),
    "random": Kind(("random", "--systems", "4", "--maps", "2", *_PICTURE), "random.png"),
    "render": Kind(("render", "a.json", *_PICTURE), "picture.png"),
    "render --animate": Kind(("render", "a.json", "--animate", "build", "--frames", "4", *_PICTURE), "film.gif"),
    "morph": Kind(("morph", "a.json", "b.json", "--frames", "4", *_PICTURE), "film.gif"),
    "convert": Kind(("convert", "a.json"), "b.npz"),
    "convert to a folder": Kind(("convert", "many.json"), "tables"),
    "view": Kind(("view", "a.json"), "page.html"),
}


def write_inputs(folder: Path) -> None:
    """Write the files that the commands read."""
    draw(folder / "a.png")
    for number in range(3):
        draw(folder / "pictures" / f"{number}.png", (8 + number, 8))
    numpy.save(folder / "cloud.npy", numpy.random.default_rng(0).random((60, 3)))
    write_systems(folder / "a.json", random_system(3, name="a"))
    write_systems(folder / "b.json", random_system(3, name="b", seed=1))
    write_systems(folder / "many.json", [random_system(2, name=f"s{n}", seed=n) for n in range(20)])


class Ending(NamedTuple):
    """The exit code, the errors and the duration of a command."""

    code: int
    """Exit code, negative for a signal."""
    error: str
    """Text printed to standard error."""
    seconds: float


# Modules that a process imports before it runs the command: Matplotlib creates folders when it is imported.
_IMPORTED = ("matplotlib.pyplot", "fractalops.experiments.pretrain")


def _run(arguments: list[str], folder: str, errors: Connection, most: int | None, within: Path | None) -> None:
    for module in _IMPORTED:
        importlib.import_module(module)
    os.chdir(folder)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    if within is not None:
        sys.addaudithook(partial(_report_changes, within))
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report_changes(within: Path, event: str, arguments: tuple[Any, ...]) -> None:
    """Print the names of changed files, except `within`, files in it, and temporary files beside it."""
    for place in changed(event, arguments):
        path = Path(os.path.abspath(os.fsdecode(place)))
        beside = path.parent == within.parent and fnmatchcase(path.name, f"{TEMPORARY}*")
        if not (path.is_relative_to(within) or beside or str(path) == os.devnull):
            os.write(2, f"{event} {path}\n".encode())


def run_command(
    kind: Kind,
    inputs: Path,
    output: Path,
    *options: str,
    kill_after: float | None = None,
    most: int | None = None,
    report: bool = False,
) -> Ending:
    """Run a command.

    Args:
        kill_after: Kill the command after so many seconds.
        most: Limit of a file's size in bytes.
        report: Add changes outside the output to the printed text.
    """
    place = (str(output),) if kind.arguments[0] == "convert" else ("--output", str(output))
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)  # for the process's output, which fits into the pipe
    within = output if report else None
    process = context.Process(
        target=_run, args=([*kind.arguments, *place, *options], str(inputs), sender, most, within)
    )
    began = time.perf_counter()
    process.start()
    sender.close()
    process.join(kill_after)
    if kill_after is not None:
        process.kill()
    process.join(60)
    seconds = time.perf_counter() - began
    with open(receiver.fileno(), closefd=False, errors="replace") as file:
        return Ending(process.exitcode, file.read(), seconds)


def rerun_options(output: Path, kind: Kind) -> list[str]:
    """Return the options with which the same command overwrites its output; none if it resumes."""
    return ["--overwrite"] if output.exists() and not kind.goes_on else []


# Checks that files are complete


def written(output: Path) -> dict[str, Path]:
    """Return the files of a command's output, except locks and remains of interrupted writes."""
    paths = [output] if output.is_file() else sorted(output.rglob("*"))
    left_out = (f"{TEMPORARY}*", LOCK, ".*.lock")
    return {
        path.relative_to(output.parent).as_posix(): path
        for path in paths
        if path.is_file()
        and "tensorboard" not in path.parts
        and not any(fnmatchcase(path.name, one) for one in left_out)
    }


def check_whole(path: Path) -> None:
    """Assert that a file is complete."""
    _CHECKS[path.suffix](path)


def _check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        for frame in ImageSequence.Iterator(picture):
            frame.load()
    content = path.read_bytes()
    assert content.endswith(b"IEND\xaeB`\x82" if path.suffix == ".png" else b";")


def _check_tensors(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            file.get_tensor(name)


def _check_archive(path: Path) -> None:
    with numpy.load(path) as arrays:
        for name in arrays:
            assert arrays[name].size


def _check_tar(path: Path) -> None:
    with tarfile.open(path) as archive:
        assert archive.getmembers()
    assert path.read_bytes().endswith(bytes(1024))


def _check_table(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("\n")
    assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


def _check_cloud(path: Path) -> None:
    head, _, rows = path.read_text().partition("end_header\n")
    found = re.search(r"element vertex (\d+)", head)
    assert found is not None
    assert rows.endswith("\n")
    assert rows.count("\n") == int(found[1])


def _ends_with(end: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_text().rstrip().endswith(end)

    return check


_CHECKS: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys((".png", ".gif"), _check_picture),
    ".safetensors": _check_tensors,
    ".npz": _check_archive,
    ".tar": _check_tar,
    ".csv": _check_table,
    ".ply": _check_cloud,
    ".json": lambda path: json.loads(path.read_text()),
    ".html": _ends_with("</html>"),
    ".md": _ends_with("|"),
    ".txt": lambda path: float(path.read_text()),
}


def comparable(output: Path) -> dict[str, bytes]:
    """Return the contents of all files, except those that contain durations."""
    found = {}
    for name, path in written(output).items():
        if path.suffix in (".md", ".txt") or path.name in ("fit.json", "metrics.json", "metrics.csv", "table.csv"):
            continue
        content = path.read_bytes()
        if path.name == "config.json":  # it lists TensorBoard's files, whose names contain the time
            content = re.sub(rb'\n *"tensorboard/.*', b"", content).replace(b",\n  ]", b"\n  ]")
        if path.name == "index.csv":
            content = re.sub(rb",[^,\n]*\n", b"\n", content)
        if path.suffix == ".safetensors" and path.parent.name != "systems":  # the bytes of systems are guaranteed
            content = _without_times(path)
        found[name] = content
    return found


def _without_times(path: Path) -> bytes:
    """Return a file's tensors and metadata, without times and the checksum that depends on them."""
    with safe_open(path, framework="numpy") as file:
        metadata = {name: text for name, text in file.metadata().items() if name in ("config", "size", "steps")}
        tensors = b"".join(file.get_tensor(name).tobytes() for name in sorted(file.keys()))
    return json.dumps(metadata, sort_keys=True).encode() + tensors
