"""Tests on limited machines: few open files allowed, or no home directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ENVIRONMENT, QUICK, draw, run


@pytest.mark.parametrize("kind", ["pictures", "folder", "workers"])
def test_few_files_may_be_open(kind: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX limits the number of files")
    if not Path("/dev/fd").is_dir():
        pytest.skip("this system doesn't tell which files are open")
    pictures = [draw(tmp_path / "many" / f"{number}.png") for number in range(60)]
    fit = ["-o", tmp_path / "out", "--quiet", "--no-animation", *QUICK]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 20, before[1]))
    try:
        if kind == "pictures":
            assert run("fit", *pictures[:3], *fit, "--set", "batch_size=2") == 0
        elif kind == "folder":
            assert run("fit", tmp_path / "many", *fit, "--set", "batch_size=2") == 0
        else:
            settings = ["classes=2", "instances=20", "size=8", "workers=2", "density=0.05"]
            options = [part for each in settings for part in ("--set", each)]
            assert run("experiment", "pretrain", "-o", tmp_path / "out", "--quiet", *options) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_without_a_home(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    environment = {name: text for name, text in ENVIRONMENT.items() if name != "MPLCONFIGDIR"}
    command = [sys.executable, "-m", "fractalops", "fit", "a.png", "-o", "out", "--quiet", *QUICK]
    done = subprocess.run(command, cwd=tmp_path, env=environment | {"HOME": "/dev/null/none"}, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
