"""Tests of a full disk: the error is one line, no existing file changes or breaks, and runs can be resumed.

A limit on the size of files (as set by `ulimit -f`) replaces the full disk; test_small_disks.py mounts small disks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
import torch

from fractalops import IFS
from fractalops.io import write_systems
from tests.support.command_line import QUICK, draw, run
from tests.support.runs import contents

resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Limit files to `size` bytes within the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "many/1.png", "many/2.png"):
        draw(tmp_path / name)
    numpy.save("cloud.npy", numpy.random.default_rng(0).random((50, 3)))
    write_systems("two.npz", IFS(2, 3, generator=torch.Generator().manual_seed(0)))
    return tmp_path


def everything(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


ONE_FILE = {
    "render two.npz -o {} --size 64": ["new.png", "new.tif", "new.jpg"],
    "render two.npz -o {} --system 0 --size 64 --animate build --frames 3": ["new.gif", "new.webp"],
    "morph two.npz two.npz -o {} --first 0 --last 1 --size 64 --frames 3": ["new.gif"],
    "view two.npz --system 0 -o {}": ["new.html"],
    "random --systems 2 --size 32 --points 500 -o {}": ["new.png"],
    "systems fern --size 64 -o {}": ["new.png"],
    "convert two.npz {} --system 0": [f"new.{suffix}" for suffix in ("ifs", "flame", "csv", "npy", "npz", "json")],
    "convert two.npz {}": ["new.safetensors"],
}


@pytest.mark.parametrize(("command", "name"), [(each, name) for each, names in ONE_FILE.items() for name in names])
def test_one_file(command: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = command.format(name).split()
    before = everything(place)
    with limited(40):
        assert run(*argv) == 2
    assert capsys.readouterr() == ("", f"fractalops {argv[0]}: {name}: File too large\n")
    assert everything(place) == before
    assert run(*argv) == 0
    before = everything(place)
    capsys.readouterr()
    with limited(len(before[str(place / name)]) - 1):  # the last byte doesn't fit
        assert run(*argv, "--overwrite") == 2
    assert capsys.readouterr().err.startswith(f"fractalops {argv[0]}: {name}: ")
    assert everything(place) == before


LEARN = {
    "a picture": "fit a.png -o out --quiet --no-animation",
    "a cloud": "fit-points cloud.npy -o out --quiet --no-animation --steps 2 --points 9 --maps 3",
}


@pytest.mark.parametrize("kind", LEARN)
def test_what_was_learned_before_stays_until_it_is_replaced(
    kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*LEARN[kind].split(), "--overwrite", *(QUICK if kind == "a picture" else [])]
    assert run(*argv) == 0
    before = everything(place)
    for size in (0, 100, 4000):
        with limited(size):
            assert run(*argv, "--seed", 1) == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith(f"fractalops {argv[0]}: out/")
        assert last.endswith(": File too large")
        left = everything(place)
        if size < 1000:  # not even the system could be written
            assert left == before
        assert not [name for name in left if "/." in name]
    assert run(*argv) == 0
    assert everything(place).keys() == before.keys()


RUNS = {
    "a data set": ["fit", "many", "-o", "out", "--quiet", "--set", "batch_size=1", *QUICK],
    "an experiment": ["experiment", "pretrain", "-o", "out", "--quiet", "--set", "classes=2", "--set", "size=16"],
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_goes_on(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*RUNS[kind], *(["--set", "instances=3", "--set", "shard=3"] if kind == "an experiment" else [])]
    assert run(*argv) == 0
    timed = {"metrics.json", "metrics.csv", "table.csv", "table.md"}  # contain running times
    expected = {name: content for name, content in contents(place / "out").items() if name not in timed}
    (place / "out").rename(place / "whole")
    capsys.readouterr()
    for size in (0, 1000, 2500, 4000):
        with limited(size):
            code = run(*argv)
        error = capsys.readouterr().err
        if code:
            assert error.startswith(f"fractalops {argv[0]}: out")
            assert error.endswith(": File too large\n")
    assert run(*argv) == 0
    assert {name: content for name, content in contents(place / "out").items() if name not in timed} == expected
